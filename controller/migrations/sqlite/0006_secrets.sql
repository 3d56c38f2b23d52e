-- Keys that values are encrypted with, each wrapped by a key that is not in this database. The latest one is used.
CREATE TABLE data_keys (
    id BIGINT NOT NULL PRIMARY KEY,
    wrapped BLOB NOT NULL,
    created_at BIGINT NOT NULL
);

-- `kind` is `secret`, or `registry`: then the name is its host, and the value a password.
CREATE TABLE secrets (
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    username TEXT NOT NULL,
    sealed BLOB NOT NULL,
    key_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (project, kind, name)
) WITHOUT ROWID;

-- Of one job; they go with it.
CREATE TABLE job_secrets (
    job_id BLOB NOT NULL,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    key_id BIGINT NOT NULL,
    PRIMARY KEY (job_id, name)
) WITHOUT ROWID;
