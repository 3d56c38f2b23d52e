//! Files of manifests and where their bytes go.

use super::{WireError, required, text, timestamp_from, timestamp_to};
use crate::artifact::{Artifact, ManifestEntry, UploadTarget, is_contained};
use longshore_proto::v1;

/// A SHA-256.
pub fn digest(path: &str, bytes: &[u8]) -> Result<[u8; 32], WireError> {
    bytes.try_into().map_err(|_| WireError::new(path, format!("has {} bytes, a SHA-256 has 32", bytes.len())))
}

impl From<&Artifact> for v1::Artifact {
    fn from(artifact: &Artifact) -> Self {
        Self {
            path: artifact.path.clone().into(),
            size: artifact.size,
            sha256: artifact.sha256.to_vec().into(),
            mode: artifact.mode,
            modified_at: artifact.modified_at.map(timestamp_to),
        }
    }
}

/// Refuses a path that leaves its folder: whoever reads one may write to it.
impl TryFrom<v1::Artifact> for Artifact {
    type Error = WireError;

    fn try_from(message: v1::Artifact) -> Result<Self, WireError> {
        if !is_contained(&message.path) {
            let shown = String::from_utf8_lossy(&message.path);
            return Err(WireError::new("path", format!("`{shown}` does not stay inside its folder")));
        }
        Ok(Self {
            path: message.path.into(),
            size: message.size,
            sha256: digest("sha256", &message.sha256)?,
            mode: message.mode & 0o7777,
            modified_at: message.modified_at.as_ref().map(timestamp_from),
        })
    }
}

impl From<&ManifestEntry> for v1::ManifestEntry {
    fn from(entry: &ManifestEntry) -> Self {
        Self { ordinal: entry.ordinal, artifact: Some((&entry.artifact).into()) }
    }
}

impl TryFrom<v1::ManifestEntry> for ManifestEntry {
    type Error = WireError;

    fn try_from(message: v1::ManifestEntry) -> Result<Self, WireError> {
        let artifact = required("artifact", message.artifact)?;
        Ok(Self {
            ordinal: message.ordinal,
            artifact: artifact.try_into().map_err(|error: WireError| error.under("artifact"))?,
        })
    }
}

impl From<UploadTarget> for v1::UploadTarget {
    fn from(target: UploadTarget) -> Self {
        Self {
            upload_id: target.upload_id.unwrap_or_default(),
            part_size: target.part_size,
            urls: target.urls,
        }
    }
}

impl TryFrom<v1::UploadTarget> for UploadTarget {
    type Error = WireError;

    fn try_from(message: v1::UploadTarget) -> Result<Self, WireError> {
        if message.urls.is_empty() {
            return Err(WireError::new("urls", "is empty"));
        }
        let upload_id = text(message.upload_id);
        if upload_id.is_some() && message.part_size == 0 {
            return Err(WireError::new("part_size", "is zero"));
        }
        Ok(Self { upload_id, part_size: message.part_size, urls: message.urls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn an_entry_reads_back_and_one_that_leaves_the_folder_is_refused() {
        let artifact = Artifact {
            path: b"a/\xff".to_vec(),
            size: 3,
            sha256: [7; 32],
            mode: 0o644,
            modified_at: Some(Timestamp::from_micros(1)),
        };
        let entry = ManifestEntry { ordinal: 4, artifact };
        let mut message = v1::ManifestEntry::from(&entry);
        assert_eq!(ManifestEntry::try_from(message.clone()), Ok(entry));
        message.artifact.as_mut().expect("set").path = bytes::Bytes::from_static(b"../x");
        assert_eq!(ManifestEntry::try_from(message).unwrap_err().path, "artifact.path");
    }

    #[test]
    fn a_target_without_addresses_or_parts_is_refused() {
        let target =
            UploadTarget { upload_id: Some("u".into()), part_size: 8, urls: vec!["http://x".into()] };
        let message = v1::UploadTarget::from(target.clone());
        assert_eq!(UploadTarget::try_from(message.clone()), Ok(target));
        assert!(UploadTarget::try_from(v1::UploadTarget { urls: vec![], ..message.clone() }).is_err());
        assert!(UploadTarget::try_from(v1::UploadTarget { part_size: 0, ..message }).is_err());
    }
}
