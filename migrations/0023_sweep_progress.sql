-- Where the last turn stopped that looked for open sends which can never go: the next one goes on from there, whoever has it.
CREATE TABLE sweep_progress (
    one {bigint} PRIMARY KEY CHECK (one = 1),
    lead_id {uuid},
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
