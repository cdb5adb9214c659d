-- Who keeps an account waits in that account's line, all others in one of their own: planning reads past the lines of accounts that
-- have no slot left, however long they are. The condition says `active` in other words: without statistics PostgreSQL may take
-- `campaign_leads_due` for one line, and read all of them. Only adds.
CREATE INDEX campaign_leads_line ON campaign_leads
    (campaign_id, COALESCE(CASE WHEN highest_sent_step > 0 THEN email_account_id END, {nil}), due_at, id)
    WHERE status NOT IN ('completed', 'stopped') AND due_at IS NOT NULL;
