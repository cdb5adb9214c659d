-- A person's word begins the time budget of retries anew; what an earlier version wrote counts from the first attempt.
ALTER TABLE sends ADD COLUMN retry_since {time};
