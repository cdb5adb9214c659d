-- Who keeps an account waits in a line with all who keep the same one, apart from each other those who were written to and those who are
-- new in this round; all others stand in one of their own. Planning reads past lines whose account has no slot left, however long they
-- are. The condition says `active` in other words: without statistics PostgreSQL may take `campaign_leads_due` for one line, and read all
-- of them. Only adds.
CREATE INDEX campaign_leads_line ON campaign_leads
    (campaign_id, COALESCE(email_account_id, {nil}), (CASE WHEN highest_sent_step > 0 THEN 1 ELSE 0 END), due_at, id)
    WHERE status NOT IN ('completed', 'stopped') AND due_at IS NOT NULL;
