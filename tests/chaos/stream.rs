//! Submits the jobs, cancels some, and watches all of them to their end.

use crate::{client::Client, jobs::Order, timeline::Timeline};
use longshore_common::tasks;
use longshore_proto::v1::{Job, JobState, SubmitRequest};
use longshore_tests::env::image;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::{JoinHandle, JoinSet};

/// Unfinished jobs the stream keeps up: both agents full, and as many queued again.
const UNFINISHED: usize = 30;
/// One in so many is submitted twice at once, as a client does whose answer was lost.
const TWICE: usize = 9;
const LOOK: Duration = Duration::from_millis(100);
/// After everything is healed, jobs may still have leases and backoffs to wait for. Without an end for so long, the
/// rest never ends.
const SETTLE: Duration = Duration::from_secs(180);

/// What the controller promised to do.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) repeats: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) order: Order,
    /// As the submit answered.
    pub(crate) id: String,
    pub(crate) uuid: String,
}

/// Jobs as they were last seen, and what must never have been seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    jobs: HashMap<String, Job>,
    broken: Vec<(String, String)>,
    revision: u64,
}

#[derive(Debug)]
pub(crate) struct Watch {
    watched: Watched,
    task: JoinHandle<()>,
}

/// Sends jobs until the time is over. A submit is repeated until it is accepted, whatever happens meanwhile.
pub(crate) async fn submit(
    client: &Client,
    watch: &Watch,
    seed: u64,
    timeline: &Timeline,
    length: Duration,
) -> anyhow::Result<Orders> {
    let image = image();
    let mut orders = Orders { accepted: Vec::new(), repeats: 0 };
    let mut cancels = JoinSet::new();
    while timeline.now() < length {
        if orders.accepted.len() - watch.watched.ended() >= UNFINISHED {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let order = Order::new(seed, orders.accepted.len());
        let request = SubmitRequest {
            request_id: format!("chaos-{seed}-{}", order.number),
            spec: Some(order.spec(&image, seed)),
            ..SubmitRequest::default()
        };
        let (job, repeats) = if order.number.is_multiple_of(TWICE) {
            let (one, other) = tokio::try_join!(client.submit(request.clone()), client.submit(request))?;
            anyhow::ensure!(one.0.id == other.0.id, "one request became two jobs: {one:?} {other:?}");
            one
        } else {
            client.submit(request).await?
        };
        orders.repeats += repeats;
        if let Some(after) = order.cancel_after {
            let (client, id) = (client.clone(), job.id.clone());
            cancels.spawn(async move {
                tokio::time::sleep(after).await;
                client.cancel(&id).await
            });
        }
        orders.accepted.push(Accepted { order, id: job.id, uuid: job.uuid });
    }
    for cancelled in cancels.join_all().await {
        cancelled?;
    }
    Ok(orders)
}

/// Waits until every job has ended, but not for ever: the checker says what has not.
pub(crate) async fn settle(client: &Client, accepted: &[Accepted], timeline: &Timeline) {
    let (mut moved, mut last) = (timeline.now(), usize::MAX);
    while timeline.now() - moved < SETTLE {
        let Ok(jobs) = client.list().await else { continue };
        let left = jobs.iter().filter(|job| !ended(job)).count();
        if left == 0 && jobs.len() >= accepted.len() {
            return timeline.note("every job has ended");
        }
        if left != last {
            timeline.note(&format!("{left} jobs are unfinished"));
            (moved, last) = (timeline.now(), left);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(crate) fn ended(job: &Job) -> bool {
    job.state >= JobState::Succeeded as i32
}

/// Follows all changes over every restart of the controller.
pub(crate) fn watch(client: &Client) -> Watch {
    let watched = Watched::default();
    let (client, seen) = (client.clone(), watched.clone());
    let task = tasks::spawn("chaos.watch", async move {
        loop {
            let from = seen.lock().revision.max(1);
            if let Ok(mut stream) = client.watch(from).await {
                while let Ok(Some(change)) = stream.message().await {
                    seen.saw(change.job.unwrap_or_default(), change.revision);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    Watch { watched, task }
}

impl Watch {
    pub(crate) fn stop(self) -> Watched {
        self.task.abort();
        self.watched
    }
}

impl Watched {
    /// Jobs that were seen to do what none may: id, and what.
    pub(crate) fn broken(&self) -> Vec<(String, String)> {
        self.lock().broken.clone()
    }

    fn ended(&self) -> usize {
        self.lock().jobs.values().filter(|job| ended(job)).count()
    }

    fn saw(&self, job: Job, revision: u64) {
        let mut seen = self.lock();
        seen.revision = seen.revision.max(revision);
        if let Some(before) = seen.jobs.get(&job.id) {
            let changed = if ended(before) && (before.state != job.state || before.outcome != job.outcome) {
                Some(format!("it had ended as {:?}, then was {:?}", before.outcome, job))
            } else if job.attempts < before.attempts {
                Some(format!("it had {} attempts, then {}", before.attempts, job.attempts))
            } else {
                None
            };
            if let Some(changed) = changed {
                seen.broken.push((job.id.clone(), changed));
            }
        }
        seen.jobs.insert(job.id.clone(), job);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
