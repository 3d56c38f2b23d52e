-- The tenants. Settings are quotas, images and retention, as JSON.
CREATE TABLE projects (
    name TEXT NOT NULL PRIMARY KEY,
    settings TEXT NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;

-- Whoever submitted before there were projects goes on.
INSERT INTO projects (name, settings, created_at)
    SELECT project, '{}', MIN(created_at) FROM jobs GROUP BY project;

-- What callers show. Only a digest of the secret half is kept.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    role TEXT NOT NULL,
    -- Of one project, or of all.
    project TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT,
    revoked_at BIGINT
) WITHOUT ROWID;

-- Every changing call and every refused one. Written once; rows go only by their age.
CREATE TABLE audit (
    id BLOB NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    project TEXT NOT NULL,
    -- A list, the first few of `target_count`.
    targets TEXT NOT NULL,
    target_count BIGINT NOT NULL,
    result TEXT NOT NULL,
    message TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_actor ON audit (actor, id);

CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- What one project uploaded is not there for another, not even as bytes that are stored already.
ALTER TABLE inputs ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
-- Where the keys of the contents begin.
ALTER TABLE input_files ADD COLUMN folder TEXT NOT NULL DEFAULT 'cas/';
DROP INDEX input_files_sha256;
CREATE INDEX input_files_sha256 ON input_files (sha256, folder);

CREATE INDEX jobs_project ON jobs (project, id);
