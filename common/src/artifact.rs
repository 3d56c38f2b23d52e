//! Files of `/out` and of inputs, as manifests name them.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// One stored file. The path is bytes: names of files need not be text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative, without `.`, `..` or a leading slash.
    pub path: Vec<u8>,
    pub size: u64,
    pub sha256: [u8; 32],
    /// Permission bits.
    pub mode: u32,
    pub modified_at: Option<Timestamp>,
}

/// A file of a manifest and the object that holds its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Object keys are made of this, never of names.
    pub ordinal: u64,
    pub artifact: Artifact,
}

/// Where to put one file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadTarget {
    /// `None`: a single PUT to `urls[0]`.
    pub upload_id: Option<String>,
    /// Size of every part but the last; the whole size for a single PUT.
    pub part_size: u64,
    pub urls: Vec<String>,
}

/// The size of a part: at least 8 MiB, and never more than 9,000 parts.
pub const fn part_size(size: u64) -> u64 {
    const LEAST: u64 = 8 << 20;
    let ninth = size.div_ceil(9_000);
    if ninth > LEAST { ninth } else { LEAST }
}

/// Whether a path stays inside its folder: relative, no empty, `.` or `..` segment, no NUL.
pub fn is_contained(path: &[u8]) -> bool {
    !path.is_empty()
        && !path.contains(&0)
        && path
            .split(|b| *b == b'/')
            .all(|segment| !segment.is_empty() && segment != b"." && segment != b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_folder_are_refused() {
        for bad in [&b""[..], b"/etc/passwd", b"../x", b"a/../b", b"a//b", b"a/./b", b"a\0b", b"a/"] {
            assert!(!is_contained(bad), "{}", String::from_utf8_lossy(bad));
        }
        for good in [&b"a"[..], b"a/b.txt", b"..a", b"\xff\xfe"] {
            assert!(is_contained(good));
        }
    }

    #[test]
    fn a_terabyte_fits_into_ten_thousand_parts() {
        assert_eq!(part_size(1), 8 << 20);
        assert!((1_u64 << 40).div_ceil(part_size(1 << 40)) <= 10_000);
    }
}
