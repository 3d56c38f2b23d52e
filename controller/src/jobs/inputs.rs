//! Names of artifacts and uploaded inputs. Their bytes are the API's and the object store's.

use super::{
    Jobs,
    chores::Chore,
    error::Error,
    token,
    types::{AttemptView, CreatedInput, InputFile, Page, StoredArtifact, object_key},
};
use crate::identity::DEFAULT_PROJECT;
use longshore_common::artifact::ManifestEntry;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::collections::HashMap;

impl Jobs {
    /// Committed artifacts of an attempt in path order.
    pub async fn artifacts(
        &self,
        attempt: &AttemptView,
        prefix: &[u8],
        size: u32,
        token: &str,
    ) -> Result<Page<StoredArtifact>, Error> {
        let shared = &self.inner.shared;
        let list = format!("artifacts {:?} {}", attempt.attempt, hex::encode(prefix));
        let after = token::open(&shared.token_key, &list, token)?.unwrap_or_default();
        if !attempt.committed {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let entries = shared.store.artifacts(attempt.attempt, prefix, &after, size).await?;
        let next = entries
            .last()
            .filter(|_| entries.len() >= size as usize)
            .map(|last| token::seal(&shared.token_key, &list, &last.artifact.path));
        Ok(Page { items: entries.into_iter().map(|entry| stored(attempt, entry)).collect(), next })
    }

    /// In the order asked; `None` where there is no such artifact.
    pub async fn find_artifacts(
        &self,
        attempt: &AttemptView,
        paths: &[Vec<u8>],
    ) -> Result<Vec<Option<StoredArtifact>>, Error> {
        if !attempt.committed {
            return Ok(vec![None; paths.len()]);
        }
        let found = self.inner.shared.store.find_artifacts(attempt.attempt, paths).await?;
        let found: HashMap<_, _> =
            found.into_iter().map(|entry| (entry.artifact.path.clone(), stored(attempt, entry))).collect();
        Ok(paths.iter().map(|path| found.get(path).cloned()).collect())
    }

    /// Keeps the list of an uploaded input. Its bytes are stored already.
    pub async fn create_input(
        &self,
        project: &str,
        mut files: Vec<InputFile>,
    ) -> Result<CreatedInput, Error> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            let path = String::from_utf8_lossy(&pair[0].path);
            return Err(Error::Invalid(format!("the input lists `{path}` twice")));
        }
        let input = CreatedInput {
            id: list_digest(project, &files),
            files: files.len() as u64,
            bytes: files.iter().fold(0, |sum, file| file.size.saturating_add(sum)),
        };
        let project = project.to_owned();
        self.chore(Chore::Input { project, input: input.clone(), files }).await?;
        Ok(input)
    }

    /// Notes contents that are about to be uploaded: those that no input lists in time go.
    pub async fn open_contents(&self, project: &str, contents: BTreeMap<[u8; 32], u64>) -> Result<(), Error> {
        if contents.is_empty() {
            return Ok(());
        }
        self.chore(Chore::OpenContents { project: project.to_owned(), contents }).await.map(drop)
    }

    /// Files of an uploaded input in path order.
    pub async fn input_files(
        &self,
        project: &str,
        input: &str,
        size: u32,
        token: &str,
    ) -> Result<Page<InputFile>, Error> {
        let shared = &self.inner.shared;
        let list = format!("input {input}");
        let after = token::open(&shared.token_key, &list, token)?.unwrap_or_default();
        if after.is_empty() && !shared.store.input_exists(project, input).await? {
            return Err(Error::NotFound { kind: "input", name: input.to_owned() });
        }
        let files = shared.store.input_files(input, &after, size).await?;
        let next = files
            .last()
            .filter(|_| files.len() >= size as usize)
            .map(|last| token::seal(&shared.token_key, &list, &last.path));
        Ok(Page { items: files, next })
    }
}

fn stored(attempt: &AttemptView, entry: ManifestEntry) -> StoredArtifact {
    StoredArtifact { key: object_key(&attempt.nonce, entry.ordinal), entry }
}

/// Of the project and the sorted list; lengths keep a path from running into the next field.
fn list_digest(project: &str, files: &[InputFile]) -> String {
    let mut digest = Sha256::new();
    if project != DEFAULT_PROJECT {
        digest.update(project);
        digest.update([0]);
    }
    for file in files {
        digest.update((file.path.len() as u64).to_le_bytes());
        digest.update(&file.path);
        digest.update(file.size.to_le_bytes());
        digest.update(file.sha256);
        digest.update(file.mode.to_le_bytes());
    }
    hex::encode(digest.finalize())
}
