-- Jobs that were made together. What they are is theirs to say.
CREATE TABLE batches (
    -- Eight characters, as of a job.
    id TEXT NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    -- So many of its jobs are let go at once; none: all.
    max_parallel BIGINT,
    total BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    submitter_name TEXT,
    retry_of TEXT
) WITHOUT ROWID;

CREATE INDEX batches_made ON batches (created_at, id);

CREATE TABLE batch_requests (
    project TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    batch TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, request_id)
) WITHOUT ROWID;

CREATE INDEX batch_requests_created_at ON batch_requests (created_at);

ALTER TABLE jobs ADD COLUMN batch TEXT;
ALTER TABLE jobs ADD COLUMN batch_row BIGINT;
-- Its batch has not let it go yet.
ALTER TABLE jobs ADD COLUMN awaits_turn BIGINT NOT NULL DEFAULT 0;

CREATE INDEX jobs_batch ON jobs (batch, id, state, finished_at) WHERE batch IS NOT NULL;
CREATE INDEX jobs_turns ON jobs (batch, awaits_turn, blocked, not_before, rank, batch_row, finished_at)
    WHERE batch IS NOT NULL AND finished_at IS NULL;

-- What waits for others besides is not due by its time alone.
DROP INDEX jobs_not_before;
CREATE INDEX jobs_not_before ON jobs (not_before) WHERE not_before IS NOT NULL AND blocked = 0;
