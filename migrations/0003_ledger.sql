-- The truth about every send, what was tried, and what limits have been used.
-- Nothing indexed changes before a send's result: `open` stands in the partial indexes, not the status.
CREATE TABLE sends (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    lead_id {uuid} NOT NULL REFERENCES leads(id),
    step_id {uuid} NOT NULL REFERENCES campaign_sequence_steps(id),
    enrollment_id {uuid} NOT NULL REFERENCES campaign_leads(id),
    email_account_id {uuid} REFERENCES email_accounts(id),
    step_order {bigint} NOT NULL,
    status text NOT NULL CHECK (status IN
        ('planned', 'queued', 'dot', 'sent', 'bounced', 'failed', 'held', 'cancelled', 'skipped')),
    open {bool} NOT NULL,
    reason text,
    fence {bigint} NOT NULL DEFAULT 0,
    owner text,
    priority {bigint} NOT NULL DEFAULT 100,
    not_before {time} NOT NULL,
    hinted_at {time},
    hinted_epoch {bigint} NOT NULL DEFAULT 0,
    account_day text,
    campaign_day text,
    attempts {bigint} NOT NULL DEFAULT 0,
    max_attempts {bigint},
    unknowns {bigint} NOT NULL DEFAULT 0,
    first_attempt_at {time},
    last_attempt_at {time},
    message_id text,
    reply text,
    settled_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (campaign_id, lead_id, step_id)
) {strict} {fillfactor 50};
CREATE INDEX sends_open ON sends (not_before, id) WHERE open;
CREATE INDEX sends_open_account ON sends (email_account_id) WHERE open;
CREATE INDEX sends_open_lead ON sends (lead_id) WHERE open;
CREATE INDEX sends_campaign_status ON sends (campaign_id, status) WHERE NOT open;
CREATE INDEX sends_open_campaign ON sends (campaign_id) WHERE open;
CREATE INDEX sends_soft_bounce ON sends (lead_id, settled_at) WHERE status = 'bounced';

CREATE TABLE send_attempts (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    send_id {uuid} NOT NULL REFERENCES sends(id),
    fence {bigint} NOT NULL,
    owner text NOT NULL,
    started_at {time} NOT NULL,
    finished_at {time} NOT NULL,
    stage text NOT NULL,
    outcome text NOT NULL,
    code {bigint},
    enhanced text,
    reply text,
    counted {bool} NOT NULL,
    transcript text,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX send_attempts_send ON send_attempts (send_id, started_at);

CREATE TABLE inbox_message_refs (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    email_account_id {uuid} REFERENCES email_accounts(id),
    campaign_id {uuid} REFERENCES campaigns(id),
    lead_id {uuid} REFERENCES leads(id),
    step_id {uuid} REFERENCES campaign_sequence_steps(id),
    parent_message_id text,
    direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    message_type text NOT NULL DEFAULT 'email' CHECK (message_type IN ('email', 'bounce', 'auto_reply')),
    from_email text NOT NULL,
    to_email text NOT NULL,
    subject text,
    message_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('queued', 'sent', 'delivered', 'bounced', 'failed', 'opened', 'replied')),
    processed_at {time},
    content_storage_key text,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (tenant_id, message_id, direction)
) {strict};
CREATE INDEX inbox_message_refs_lead ON inbox_message_refs (lead_id);
CREATE INDEX inbox_message_refs_campaign ON inbox_message_refs (campaign_id, step_id);

CREATE TABLE inbox_message_content (
    storage_key text PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    content_text text,
    content_html text,
    headers {json},
    raw_size_bytes {bigint} NOT NULL,
    content_hash text NOT NULL,
    expires_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

-- Slots per local day: of an account by its own zone, of a campaign by its own.
CREATE TABLE pace_days (
    scope text NOT NULL CHECK (scope IN ('account', 'campaign')),
    scope_id {uuid} NOT NULL,
    day text NOT NULL,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    reserved {bigint} NOT NULL DEFAULT 0,
    used {bigint} NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    PRIMARY KEY (scope, scope_id, day)
) {strict} {fillfactor 50};

-- Who is alive: recovery goes by heartbeats that stand still, never by age alone.
CREATE TABLE workers (
    owner text PRIMARY KEY,
    host text NOT NULL,
    pid {bigint} NOT NULL,
    heartbeat {bigint} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

CREATE TABLE dead_letters (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} REFERENCES tenants(id),
    send_id {uuid} REFERENCES sends(id),
    queue_name text NOT NULL,
    payload text NOT NULL,
    error text NOT NULL,
    failed_at {time} NOT NULL,
    attempt_count {bigint} NOT NULL,
    original_priority {bigint} NOT NULL,
    replayed_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX dead_letters_open ON dead_letters (failed_at, id) WHERE replayed_at IS NULL;
