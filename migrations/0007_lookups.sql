-- Sends of an enrollment; and indexes of closed sends that hold no column which changes before the result, so that the
-- dot intent stays a HOT update on PostgreSQL.
CREATE INDEX sends_enrollment ON sends (enrollment_id);
DROP INDEX sends_campaign_status;
CREATE INDEX sends_closed_campaign ON sends (campaign_id) WHERE NOT open;
DROP INDEX sends_soft_bounce;
CREATE INDEX sends_closed_lead ON sends (lead_id, settled_at) WHERE NOT open;

-- A tenant's look-up by address: under row-level security PostgreSQL cannot use an index on `lower(email)`, which is not
-- leakproof.
ALTER TABLE leads ADD COLUMN address text GENERATED ALWAYS AS (lower(email)) {generated};
CREATE INDEX leads_tenant_address ON leads (tenant_id, address);
