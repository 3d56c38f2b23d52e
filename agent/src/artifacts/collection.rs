//! One collection: the walk feeds addresses, addresses feed uploads, uploads fill pages of the manifest. Each stage
//! waits for the next, so a million files are never in memory together.

use super::{
    Collected, Config, Error,
    collect::{Batch, Found, Item, walk},
    select::Selection,
    upload::{Opened, Stop, Upload, Uploaded},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use longshore_common::{
    artifact::ManifestEntry,
    job::{Outcome, Outputs},
};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;

/// One page of the manifest, in files and in bytes of their names.
const PAGE_FILES: usize = 5_000;
const PAGE_NAMES: usize = 1 << 20;
/// Lines of notes kept; the rest is counted.
const MOST_NOTES: usize = 20;
/// How often a long collection tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the walk hands over, and what it left out.
enum Walked {
    Files(Vec<Found>),
    Skipped(String),
    /// `outputs` allows no more.
    Limit(String),
    Unreadable(String),
}

pub(super) async fn run(upload: Upload, outputs: &Outputs, config: &Config) -> Result<Collected, Error> {
    let selection = match Selection::new(outputs) {
        Ok(selection) => selection,
        Err(detail) => {
            let problem = Some((Outcome::InvalidContract, detail));
            return Ok(Collected { problem, ..Collected::default() });
        }
    };
    let mut tally = Tally::default();
    let upload = Arc::new(upload);
    let walked = start_walk(&upload, selection, outputs);
    let ended = store_all(&upload, walked, config, &mut tally).await;
    let ended = match ended {
        Ok(()) => tally.put_page(&upload).await,
        stopped => stopped,
    };
    match ended {
        Err(Stop::Fenced(detail)) => return Err(Error::Fenced(detail)),
        Err(Stop::Failed(detail)) => {
            // Best effort: the outcome already says that something is missing.
            drop(tally.put_page(&upload).await);
            tally.fail(Outcome::ArtifactUploadFailed, detail);
        }
        Ok(()) => {}
    }
    Ok(tally.into_collected())
}

async fn store_all(
    upload: &Arc<Upload>,
    walked: mpsc::Receiver<Walked>,
    config: &Config,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let uploads = uploads(Arc::clone(upload), walked, config.files_at_once.max(1));
    tokio::pin!(uploads);
    let mut tick = interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            next = uploads.try_next() => match next? {
                Some(done) => tally.note(done),
                None => return Ok(()),
            },
            _ = tick.tick() => {
                let (count, bytes) = tally.stored();
                upload.progress.say(format!("artifacts: {count} files, {} so far", size(bytes)));
            }
        }
        if tally.page.len() >= PAGE_FILES || tally.page_names >= PAGE_NAMES {
            tally.put_page(upload).await?;
        }
    }
}

enum Done {
    File(Uploaded),
    Left(Walked),
}

fn uploads(
    upload: Arc<Upload>,
    walked: mpsc::Receiver<Walked>,
    at_once: usize,
) -> impl Stream<Item = Result<Done, Stop>> {
    let opener = Arc::clone(&upload);
    let mut next_ordinal = 0;
    ReceiverStream::new(walked)
        .map(move |walked| {
            let upload = Arc::clone(&opener);
            let first = next_ordinal;
            if let Walked::Files(files) = &walked {
                next_ordinal += files.len() as u64;
            }
            async move { open(&upload, first, walked).await }
        })
        // The addresses of the next batch are asked for while this one is on its way.
        .buffered(2)
        .map_ok(|opened| futures::stream::iter(opened.into_iter().map(Ok::<_, Stop>)))
        .try_flatten()
        .map_ok(move |next| {
            let upload = Arc::clone(&upload);
            async move {
                match next {
                    Next::File(opened) => Box::pin(upload.store(opened)).await.map(Done::File),
                    Next::Left(left) => Ok(Done::Left(left)),
                }
            }
        })
        .try_buffer_unordered(at_once)
}

enum Next {
    File(Opened),
    Left(Walked),
}

