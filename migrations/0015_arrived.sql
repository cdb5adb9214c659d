-- Every few seconds somebody asks whether a held mail has arrived: also one whose result was not taken.
DROP INDEX sends_unknown;
CREATE INDEX sends_arrived ON sends (id) WHERE NOT open AND reason IN ('unknown', 'result_refused');
