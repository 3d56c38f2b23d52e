//! Files to and from the controller's signed addresses: inputs up, artifacts down. Every file's SHA-256 is checked;
//! memory stays small whatever the files' sizes.

mod contained;
pub(crate) mod download;
mod http;
pub(crate) mod upload;
mod walk;

/// Files moved at once: enough to hide the round trips of small files.
const AT_ONCE: usize = 16;
/// Addresses asked for in one call; they expire, so not more than move soon.
const BATCH: usize = 500;
/// Read and hashed at a time.
const CHUNK: usize = 256 << 10;
