-- Several texts of one mail are tried: a step's variants, how its winner is found and which one it is, and which variant each
-- send is. Only adds: programs of the version before send every lead the step's own text, which is that of the first variant.
CREATE TABLE campaign_step_variants (
    id {uuid} PRIMARY KEY,
    tenant_id {uuid} NOT NULL REFERENCES tenants(id),
    campaign_id {uuid} NOT NULL REFERENCES campaigns(id),
    step_id {uuid} NOT NULL REFERENCES campaign_sequence_steps(id),
    variant_key text NOT NULL,
    variant_order {bigint} NOT NULL CHECK (variant_order >= 1),
    weight {bigint} NOT NULL DEFAULT 1 CHECK (weight >= 1),
    template_id {uuid} NOT NULL REFERENCES templates(id),
    removed_at {time},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL,
    UNIQUE (step_id, variant_key)
) {strict};
CREATE INDEX campaign_step_variants_campaign ON campaign_step_variants (campaign_id);

ALTER TABLE campaign_sequence_steps ADD COLUMN is_trial {bool} NOT NULL DEFAULT false;
-- How a winner is found; all empty where only a person decides.
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_by text CHECK (trial_by IN ('opens', 'clicks'));
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_after_hours {float} CHECK (trial_after_hours > 0);
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_sample_percent {bigint} CHECK (trial_sample_percent BETWEEN 1 AND 99);
-- When it is worth looking at again, and since when leads are known to wait for it.
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_check_at {time};
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_waited_for_since {time};
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_winner text;
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_decided_at {time};
ALTER TABLE campaign_sequence_steps ADD COLUMN trial_decided_by text CHECK (trial_decided_by IN ('rule', 'person'));
-- Asked in every turn of a scheduler: as small as there are trials under way.
CREATE INDEX campaign_sequence_steps_trials ON campaign_sequence_steps (trial_check_at) WHERE trial_by IS NOT NULL AND trial_winner IS NULL;

ALTER TABLE sends ADD COLUMN variant text;
CREATE INDEX sends_variant ON sends (step_id) WHERE variant IS NOT NULL;
