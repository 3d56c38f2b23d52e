//! What the controller says of its queue, asked all the time.

use crate::{client::Client, timeline::Timeline};
use longshore_common::tasks;
use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Health {
    queue: Arc<Mutex<Vec<(Duration, bool)>>>,
    task: JoinHandle<()>,
}

impl Health {
    pub(crate) fn ask(client: &Client, timeline: &Timeline) -> Self {
        let queue = Arc::new(Mutex::new(Vec::new()));
        let (told, client, timeline) = (Arc::clone(&queue), client.clone(), timeline.clone());
        let task = tasks::spawn("chaos.health", async move {
            loop {
                let status = client.status().await;
                let well = status
                    .is_ok_and(|status| status.parts.iter().any(|part| part.name == "queue" && part.healthy));
                told.lock().unwrap_or_else(PoisonError::into_inner).push((timeline.now(), well));
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { queue, task }
    }

    /// When it was asked, and whether the queue was well. Ends the asking.
    pub(crate) fn queue_well(self) -> Vec<(Duration, bool)> {
        self.task.abort();
        mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
