//! The agent's one shipper: takes what several attempts have pending, sends it in one call, goes on where the
//! controller says. At once while nothing is on its way, in larger pieces under load. Never gives up for a
//! controller that does not answer.

use super::{
    Config, Shipped,
    log::{Log, Wish},
    spool::{Plan, lock},
};
use crate::link::{Controller, Error, LogAppend};
use longshore_common::{retry::Backoff, tasks};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// An unfinished line is shown after this long: progress bars move.
const PARTIAL_AFTER: Duration = Duration::from_millis(100);
/// Logs in one call: an answer to each has to be built and read.
const MOST_LOGS: usize = 256;
/// The least a log may send in a call: two records of the longest kind.
const LEAST_BYTES: usize = 128 << 10;
/// A call that takes longer has lost its connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Logs that wish something. Each log is in each list at most once, which bounds both.
#[derive(Debug, Default)]
pub(super) struct Lists {
    ready: Mutex<VecDeque<Arc<Log>>>,
    ready_changed: Notify,
    unfinished: Mutex<VecDeque<(Instant, Arc<Log>)>>,
    unfinished_changed: Notify,
}

impl Lists {
    pub(super) fn grant(&self, log: &Arc<Log>, wish: Wish) {
        if wish.ship {
            lock(&self.ready).push_back(Arc::clone(log));
            self.ready_changed.notify_one();
        }
        if wish.timer {
            let due = Instant::now() + PARTIAL_AFTER;
            lock(&self.unfinished).push_back((due, Arc::clone(log)));
            self.unfinished_changed.notify_one();
        }
    }

    fn next_unfinished(&self) -> Option<(Instant, Arc<Log>)> {
        lock(&self.unfinished).pop_front()
    }

    /// Ready logs, and how much each may send.
    fn take_ready(&self, call_bytes: usize) -> (Vec<Arc<Log>>, usize) {
        let mut ready = lock(&self.ready);
        let count = ready.len().min(MOST_LOGS);
        let each = (call_bytes / count.max(1)).max(LEAST_BYTES);
        let count = count.min(call_bytes.div_ceil(LEAST_BYTES));
        (ready.drain(..count).collect(), each)
    }
}

/// Starts the two loops of an agent. They end with the process.
pub(super) fn start(controller: Arc<dyn Controller>, lists: &Arc<Lists>, config: &Config) {
    let shipper = Shipper {
        controller,
        lists: Arc::clone(lists),
        call_bytes: config.call_bytes,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
        away: false,
    };
    tasks::spawn("log shipper", shipper.run());
    tasks::spawn("log flusher", flush_unfinished(Arc::clone(lists)));
}

/// Every line waits equally long, so the list is in order of time.
async fn flush_unfinished(lists: Arc<Lists>) {
    loop {
        match lists.next_unfinished() {
            None => lists.unfinished_changed.notified().await,
            Some((due, log)) => {
                tokio::time::sleep_until(due).await;
                lists.grant(&log, log.flush());
            }
        }
    }
}

struct Shipper {
    controller: Arc<dyn Controller>,
    lists: Arc<Lists>,
    call_bytes: usize,
    backoff: Backoff,
    away: bool,
}

/// One log's part of a call.
struct Part {
    log: Arc<Log>,
    append: LogAppend,
}

impl Shipper {
    async fn run(mut self) {
        loop {
            let (logs, each) = self.lists.take_ready(self.call_bytes);
            if logs.is_empty() {
                self.lists.ready_changed.notified().await;
                continue;
            }
            let parts = gather(logs, each).await;
            if parts.is_empty() {
                continue;
            }
            if self.send(parts).await {
                self.backoff.reset();
            } else {
                self.backoff.wait().await;
            }
        }
    }

    /// Returns whether any log came further.
    async fn send(&mut self, parts: Vec<Part>) -> bool {
        let appends = parts.iter().map(|part| part.append.clone()).collect();
        let call = self.controller.append_logs(appends);
        let answer = tokio::time::timeout(CALL_TIMEOUT, call)
            .await
            .unwrap_or_else(|_| Err(Error::Unreachable("no answer to a log append".to_owned())));
        match answer {
            Ok(answers) => {
                self.note_answer(None);
                let mut progress = false;
                let mut answers = answers.into_iter();
                for part in parts {
                    let silent = || Err(Error::Unreachable("no answer for this log".to_owned()));
                    progress |= self.settle(&part, answers.next().unwrap_or_else(silent));
                }
                progress
            }
            Err(err) => {
                self.note_answer(Some(&err));
                parts.iter().for_each(|part| self.again(&part.log));
                false
            }
        }
    }

    /// Acts on the answer for one log. Returns whether it came further.
    fn settle(&self, part: &Part, answer: Result<u64, Error>) -> bool {
        let log = &part.log;
        match answer {
            Ok(stored) => {
                if log.stored(stored) {
                    self.again(log);
                }
                stored != part.append.offset
            }
            Err(Error::Unreachable(_) | Error::Denied(_)) => {
                self.again(log);
                false
            }
            Err(Error::Fenced(_)) => {
                log.give_up(Shipped::Fenced);
                true
            }
            Err(Error::Refused(detail)) => {
                tracing::warn!(attempt.id = %log.attempt, detail, "the controller does not take this log");
                log.give_up(Shipped::Refused(detail));
                true
            }
        }
    }

    fn again(&self, log: &Arc<Log>) {
        lock(&self.lists.ready).push_back(Arc::clone(log));
    }

    /// Told once when it goes away and once when it is back.
    fn note_answer(&mut self, error: Option<&Error>) {
        match error {
            None => {
                if std::mem::take(&mut self.away) {
                    tracing::info!("logs are being shipped again");
                }
            }
            Some(err) => {
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(error = %err, "logs cannot be shipped now; they are kept on disk");
                }
            }
        }
    }
}

/// Reads what each log sends; off the async threads if any of it lies on the disk.
async fn gather(logs: Vec<Arc<Log>>, each: usize) -> Vec<Part> {
    let plans: Vec<_> =
        logs.into_iter().filter_map(|log| log.take_plan(each).map(|plan| (log, plan))).collect();
    let on_disk = plans.iter().any(|(_, plan)| plan.needs_file());
    let read = move || plans.into_iter().filter_map(|(log, plan)| read_part(log, plan)).collect();
    if on_disk {
        tokio::task::spawn_blocking(read).await.expect("reading a spool does not panic")
    } else {
        read()
    }
}

fn read_part(log: Arc<Log>, plan: Plan) -> Option<Part> {
    let (attempt, offset) = (log.attempt, plan.from);
    match log.read(plan) {
        Ok(data) => Some(Part { append: LogAppend { attempt, offset, data }, log }),
        Err(err) => {
            tracing::error!(attempt.id = %attempt, error = %err, "log spool cannot be read");
            log.give_up(Shipped::Refused(format!("the agent's log spool cannot be read: {err}")));
            None
        }
    }
}
