-- Lines take in who has a mail under way, so that one index tells which accounts a campaign's leads keep, and whether any of them is
-- still active: one less to write for each lead that is enrolled, and for each that comes due again. And without statistics PostgreSQL may
-- take the narrower one for the due scan, and sort all of the campaign's leads for each page. The others go first: whoever has read by
-- them and is about to write would wait for the new one, and it for him.
DROP INDEX campaign_leads_line;
DROP INDEX campaign_leads_active_account;
CREATE INDEX campaign_leads_lines ON campaign_leads
    (campaign_id, COALESCE(email_account_id, {nil}), (CASE WHEN highest_sent_step > 0 THEN 1 ELSE 0 END), due_at, id)
    WHERE status NOT IN ('completed', 'stopped');
