-- How many messages an hour and a day a tenant sends at most to one provider of mailboxes, over all its campaigns and accounts. Which
-- provider a recipient's domain belongs to is looked up by its MX records, for all tenants at once. What a provider has had is counted
-- from the sends themselves: so whatever ends one gives its room back. Only adds.
ALTER TABLE tenants ADD COLUMN provider_limits {json};
ALTER TABLE sends ADD COLUMN provider text;

CREATE TABLE recipient_domains (
    domain text PRIMARY KEY,
    provider text NOT NULL,
    looked_up_at {time} NOT NULL,
    stale_at {time} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

CREATE INDEX sends_provider_open ON sends (tenant_id, not_before) WHERE provider IS NOT NULL AND open;
CREATE INDEX sends_provider_dot ON sends (tenant_id, last_attempt_at) WHERE provider IS NOT NULL;
