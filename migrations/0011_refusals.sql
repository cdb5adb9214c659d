-- Too many refusals for policy pause a campaign and an email account: why, and since when results count. Their last results
-- are found by an index each. That of leads serves what ended otherwise than sent alone, so that a sent mail is written
-- to as many indexes as before; no column of any changes at a dot, so that the dot intent stays a HOT update on PostgreSQL.
ALTER TABLE campaigns ADD COLUMN status_reason text;
ALTER TABLE campaigns ADD COLUMN refusals_since {time};
ALTER TABLE email_accounts ADD COLUMN refusals_since {time};
DROP INDEX sends_closed_campaign;
CREATE INDEX sends_closed_campaign ON sends (campaign_id, settled_at) WHERE NOT open;
CREATE INDEX sends_closed_account ON sends (email_account_id, settled_at) WHERE NOT open;
DROP INDEX sends_closed_lead;
CREATE INDEX sends_closed_lead ON sends (lead_id, settled_at) WHERE NOT open AND reason IS NOT NULL;
