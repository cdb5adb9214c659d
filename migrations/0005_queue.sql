-- The embedded queue: hints about sends and tracking events, durable in the same database.
CREATE TABLE queue_jobs (
    id {uuid} PRIMARY KEY,
    list text NOT NULL,
    lane {bigint} NOT NULL,
    payload text NOT NULL,
    priority {bigint} NOT NULL,
    not_before {time} NOT NULL,
    token {bigint} NOT NULL DEFAULT 0,
    owner text,
    lease_until {time},
    expirations {bigint} NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict} {fillfactor 70};
CREATE INDEX queue_jobs_due ON queue_jobs (list, lane, not_before, id) WHERE owner IS NULL;
CREATE INDEX queue_jobs_leased ON queue_jobs (list, lease_until) WHERE owner IS NOT NULL;
