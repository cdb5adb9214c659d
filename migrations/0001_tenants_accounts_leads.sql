-- Who sends, from what, and to whom: the tables that other PenguinMails programs fill.
CREATE TABLE tenants (
    id {uuid} PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};

CREATE TABLE companies (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    name text NOT NULL,
    address text NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (tenant_id, name)
) {strict};

CREATE TABLE domains (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    name text NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (tenant_id, name)
) {strict};

CREATE TABLE email_accounts (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    domain_id {uuid} REFERENCES domains(id),
    email text NOT NULL,
    provider text,
    from_name text,
    reply_to text,
    smtp_settings {json} NOT NULL,
    vault_key_path text,
    imap_settings {json},
    last_warmed_at {time},
    daily_count {bigint} NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'paused', 'authentication_failed', 'suspended', 'deleted')),
    status_reason text,
    daily_limit {bigint} CHECK (daily_limit > 0),
    min_gap_seconds {bigint} NOT NULL DEFAULT 0 CHECK (min_gap_seconds >= 0),
    warmup_started_at {time},
    timezone text NOT NULL DEFAULT 'UTC',
    last_slot_at {time},
    last_dot_at {time},
    backoff_until {time},
    backoff_failures {bigint} NOT NULL DEFAULT 0,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX email_accounts_address ON email_accounts (tenant_id, lower(email));

CREATE TABLE templates (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    name text NOT NULL,
    subject text NOT NULL,
    content text NOT NULL,
    content_text text,
    is_started {bool} NOT NULL DEFAULT false,
    version {bigint} NOT NULL DEFAULT 1,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (tenant_id, name)
) {strict};

CREATE TABLE leads (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    email text NOT NULL,
    name text,
    first_name text,
    last_name text,
    company text,
    job_title text,
    phone text,
    city text,
    state text,
    country text,
    timezone text,
    custom_fields {json} NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'bounced', 'unsubscribed', 'complained', 'replied')),
    tracking_consent {bool} NOT NULL DEFAULT true,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX leads_address ON leads (tenant_id, lower(email));

-- Platform-wide rows have no tenant, and NULLs are never equal: so two partial keys instead of one.
CREATE TABLE suppression_list (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} REFERENCES tenants(id),
    email text NOT NULL,
    scope text NOT NULL DEFAULT 'all',
    reason text NOT NULL,
    source text NOT NULL,
    added_at {time} NOT NULL,
    expires_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE UNIQUE INDEX suppression_list_tenant ON suppression_list (tenant_id, email, scope) WHERE tenant_id IS NOT NULL;
CREATE UNIQUE INDEX suppression_list_platform ON suppression_list (email, scope) WHERE tenant_id IS NULL;
