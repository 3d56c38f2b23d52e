//! How often a container of each job was started, as the engine tells it. Listens again whenever the engine is back.

use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::EventsOptionsBuilder};
use futures::StreamExt as _;
use longshore_common::tasks;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::task::JoinHandle;

const JOB_LABEL: &str = "longshore.job";
const AGAIN: Duration = Duration::from_millis(100);
/// Events are asked for again from a little before: each is counted once.
const OVERLAP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Starts {
    /// Job and time of each.
    seen: Arc<Mutex<BTreeSet<(String, i64)>>>,
    task: JoinHandle<()>,
}

impl Starts {
    pub(crate) fn listen(socket: &str) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (starts, socket) = (Arc::clone(&seen), socket.to_owned());
        let task = tasks::spawn("chaos.starts", async move {
            let mut since = SystemTime::now();
            loop {
                if let Ok(docker) = Docker::connect_with_unix(&socket, 10, API_DEFAULT_VERSION)
                    && let Ok(docker) = docker.negotiate_version().await
                {
                    follow(&docker, &mut since, &starts).await;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { seen, task }
    }

    /// Starts by job, and an end of listening.
    pub(crate) fn counts(self) -> HashMap<String, u32> {
        self.task.abort();
        let mut counts = HashMap::new();
        for (job, _) in self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *counts.entry(job.clone()).or_default() += 1;
        }
        counts
    }
}

async fn follow(docker: &Docker, since: &mut SystemTime, starts: &Mutex<BTreeSet<(String, i64)>>) {
    let from = (*since - OVERLAP).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let filters =
        HashMap::from([("type", vec!["container"]), ("event", vec!["start"]), ("label", vec![JOB_LABEL])]);
    let options = EventsOptionsBuilder::new()
        .filters(&filters)
        .since(&format!("{}.{:09}", from.as_secs(), from.subsec_nanos()))
        .build();
    let mut events = std::pin::pin!(docker.events(Some(options)));
    while let Some(Ok(event)) = events.next().await {
        let job = event.actor.and_then(|actor| actor.attributes?.remove(JOB_LABEL));
        if let (Some(job), Some(at)) = (job, event.time_nano) {
            starts.lock().unwrap_or_else(PoisonError::into_inner).insert((job, at));
        }
        *since = SystemTime::now();
    }
}
