-- Conditions may ask of a link and of a stretch of time.
ALTER TABLE campaign_sequence_steps ADD COLUMN condition_url text;
ALTER TABLE campaign_sequence_steps ADD COLUMN condition_within_hours {float} CHECK (condition_within_hours > 0);
