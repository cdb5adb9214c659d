-- What is sent: campaigns, their steps, and each lead's progress through them.
CREATE TABLE campaigns (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    company_id {uuid} NOT NULL REFERENCES companies(id),
    name text NOT NULL,
    description text,
    status text NOT NULL DEFAULT 'draft'
        CHECK (status IN ('draft', 'scheduled', 'sending', 'paused', 'completed', 'cancelled', 'archived')),
    scheduled_at {time},
    completed_at {time},
    settings {json} NOT NULL DEFAULT '{}',
    next_plan_at {time},
    seen_until {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (tenant_id, name)
) {strict};
CREATE INDEX campaigns_live ON campaigns (scheduled_at) WHERE status IN ('scheduled', 'sending');

CREATE TABLE campaign_sequence_steps (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    step_order {bigint} NOT NULL CHECK (step_order >= 1),
    step_type text NOT NULL CHECK (step_type IN ('email', 'wait', 'condition')),
    email_account_id {uuid} REFERENCES email_accounts(id),
    template_id {uuid} REFERENCES templates(id),
    subject_override text,
    from_name_override text,
    wait_duration_hours {float} NOT NULL DEFAULT 0 CHECK (wait_duration_hours >= 0),
    wait_until_date {time},
    send_condition text,
    condition_type text NOT NULL DEFAULT 'always',
    condition_value text,
    is_active {bool} NOT NULL DEFAULT true,
    executed_count {bigint} NOT NULL DEFAULT 0,
    last_executed_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (campaign_id, step_order)
) {strict};

CREATE TABLE campaign_email_accounts (
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    email_account_id {uuid} NOT NULL REFERENCES email_accounts(id),
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    PRIMARY KEY (campaign_id, email_account_id)
) {strict};

-- The enrollment. `due_at` is NULL while a send of it is open, so the due scan never sees it then.
CREATE TABLE campaign_leads (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    lead_id {uuid} NOT NULL REFERENCES leads(id),
    email_account_id {uuid} REFERENCES email_accounts(id),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'stopped')),
    stop_reason text,
    next_step_order {bigint} NOT NULL,
    due_at {time},
    highest_sent_step {bigint} NOT NULL DEFAULT 0,
    last_sent_at {time},
    thread_message_ids text,
    thread_subject text,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (campaign_id, lead_id)
) {strict} {fillfactor 80};
CREATE INDEX campaign_leads_due ON campaign_leads (campaign_id, due_at, id) WHERE status = 'active' AND due_at IS NOT NULL;
CREATE INDEX campaign_leads_active ON campaign_leads (campaign_id) WHERE status = 'active';
CREATE INDEX campaign_leads_lead ON campaign_leads (lead_id);
