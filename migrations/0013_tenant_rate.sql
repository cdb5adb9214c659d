-- How many messages a second a tenant sends at most, over all its campaigns and accounts; and how far its slots and dots are.
-- The rate stands with the tenant, for people and other programs to set; what changes with every slot has a row of its own.
ALTER TABLE tenants ADD COLUMN max_per_second {float} CHECK (max_per_second > 0);

CREATE TABLE tenant_pace (
    tenant_id {uuid} PRIMARY KEY REFERENCES tenants(id),
    last_slot_at {time},
    window_at {time},
    dots {bigint} NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict} {fillfactor 50};
