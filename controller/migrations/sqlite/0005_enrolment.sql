-- Who may be an agent. Secrets are hashes of random bytes.

CREATE TABLE join_tokens (
    id BLOB NOT NULL PRIMARY KEY,
    hash BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    used BIGINT NOT NULL,
    revoked_at BIGINT
) WITHOUT ROWID;

-- Who came in with which token, and the key it had: a repeat with the same key is the same machine.
CREATE TABLE join_uses (
    token_id BLOB NOT NULL,
    agent_id BLOB NOT NULL,
    binding BLOB NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (token_id, agent_id)
) WITHOUT ROWID;

CREATE TABLE agent_credentials (
    serial BLOB NOT NULL PRIMARY KEY,
    agent_id BLOB NOT NULL,
    -- Of an agent's key; none: a certificate.
    hash BLOB,
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT
) WITHOUT ROWID;

CREATE INDEX agent_credentials_agent ON agent_credentials (agent_id);

ALTER TABLE agents ADD COLUMN removed_at BIGINT;
