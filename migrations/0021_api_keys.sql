-- Keys of the API under /api/v1: each opens one tenant's rows. Of a key only its SHA-256 is kept, and the part of it by which it is
-- found. A name is free again when its key is revoked. Only adds.
CREATE TABLE api_keys (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    name text NOT NULL,
    prefix text NOT NULL UNIQUE,
    hash text NOT NULL,
    last_used_at {time},
    revoked_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX api_keys_name ON api_keys (tenant_id, name) WHERE revoked_at IS NULL;
