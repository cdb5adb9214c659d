-- A lead goes through a campaign's sequence more than once: each passage is a round, and a step is sent once in each. A
-- program of before plans by the old uniqueness, and would take a later round's mails for had: it is refused from here on.
-- SQLite drops no constraint of a table that is there, so the table is made anew. Rows that point to it are counted as they
-- lose it and as they find it again, and looked at when the transaction ends.
-- A send is written for an enrollment whose tenant, campaign and lead it repeats: that row's own references hold them.
PRAGMA defer_foreign_keys = ON;
CREATE TEMP TABLE sends_kept AS SELECT * FROM sends;
DROP TABLE sends;
CREATE TABLE sends (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL,
    campaign_id {uuid} NOT NULL,
    lead_id {uuid} NOT NULL,
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
    retry_since {time},
    round {bigint} NOT NULL DEFAULT 1
) {strict};
INSERT INTO sends (id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, email_account_id, step_order, status, open,
        reason, fence, owner, priority, not_before, hinted_at, hinted_epoch, account_day, campaign_day, attempts, max_attempts,
        unknowns, first_attempt_at, last_attempt_at, message_id, reply, settled_at, created_at, updated_at, retry_since)
    SELECT id, tenant_id, campaign_id, lead_id, step_id, enrollment_id, email_account_id, step_order, status, open,
        reason, fence, owner, priority, not_before, hinted_at, hinted_epoch, account_day, campaign_day, attempts, max_attempts,
        unknowns, first_attempt_at, last_attempt_at, message_id, reply, settled_at, created_at, updated_at, retry_since
    FROM sends_kept;
DROP TABLE sends_kept;
CREATE UNIQUE INDEX sends_round ON sends (campaign_id, lead_id, step_id, round);
CREATE INDEX sends_open_account ON sends (email_account_id) WHERE open;
CREATE INDEX sends_open_lead ON sends (lead_id) WHERE open;
CREATE INDEX sends_open_campaign ON sends (campaign_id) WHERE open;
CREATE INDEX sends_open_lane ON sends (priority, not_before, id) WHERE open;
CREATE INDEX sends_enrollment ON sends (enrollment_id);
CREATE INDEX sends_closed_campaign ON sends (campaign_id, settled_at) WHERE NOT open;
CREATE INDEX sends_closed_account ON sends (email_account_id, settled_at) WHERE NOT open;
CREATE INDEX sends_closed_lead ON sends (lead_id, settled_at) WHERE NOT open AND reason IS NOT NULL;
CREATE INDEX sends_closed_reason ON sends (campaign_id, id) WHERE NOT open AND reason IS NOT NULL;
CREATE INDEX sends_arrived ON sends (id) WHERE NOT open AND reason IN ('unknown', 'result_refused');
ALTER TABLE campaign_leads ADD COLUMN round {bigint} NOT NULL DEFAULT 1;
ALTER TABLE campaign_leads ADD COLUMN round_began_at {time};
ALTER TABLE campaign_leads ADD COLUMN finished_at {time};
ALTER TABLE campaigns ADD COLUMN rounds_seen_until {time};
