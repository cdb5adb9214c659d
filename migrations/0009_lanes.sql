-- Reconciliation looks at each lane by itself, the most urgent first, so that a long low lane is not read for the others.
DROP INDEX sends_open;
CREATE INDEX sends_open_lane ON sends (priority, not_before, id) WHERE open;
