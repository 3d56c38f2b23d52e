//! What a collection has stored and left out, and the page of the manifest that is being filled.

use super::{
    Collected,
    collection::{Done, Walked},
    upload::{Stop, Upload, Uploaded},
};
use longshore_common::{artifact::ManifestEntry, job::Outcome};

/// One page of the manifest, in files and in bytes of their names.
const PAGE_FILES: usize = 5_000;
const PAGE_NAMES: usize = 1 << 20;
/// Lines of notes kept; the rest is counted.
const MOST_NOTES: usize = 20;

#[derive(Default)]
pub(super) struct Tally {
    collected: Collected,
    page: Vec<ManifestEntry>,
    page_names: usize,
    notes_left_out: u64,
}

impl Tally {
    pub(super) fn note(&mut self, done: Done) {
        match done {
            Done::File(Uploaded::Stored(entry)) => {
                self.page_names += entry.artifact.path.len();
                self.page.push(entry);
            }
            Done::File(Uploaded::Gone(line)) | Done::Left(Walked::Skipped(line)) => self.note_line(line),
            Done::File(Uploaded::Unreadable(detail)) | Done::Left(Walked::Unreadable(detail)) => {
                self.fail(Outcome::ArtifactUploadFailed, detail);
            }
            Done::Left(Walked::Limit(detail)) => self.fail(Outcome::ArtifactLimit, detail),
            Done::Left(Walked::Files(_)) => {}
        }
    }

    fn note_line(&mut self, line: String) {
        if self.collected.notes.len() < MOST_NOTES {
            self.collected.notes.push(line);
        } else {
            self.notes_left_out += 1;
        }
    }

    /// The first problem decides, but a failed upload is worse than a limit.
    pub(super) fn fail(&mut self, outcome: Outcome, detail: String) {
        match &self.collected.problem {
            Some((Outcome::ArtifactLimit, limit)) if outcome == Outcome::ArtifactUploadFailed => {
                let limit = limit.clone();
                self.note_line(limit);
                self.collected.problem = Some((outcome, detail));
            }
            Some(_) => self.note_line(detail),
            None => self.collected.problem = Some((outcome, detail)),
        }
    }

    pub(super) fn page_is_full(&self) -> bool {
        self.page.len() >= PAGE_FILES || self.page_names >= PAGE_NAMES
    }

    /// Files and bytes, those not yet listed included.
    pub(super) fn stored(&self) -> (u64, u64) {
        let bytes: u64 = self.page.iter().map(|entry| entry.artifact.size).sum();
        (self.collected.count + self.page.len() as u64, self.collected.bytes + bytes)
    }

    /// Only what a page lists is counted as stored.
    pub(super) async fn put_page(&mut self, upload: &Upload) -> Result<(), Stop> {
        if self.page.is_empty() {
            return Ok(());
        }
        self.page.sort_unstable_by_key(|entry| entry.ordinal);
        let (count, bytes) = self.stored();
        upload.put_manifest(self.collected.pages, self.page.clone()).await?;
        self.page.clear();
        self.page_names = 0;
        self.collected.pages += 1;
        self.collected.count = count;
        self.collected.bytes = bytes;
        Ok(())
    }

    pub(super) fn into_collected(mut self) -> Collected {
        if self.notes_left_out > 0 {
            self.collected.notes.push(format!("and {} more", self.notes_left_out));
        }
        self.collected
    }
}
