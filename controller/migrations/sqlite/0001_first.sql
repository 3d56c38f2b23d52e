-- The truth. Ids are 16 bytes, times are microseconds since 1970, states and outcomes are the texts of
-- `common/src/job`. Tables whose rows change often are narrow: what never changes lies in `job_specs`.

CREATE TABLE cluster (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id BLOB NOT NULL,
    -- Goes up when a backup is restored.
    epoch BIGINT NOT NULL,
    -- Of the last committed change of a job.
    revision BIGINT NOT NULL,
    -- Signs page tokens.
    token_key BLOB NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    short_id TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    lane TEXT NOT NULL,
    -- Smaller is sooner: the priority, negated, so that every order is ascending.
    rank BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    cpu BIGINT NOT NULL,
    memory BIGINT NOT NULL,
    scratch BIGINT NOT NULL,
    gpus BIGINT NOT NULL,
    retry TEXT NOT NULL,
    retry_of TEXT,
    created_at BIGINT NOT NULL,
    -- From here on: what changes.
    state TEXT NOT NULL,
    desired TEXT NOT NULL,
    cancel_by TEXT,
    cancel_reason TEXT,
    attempts BIGINT NOT NULL,
    handed_back BIGINT NOT NULL,
    -- Epoch and agent of the latest attempt, and whether its end was reported.
    epoch BIGINT,
    agent_id BLOB,
    reported BIGINT NOT NULL,
    not_before BIGINT,
    queue_deadline BIGINT,
    outcome TEXT,
    detail TEXT,
    started_at BIGINT,
    finished_at BIGINT,
    expires_at BIGINT,
    revision BIGINT NOT NULL
) WITHOUT ROWID;

CREATE UNIQUE INDEX jobs_short_id ON jobs (short_id);
CREATE INDEX jobs_name ON jobs (name, id);
CREATE INDEX jobs_revision ON jobs (revision);
-- What a claim reads: in order, and with the amounts, so that what does not fit costs no look at the row.
CREATE INDEX jobs_claim ON jobs (lane, rank, queued_at, id, cpu, memory, scratch, gpus) WHERE state = 'queued';
CREATE INDEX jobs_unfinished ON jobs (state, id, finished_at) WHERE finished_at IS NULL;
CREATE INDEX jobs_open ON jobs (id, finished_at) WHERE finished_at IS NULL;
CREATE INDEX jobs_not_before ON jobs (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX jobs_queue_deadline ON jobs (queue_deadline) WHERE queue_deadline IS NOT NULL;
CREATE INDEX jobs_expires_at ON jobs (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE job_specs (
    job_id BLOB NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    labels TEXT NOT NULL
);

CREATE TABLE attempts (
    job_id BLOB NOT NULL,
    number BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    agent_id BLOB NOT NULL,
    -- Part of the keys of its objects.
    nonce TEXT NOT NULL,
    gpus TEXT NOT NULL,
    claimed_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    reported BIGINT NOT NULL,
    outcome TEXT,
    detail TEXT,
    started_at BIGINT,
    exited_at BIGINT,
    finished_at BIGINT,
    log_end BIGINT NOT NULL,
    artifact_count BIGINT NOT NULL,
    artifact_bytes BIGINT NOT NULL,
    cpu_micros BIGINT NOT NULL,
    memory_peak BIGINT NOT NULL,
    disk_peak BIGINT NOT NULL,
    notes TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

-- Kept aside until a finish commits them.
CREATE TABLE manifest_pages (
    job_id BLOB NOT NULL,
    number BIGINT NOT NULL,
    page BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (job_id, number, page)
) WITHOUT ROWID;

CREATE TABLE artifacts (
    job_id BLOB NOT NULL,
    number BIGINT NOT NULL,
    path BLOB NOT NULL,
    page BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    size BIGINT NOT NULL,
    sha256 BLOB NOT NULL,
    mode BIGINT NOT NULL,
    modified_at BIGINT,
    PRIMARY KEY (job_id, number, path)
) WITHOUT ROWID;

CREATE TABLE requests (
    project TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    job_id BLOB NOT NULL,
    short_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, request_id)
) WITHOUT ROWID;

CREATE INDEX requests_created_at ON requests (created_at);

-- Claims that granted something, so that a repeat is answered with the same grants.
CREATE TABLE claims (
    id BLOB NOT NULL PRIMARY KEY,
    agent_id BLOB NOT NULL,
    -- [[job id in hex, attempt number], …]
    grants TEXT NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE INDEX claims_created_at ON claims (created_at);

CREATE TABLE agents (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    inventory TEXT NOT NULL,
    seen_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE inputs (
    id TEXT NOT NULL PRIMARY KEY,
    files BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    -- When it was made or last named by a submit.
    used_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE input_files (
    input_id TEXT NOT NULL,
    path BLOB NOT NULL,
    size BIGINT NOT NULL,
    sha256 BLOB NOT NULL,
    mode BIGINT NOT NULL,
    PRIMARY KEY (input_id, path)
) WITHOUT ROWID;

CREATE INDEX input_files_sha256 ON input_files (sha256);

-- Bytes elsewhere that nothing names any more. A row goes when the bytes have gone.
CREATE TABLE garbage (
    -- `object` or `log`
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
