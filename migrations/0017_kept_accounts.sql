-- Which accounts a campaign's leads keep is asked with each page of planning, and when an account has room again. Made before
-- the other goes, as in 0015.
CREATE INDEX campaign_leads_active_account ON campaign_leads (campaign_id, email_account_id) WHERE status = 'active';
DROP INDEX campaign_leads_active;
