-- What ended otherwise than sent, by campaign. No column of the index changes at a dot, so that the dot intent stays a HOT update
-- on PostgreSQL.
CREATE INDEX sends_closed_reason ON sends (campaign_id, id) WHERE NOT open AND reason IS NOT NULL;
