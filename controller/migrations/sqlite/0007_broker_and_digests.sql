-- What the password of an agent's own broker user is derived from, with a key that is not in the database. Another one
-- with every join.
CREATE TABLE broker_salts (
    agent_id BLOB NOT NULL PRIMARY KEY,
    salt BLOB NOT NULL
) WITHOUT ROWID;

-- The repository digest that the attempt's image had, `sha256:...`. None: not known, or the image has none.
ALTER TABLE attempts ADD COLUMN digest TEXT;
