-- A lead goes through a campaign's sequence more than once: each passage is a round, and a step is sent once in each. A
-- program of before plans by the old uniqueness, and would take a later round's mails for had: it is refused from here on.
-- The new index is made before the old one goes: while it is made, nothing is planned twice.
ALTER TABLE sends ADD COLUMN round bigint NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX sends_round ON sends (campaign_id, lead_id, step_id, round);
ALTER TABLE sends DROP CONSTRAINT sends_campaign_id_lead_id_step_id_key;
-- A send is written for an enrollment whose tenant, campaign and lead it repeats: that row's own references hold them. Each
-- that is looked up again costs a tenth of the insert.
ALTER TABLE sends DROP CONSTRAINT sends_tenant_id_fkey;
ALTER TABLE sends DROP CONSTRAINT sends_campaign_id_fkey;
ALTER TABLE sends DROP CONSTRAINT sends_lead_id_fkey;
ALTER TABLE campaign_leads ADD COLUMN round bigint NOT NULL DEFAULT 1;
ALTER TABLE campaign_leads ADD COLUMN round_began_at timestamptz;
ALTER TABLE campaign_leads ADD COLUMN finished_at timestamptz;
ALTER TABLE campaigns ADD COLUMN rounds_seen_until timestamptz;
