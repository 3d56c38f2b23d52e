-- Run keys that were asked of a minter and not taken back yet, one for each attempt. A row without a value is written
-- before the minter is asked: whatever comes then, the key is taken back.
CREATE TABLE run_keys (
    job_id BLOB NOT NULL,
    attempt BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    project TEXT NOT NULL,
    minter TEXT NOT NULL,
    -- What the minter was told, as JSON; no secret is in it.
    told TEXT NOT NULL,
    sealed BLOB,
    key_id BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (job_id, attempt, epoch)
) WITHOUT ROWID;
