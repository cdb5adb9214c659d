-- Every few seconds somebody asks whether an unknown outcome has been proven meanwhile: no column of it changes before a result.
CREATE INDEX sends_unknown ON sends (id) WHERE NOT open AND reason = 'unknown';
