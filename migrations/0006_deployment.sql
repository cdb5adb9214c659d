-- Who we are: two deployments on one Redis would take each other's jobs, so each says its id there.
CREATE TABLE deployment (
    one {bigint} PRIMARY KEY CHECK (one = 1),
    id {uuid} NOT NULL,
    created_at {time} NOT NULL,
    updated_at {time} NOT NULL
) {strict};
CREATE INDEX dead_letters_send ON dead_letters (send_id) WHERE send_id IS NOT NULL;
