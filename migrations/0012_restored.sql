-- How far the ledger has come and on which server it is, to see that a backup was restored; and of which time it then knows nothing.
ALTER TABLE deployment ADD COLUMN seen_at {time};
ALTER TABLE deployment ADD COLUMN server text;
ALTER TABLE deployment ADD COLUMN lost_since {time};
ALTER TABLE deployment ADD COLUMN lost_until {time};
