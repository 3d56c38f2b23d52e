//! What `outputs` still allows, and what it did not. Pure.

use super::collect::{Found, shown};
use longshore_common::{job::Outputs, units::ByteSize};

/// Files may be this much longer than what they take: file systems compress.
const SPARSE: u64 = 4;

pub(super) enum Verdict {
    Fits,
    TooLarge,
    TooMany,
}

/// What `outputs` still allows.
pub(super) struct Budget {
    max_files: u64,
    max_size: u64,
    files: u64,
    bytes: u64,
    too_many: bool,
    /// What decides `max_size`.
    rule: &'static str,
    /// Count, bytes and first name of what did not fit.
    left_out: Option<(u64, u64, String)>,
}

impl Budget {
    /// `scratch` is what the files may take on disk. Holes and further links take nothing there, yet every byte of
    /// them is stored.
    pub(super) fn new(outputs: &Outputs, scratch: u64) -> Self {
        let disk = scratch.saturating_mul(SPARSE);
        let (max_size, rule) = if outputs.max_size_bytes <= disk {
            (outputs.max_size_bytes, "outputs.max_size")
        } else {
            (disk, "four times resources.scratch")
        };
        Self {
            max_files: outputs.max_files,
            max_size,
            files: 0,
            bytes: 0,
            too_many: false,
            rule,
            left_out: None,
        }
    }

    pub(super) fn take(&mut self, found: &Found) -> Verdict {
        if self.files == self.max_files {
            self.too_many = true;
            return Verdict::TooMany;
        }
        if self.bytes.saturating_add(found.size) > self.max_size {
            let first = || (0, 0, shown(&found.path));
            let (count, bytes, _) = self.left_out.get_or_insert_with(first);
            *count += 1;
            *bytes = bytes.saturating_add(found.size);
            return Verdict::TooLarge;
        }
        self.files += 1;
        self.bytes += found.size;
        Verdict::Fits
    }

    pub(super) fn problem(&self) -> Option<String> {
        if self.too_many {
            return Some(format!("/out has more than the {} files of outputs.max_files", self.max_files));
        }
        let (count, bytes, name) = self.left_out.as_ref()?;
        let (bytes, limit) = (ByteSize(*bytes).rounded(), ByteSize(self.max_size).rounded());
        Some(format!("{count} files with {bytes} left out above the {limit} of {}, first {name}", self.rule))
    }
}
