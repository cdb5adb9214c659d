-- A running campaign's sequence is edited: a step keeps its key, or is kept for the ledger when it was taken out; results that
-- were on their way meanwhile are told by when it changed. Only adds.
ALTER TABLE campaign_sequence_steps ADD COLUMN step_key text;
ALTER TABLE campaign_sequence_steps ADD COLUMN removed_at {time};
ALTER TABLE campaigns ADD COLUMN sequence_changed_at {time};
