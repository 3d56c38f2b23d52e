-- Contents whose upload was opened and that no input has listed yet: what stays here too long is garbage.
CREATE TABLE opened_contents (
    folder TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    project TEXT NOT NULL,
    size BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    PRIMARY KEY (folder, sha256)
) WITHOUT ROWID;

CREATE INDEX opened_contents_age ON opened_contents (opened_at);
CREATE INDEX opened_contents_project ON opened_contents (project, size);
CREATE INDEX inputs_project ON inputs (project, bytes);
