//! Uploaded inputs: lists of files whose bytes are stored under their digests.

use super::{Source, Tx};
use crate::{
    blobs::{content_folder, content_key},
    jobs::{CreatedInput, InputFile},
    store::{
        Error,
        dialect::{bytes, item, rows},
        pack_list,
        rows::signed,
    },
};
use longshore_common::clock::Timestamp;
use serde::Serialize;

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

impl Tx {
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
