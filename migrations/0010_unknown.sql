-- Every few seconds somebody asks whether a mail has arrived whose outcome is unknown, or whose result was not
-- taken: no column of it changes before a result.
CREATE INDEX sends_unknown ON sends (id) WHERE NOT open AND reason IN ('unknown', 'result_refused');
