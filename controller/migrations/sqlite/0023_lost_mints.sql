-- When a minter was last asked for this key and gave no answer: what it makes after that is taken back, too.
ALTER TABLE run_keys ADD COLUMN unanswered_at BIGINT;
UPDATE run_keys SET unanswered_at = created_at WHERE sealed IS NULL;
