-- What operators want of machines: cordons, drains and labels, as JSON. No row: nothing.
CREATE TABLE agent_orders (
    agent_id BLOB NOT NULL PRIMARY KEY,
    standing TEXT NOT NULL
) WITHOUT ROWID;

-- Whose jobs wait by somebody's word; the empty project is all of them.
CREATE TABLE pauses (
    project TEXT NOT NULL PRIMARY KEY,
    pause TEXT NOT NULL
) WITHOUT ROWID;

-- What happened to machines. Only the latest are kept.
CREATE TABLE agent_events (
    revision BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    agent_id BLOB NOT NULL,
    -- Its name then.
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    author TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX agent_events_agent ON agent_events (agent_id, revision);
