-- What readers did: each event once, and counts that a report can read without walking events.
CREATE TABLE tracking_events (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    step_id {uuid} NOT NULL REFERENCES campaign_sequence_steps(id),
    lead_id {uuid} NOT NULL REFERENCES leads(id),
    type text NOT NULL CHECK (type IN ('open', 'click', 'unsubscribe')),
    url text,
    occurred_at {time} NOT NULL,
    received_at {time} NOT NULL,
    ip text,
    user_agent text,
    method text,
    verdict text NOT NULL CHECK (verdict IN ('human', 'prefetch', 'scanner', 'own')),
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX tracking_events_lead ON tracking_events (campaign_id, lead_id, type);

-- Counts per step, type, verdict and link (empty for opens); `leads` counts each lead once per row.
CREATE TABLE event_counts (
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    step_id {uuid} NOT NULL REFERENCES campaign_sequence_steps(id),
    type text NOT NULL,
    verdict text NOT NULL,
    url text NOT NULL DEFAULT '',
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    events {bigint} NOT NULL,
    leads {bigint} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    PRIMARY KEY (campaign_id, step_id, type, verdict, url)
) {strict};
