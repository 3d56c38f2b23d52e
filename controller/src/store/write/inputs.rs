//! Uploaded inputs: lists of files whose bytes are stored under their digests.

use super::{Source, Tx};
use crate::{
    blobs::{content_folder, content_key},
    jobs::{CreatedInput, InputFile},
    store::{
        Error,
        dialect::{bytes, item, rows, text},
        pack_list,
        rows::signed,
    },
};
use longshore_common::clock::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Packed {
    path: String,
    size: i64,
    sha256: String,
    mode: u32,
}

const INSERT_FILES: &str = concat!(
    "INSERT INTO input_files (input_id, folder, path, size, sha256, mode) SELECT $2, $3, ",
    bytes!("v.value->>'path'"),
    ", CAST(v.value->>'size' AS BIGINT), ",
    bytes!("v.value->>'sha256'"),
    ", CAST(v.value->>'mode' AS BIGINT) FROM ",
    rows!("$1"),
    " AS v WHERE true ON CONFLICT (input_id, path) DO NOTHING",
);

const TOUCH: &str = concat!(
    "UPDATE inputs SET used_at = $2 WHERE id IN (SELECT ",
    item!("v.value"),
    " FROM ",
    rows!("$1"),
    " AS v)",
);

const OPEN: &str = concat!(
    "INSERT INTO opened_contents (folder, sha256, project, size, opened_at) SELECT $2, ",
    bytes!("v.value->>0"),
    ", $3, CAST(v.value->>1 AS BIGINT), $4 FROM ",
    rows!("$1"),
    " AS v WHERE NOT EXISTS (SELECT 1 FROM input_files AS f WHERE f.folder = $2 AND f.sha256 = ",
    bytes!("v.value->>0"),
    ") ON CONFLICT (folder, sha256) DO UPDATE SET opened_at = excluded.opened_at, size = excluded.size",
);

const LISTED: &str = concat!(
    "DELETE FROM opened_contents WHERE folder = $2 AND sha256 IN (SELECT ",
    bytes!("v.value->>'sha256'"),
    " FROM ",
    rows!("$1"),
    " AS v)",
);

const UNLISTED: &str = concat!(
    "INSERT INTO garbage (kind, name) SELECT 'object', o.folder || ",
    text!("o.sha256"),
    " FROM opened_contents AS o WHERE o.opened_at < $1 AND NOT EXISTS \
     (SELECT 1 FROM input_files AS f WHERE f.sha256 = o.sha256 AND f.folder = o.folder) \
     ON CONFLICT (kind, name) DO NOTHING",
);

impl Tx {
    pub(crate) async fn open_contents(
        &mut self,
        project: &str,
        contents: &BTreeMap<[u8; 32], u64>,
        now: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(OPEN)
            .bind(pack_list(contents.iter().map(|(sha256, size)| (hex::encode(sha256), signed(*size)))))
            .bind(content_folder(project))
            .bind(project)
            .bind(now.as_micros())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Whoever opened them before then will not list them any more: they go.
    pub(crate) async fn forget_contents(&mut self, before: Timestamp) -> Result<(), Error> {
        for sql in [UNLISTED, "DELETE FROM opened_contents WHERE opened_at < $1"] {
            sqlx::query(sql).bind(before.as_micros()).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// A submit names them: their age begins anew.
    pub(crate) async fn touch_inputs(&mut self, named: &[Source], now: Timestamp) -> Result<(), Error> {
        let ids = named.iter().filter_map(|source| match source {
            Source::Input(id) => Some(id),
            Source::Job(_) => None,
        });
        let ids: Vec<_> = ids.collect();
        if !ids.is_empty() {
            sqlx::query(TOUCH).bind(pack_list(ids)).bind(now.as_micros()).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// The id is the digest of the list: the same list again only refreshes its age.
    pub(crate) async fn put_input(
        &mut self,
        project: &str,
        input: &CreatedInput,
        files: &[InputFile],
        now: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO inputs (id, project, files, bytes, used_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at",
        )
        .bind(&input.id)
        .bind(project)
        .bind(signed(input.files))
        .bind(signed(input.bytes))
        .bind(now.as_micros())
        .execute(self.connection())
        .await?;
        let list = pack_list(files.iter().map(|file| Packed {
            path: hex::encode(&file.path),
            size: signed(file.size),
            sha256: hex::encode(file.sha256),
            mode: file.mode,
        }));
        sqlx::query(LISTED).bind(&list).bind(content_folder(project)).execute(self.connection()).await?;
        sqlx::query(INSERT_FILES)
            .bind(list)
            .bind(&input.id)
            .bind(content_folder(project))
            .execute(self.connection())
            .await?;
        // What was about to be deleted is named again.
        let keys: Vec<_> = files.iter().map(|file| content_key(project, &file.sha256)).collect();
        self.drop_garbage("object", &keys).await
    }
}
