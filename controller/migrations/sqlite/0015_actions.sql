-- Named definitions of projects. What of one changes; its versions never do.
CREATE TABLE actions (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    latest BIGINT NOT NULL,
    -- Of the latest version.
    labels TEXT NOT NULL,
    archived_at BIGINT,
    archived_by TEXT,
    PRIMARY KEY (project, name)
) WITHOUT ROWID;

CREATE TABLE action_versions (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    spec TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    -- The version whose definition this one repeats.
    restored_from BIGINT,
    PRIMARY KEY (project, name, version)
) WITHOUT ROWID;

-- Counted when jobs are made and when they end, so that it outlasts them.
CREATE TABLE action_usage (
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (project, name, version)
) WITHOUT ROWID;

CREATE TABLE action_requests (
    project TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project, request_id)
) WITHOUT ROWID;

CREATE INDEX action_requests_created_at ON action_requests (created_at);

ALTER TABLE jobs ADD COLUMN action TEXT;
ALTER TABLE jobs ADD COLUMN action_version BIGINT;

CREATE INDEX jobs_action ON jobs (action, id) WHERE action IS NOT NULL;
