//! Bytes of artifacts and inputs behind signed URLs. Knows keys and sizes, never names of files or jobs.
//! Implementations: `directory` (served by the controller's own HTTP port), `s3`. Both pass `contract`.

#[doc(hidden)]
pub mod contract;
pub mod directory;
mod parts;
mod room;
pub mod s3;
pub mod ticket;
mod writer;

pub use directory::Directory;
pub use s3::S3;
pub use writer::WriteError;

use crate::identity::DEFAULT_PROJECT;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use longshore_common::artifact::UploadTarget;
use std::{fmt, time::Duration};

/// Bytes of an object.
pub type Content = BoxStream<'static, Result<Bytes, Error>>;

#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug {
    /// Signed addresses to put `size` bytes at `key`: one PUT, or one per part.
    async fn open_upload(&self, key: &str, size: u64, valid: Duration) -> Result<UploadTarget, Error>;

    /// Completes a multipart upload. A repeat after success is fine.
    async fn complete_upload(&self, key: &str, upload_id: &str, etags: &[String]) -> Result<(), Error>;

    /// Gives up a multipart upload; parts stored so far go.
    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), Error>;

    /// A signed GET address.
    async fn get_url(&self, key: &str, valid: Duration) -> Result<String, Error>;

    /// Size and bytes of a stored object, or `None`. Read as they are asked for.
    async fn content(&self, key: &str) -> Result<Option<(u64, Content)>, Error>;

    /// Size of a stored object, or `None`.
    async fn size(&self, key: &str) -> Result<Option<u64>, Error>;

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error>;

    /// Removes objects; those that are gone are fine.
    async fn delete(&self, keys: &[String]) -> Result<(), Error>;

    /// Whether the store answers and takes writes, and what it is, for `status`.
    async fn health(&self) -> Result<String, Error>;
}

/// Before keys that end in the SHA-256 of their content.
const CONTENT: &str = "cas/";

/// The key of content that a project has stored once, under its digest.
pub fn content_key(project: &str, sha256: &[u8; 32]) -> String {
    content_folder(project) + &hex::encode(sha256)
}

/// Where the keys of a project's contents begin. What is stored for one is not there for another.
pub(crate) fn content_folder(project: &str) -> String {
    if project == DEFAULT_PROJECT { CONTENT.to_owned() } else { format!("{CONTENT}{project}/") }
}

/// What the content of this key must hash to, if its key says.
fn digest_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(CONTENT).and_then(|rest| rest.rsplit('/').next())
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("object store unreachable: {0}")]
    Unreachable(String),
    #[error("object store refused: {0}")]
    Refused(String),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}
