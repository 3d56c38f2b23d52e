-- What starts jobs by itself.
CREATE TABLE triggers (
    id BLOB NOT NULL PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    -- The last part of a webhook's address. Its secret is in `secrets`.
    hook TEXT,
    -- The token in whose name it fires.
    owner_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    -- Until when a clock's instants, and until which revision ends of jobs, were looked at.
    cursor_at BIGINT NOT NULL,
    cursor_revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE UNIQUE INDEX triggers_name ON triggers (project, name);
CREATE UNIQUE INDEX triggers_hook ON triggers (hook) WHERE hook IS NOT NULL;

-- Each thing that happened, once: the unique key is what keeps two controllers, two looks and two deliveries apart.
CREATE TABLE trigger_firings (
    id BLOB NOT NULL PRIMARY KEY,
    trigger_id BLOB NOT NULL,
    -- Names what happened: an instant, a delivery, an object, a job.
    event TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    at BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    -- `pending`, `fired`, `skipped` or `refused`
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- Of a pending one.
    next_try BIGINT,
    job_id BLOB,
    job TEXT
) WITHOUT ROWID;

CREATE UNIQUE INDEX trigger_firings_event ON trigger_firings (trigger_id, event);
CREATE INDEX trigger_firings_history ON trigger_firings (trigger_id, id);
CREATE INDEX trigger_firings_pending ON trigger_firings (next_try) WHERE next_try IS NOT NULL;

-- What its job is told of it. Long texts lie apart from what is searched.
CREATE TABLE trigger_payloads (
    firing_id BLOB NOT NULL PRIMARY KEY,
    payload TEXT NOT NULL
);

-- Objects of a prefix that have fired or were there before: as many as the prefix holds.
CREATE TABLE trigger_seen (
    trigger_id BLOB NOT NULL,
    name TEXT NOT NULL,
    mark TEXT NOT NULL,
    PRIMARY KEY (trigger_id, name)
) WITHOUT ROWID;
