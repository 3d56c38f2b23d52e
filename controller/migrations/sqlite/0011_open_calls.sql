-- Changing calls that have begun and have no line in the audit log yet. What a dead controller left here becomes lines
-- of its own at the next start.
CREATE TABLE open_calls (
    id BLOB NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    project TEXT NOT NULL
) WITHOUT ROWID;
