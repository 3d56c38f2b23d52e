//! Links to what an attempt left: a folder page, each file, and all of it as one archive. The link is the permission,
//! signed, and good until it ends or the job is gone. Must never say more than what was linked to.

mod archive;
mod page;
#[cfg(test)]
mod tests;

pub(crate) use archive::{archive, whole};
pub(crate) use page::page;

use crate::jobs::{AttemptView, JobView, Jobs};
use longshore_common::{
    clock::Timestamp,
    ids::{AttemptRef, Epoch, JobId},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::time::Duration;

/// As S3 signs: a longer link is a copy.
pub(crate) const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of links that nobody chose a length for.
pub(crate) const USUAL: Duration = Duration::from_secs(4 * 3600);

/// What stays as it is in the path of a file's link.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An attempt, and until when its link is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) attempt: AttemptRef,
    pub(crate) expires: Timestamp,
}

/// A link that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Ends with a slash.
    pub(crate) folder: String,
    pub(crate) archive: String,
    pub(crate) expires: Timestamp,
}

impl Link {
    pub(crate) fn file(&self, path: &[u8]) -> String {
        format!("{}{}", self.folder, file(path))
    }
}

/// Below the folder's address.
fn file(path: &[u8]) -> String {
    format!("{FILES}{}", percent_encode(path, PATH))
}

/// Before the paths of files.
pub(crate) const FILES: &str = "out/";
pub(crate) const ARCHIVE: &str = "out.tar";

/// For `valid`, and never longer than the job is kept. `None`: there is nothing to link to.
pub(crate) fn link(
    jobs: &Jobs,
    base: &str,
    (job, attempt): (&JobView, &AttemptView),
    valid: Duration,
) -> Option<Link> {
    if !attempt.committed || attempt.artifact_count == 0 {
        return None;
    }
    let expires = Timestamp::now().plus(valid.min(LONGEST));
    let expires = job.expires_at.map_or(expires, |gone| expires.min(gone));
    let token = jobs.seal_link(&Grant { attempt: attempt.attempt, expires }.to_bytes());
    let folder = format!("{}/results/{token}/", base.trim_end_matches('/'));
    Some(Link { archive: format!("{folder}{ARCHIVE}"), folder, expires })
}

impl Grant {
    const BYTES: usize = 16 + 4 + 8 + 8;

    fn to_bytes(self) -> Vec<u8> {
        let Self { attempt, expires } = self;
        let mut bytes = attempt.job.as_bytes().to_vec();
        bytes.extend(attempt.number.to_be_bytes());
        bytes.extend(attempt.epoch.0.to_be_bytes());
        bytes.extend(expires.as_micros().to_be_bytes());
        bytes
    }

    /// `None`: no link was ever made of this.
    pub(crate) fn open(jobs: &Jobs, token: &str) -> Option<Self> {
        let bytes = jobs.open_link(token).filter(|bytes| bytes.len() == Self::BYTES)?;
        let (job, rest) = bytes.split_at(16);
        let (number, rest) = rest.split_at(4);
        let (epoch, expires) = rest.split_at(8);
        Some(Self {
            attempt: AttemptRef {
                job: JobId::from_slice(job).ok()?,
                number: u32::from_be_bytes(number.try_into().ok()?),
                epoch: Epoch(u64::from_be_bytes(epoch.try_into().ok()?)),
            },
            expires: Timestamp::from_micros(i64::from_be_bytes(expires.try_into().ok()?)),
        })
    }
}
