-- Which accounts a campaign's leads keep is asked with each page of planning, and when an account has room again.
DROP INDEX campaign_leads_active;
CREATE INDEX campaign_leads_active ON campaign_leads (campaign_id, email_account_id) WHERE status = 'active';