async fn open(upload: &Upload, first: u64, walked: Walked) -> Result<Vec<Next>, Stop> {
    match walked {
        Walked::Files(files) => Ok(upload.open(first, files).await?.into_iter().map(Next::File).collect()),
        left => Ok(vec![Next::Left(left)]),
    }
}

/// Walks in the background; full channels hold it back, a dropped one ends it.
fn start_walk(upload: &Arc<Upload>, selection: Selection, outputs: &Outputs) -> mpsc::Receiver<Walked> {
    let (walked, receiver) = mpsc::channel(2);
    let folder = Arc::clone(&upload.folder);
    let mut budget = Budget::new(outputs);
    tokio::task::spawn_blocking(move || {
        let mut batch = Batch::default();
        let send = |what: Walked| match walked.blocking_send(what) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let result = walk(&folder, &selection, &mut |item| match item {
            Item::Skipped(why) => send(Walked::Skipped(why)),
            Item::File(found) => match budget.take(&found) {
                Verdict::Fits => {
                    batch.push(found).map_or(ControlFlow::Continue(()), |full| send(Walked::Files(full)))
                }
                Verdict::TooLarge => ControlFlow::Continue(()),
                Verdict::TooMany => ControlFlow::Break(()),
            },
        });
        let end = [
            batch.take().map(Walked::Files),
            budget.problem().map(Walked::Limit),
            result.err().map(|err| Walked::Unreadable(format!("/out cannot be read: {err}"))),
        ];
        let _ended = end.into_iter().flatten().try_for_each(send);
    });
    receiver
}

enum Verdict {
    Fits,
    TooLarge,
    TooMany,
}

/// What `outputs` still allows.
struct Budget {
    max_files: u64,
    max_size: u64,
    files: u64,
    bytes: u64,
    too_many: bool,
    /// Count, bytes and first name of what did not fit.
    left_out: Option<(u64, u64, String)>,
}

impl Budget {
    const fn new(outputs: &Outputs) -> Self {
        let (max_files, max_size) = (outputs.max_files, outputs.max_size_bytes);
        Self { max_files, max_size, files: 0, bytes: 0, too_many: false, left_out: None }
    }

    fn take(&mut self, found: &Found) -> Verdict {
        if self.files == self.max_files {
            self.too_many = true;
            return Verdict::TooMany;
        }
        if self.bytes.saturating_add(found.size) > self.max_size {
            let first = || (0, 0, super::collect::shown(&found.path));
            let (count, bytes, _) = self.left_out.get_or_insert_with(first);
            *count += 1;
            *bytes = bytes.saturating_add(found.size);
            return Verdict::TooLarge;
        }
        self.files += 1;
        self.bytes += found.size;
        Verdict::Fits
    }

    fn problem(&self) -> Option<String> {
        if self.too_many {
            return Some(format!("/out has more than the {} files of outputs.max_files", self.max_files));
        }
        let (count, bytes, name) = self.left_out.as_ref()?;
        let (bytes, limit) = (size(*bytes), size(self.max_size));
        Some(format!(
            "{count} files with {bytes} left out above the {limit} of outputs.max_size, first {name}"
        ))
    }
}

#[derive(Default)]
struct Tally {
    collected: Collected,
    page: Vec<ManifestEntry>,
    page_names: usize,
    notes_left_out: u64,
}

impl Tally {
    fn note(&mut self, done: Done) {
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
    fn fail(&mut self, outcome: Outcome, detail: String) {
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

    /// Files and bytes, those not yet listed included.
    fn stored(&self) -> (u64, u64) {
        let bytes: u64 = self.page.iter().map(|entry| entry.artifact.size).sum();
        (self.collected.count + self.page.len() as u64, self.collected.bytes + bytes)
    }

    /// Only what a page lists is counted as stored.
    async fn put_page(&mut self, upload: &Upload) -> Result<(), Stop> {
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

    fn into_collected(mut self) -> Collected {
        if self.notes_left_out > 0 {
            self.collected.notes.push(format!("and {} more", self.notes_left_out));
        }
        self.collected
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}
