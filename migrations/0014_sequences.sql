-- Conditions ask of a link and of a stretch of time; a running campaign's sequence is edited. Only adds.
ALTER TABLE campaign_sequence_steps ADD COLUMN condition_url text;
ALTER TABLE campaign_sequence_steps ADD COLUMN condition_within_hours {float} CHECK (condition_within_hours > 0);
-- A running campaign's sequence is edited: a step keeps its key, or is kept for the ledger when it was taken out; results that
-- were on their way meanwhile are told by when it changed.
ALTER TABLE campaign_sequence_steps ADD COLUMN step_key text;
ALTER TABLE campaign_sequence_steps ADD COLUMN removed_at {time};
ALTER TABLE campaigns ADD COLUMN sequence_changed_at {time};
