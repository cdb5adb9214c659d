-- Every few seconds somebody asks whether a held mail has arrived: also one whose result was not taken. Made before the
-- other goes: while it is made, others write on.
CREATE INDEX sends_arrived ON sends (id) WHERE NOT open AND reason IN ('unknown', 'result_refused');
DROP INDEX sends_unknown;
