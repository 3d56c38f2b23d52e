//! One collection: the walk feeds addresses, addresses feed uploads, uploads fill pages of the manifest. Each stage
//! waits for the next, so a million files are never in memory together.

use super::{
    Collected, Config, Error,
    budget::{Budget, Verdict},
    collect::{Batch, Found, Item, Reach, Walk, walk},
    select::Selection,
    tally::Tally,
    upload::{Opened, Stop, Upload, Uploaded},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use longshore_common::{
    job::{Outcome, Outputs},
    units::ByteSize,
};
use std::{ops::ControlFlow, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;

/// How often a long collection tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the walk hands over, and what it left out.
pub(super) enum Walked {
    Files(Vec<Found>),
    Skipped(String),
    /// `outputs` allows no more.
    Limit(String),
    Unreadable(String),
}

pub(super) async fn run(
    upload: Upload,
    outputs: &Outputs,
    scratch: u64,
    config: &Config,
) -> Result<Collected, Error> {
    let selection = match Selection::new(outputs) {
        Ok(selection) => selection,
        Err(detail) => {
            let problem = Some((Outcome::InvalidContract, detail));
            return Ok(Collected { problem, ..Collected::default() });
        }
    };
    let mut tally = Tally::default();
    let upload = Arc::new(upload);
    let reach = Reach { entries: config.most_entries, until: upload.deadline.into_std() };
    let walked = start_walk(&upload, selection, reach, Budget::new(outputs, scratch));
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
                upload.progress.say(format!("artifacts: {count} files, {} so far", ByteSize(bytes).rounded()));
            }
        }
        if tally.page_is_full() {
            tally.put_page(upload).await?;
        }
    }
}

pub(super) enum Done {
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
fn start_walk(
    upload: &Arc<Upload>,
    selection: Selection,
    reach: Reach,
    mut budget: Budget,
) -> mpsc::Receiver<Walked> {
    let (walked, receiver) = mpsc::channel(2);
    let folder = Arc::clone(&upload.folder);
    tokio::task::spawn_blocking(move || {
        let mut batch = Batch::default();
        let send = |what: Walked| match walked.blocking_send(what) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let result = walk(&folder, &selection, reach, &mut |item| match item {
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
            match result {
                Ok(Walk::Over) => None,
                Ok(Walk::TooMany) => Some(Walked::Limit(format!(
                    "/out has more than {} entries, folders, links and files that are not kept among them: what came \
                     behind these was not looked at",
                    reach.entries
                ))),
                Ok(Walk::Late(seen)) => Some(Walked::Unreadable(format!(
                    "the upload deadline passed while /out was read, after {seen} entries"
                ))),
                Err(err) => Some(Walked::Unreadable(format!("/out cannot be read: {err}"))),
            },
        ];
        let _ended = end.into_iter().flatten().try_for_each(send);
    });
    receiver
}
