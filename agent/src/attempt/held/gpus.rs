//! What is seen of GPUs, told to the attempts that have them: faults stop, strangers and errors go into the log, use
//! is counted.

use super::{Entry, Held, Holding};
use crate::{
    attempt::stop::Cause,
    gpus::{Finding, Idle, Looks, Meter, Sample, Signal},
    host::GpuReading,
};
use longshore_common::{
    agent::GpuUsage,
    job::{GpuRequest, JobState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Lines that may wait for the log; more are dropped.
pub(super) const LINES: usize = 16;
/// Container ids have no other length; what is only played has none.
const ID: usize = 64;

/// Of one attempt.
#[derive(Debug)]
pub(super) struct Share {
    uuids: Vec<String>,
    /// How much of its memory it may have, of a shared one.
    limit: Option<u64>,
    container: Option<String>,
    meter: Meter,
    lines: mpsc::Sender<String>,
    told: BTreeSet<String>,
    story: Story,
    /// The container has ended: nothing stops it any more.
    ended: bool,
}

/// What happened to an attempt's GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// One of them failed: NVIDIA's number if there is one, and what happened.
    pub(crate) fault: Option<(Option<u32>, String)>,
    /// Who else came onto them.
    pub(crate) strangers: Vec<String>,
    /// Other errors.
    pub(crate) errors: Vec<String>,
}

impl Share {
    pub(super) fn new(lines: mpsc::Sender<String>) -> Self {
        Self {
            uuids: Vec::new(),
            limit: None,
            container: None,
            meter: Meter::default(),
            lines,
            told: BTreeSet::new(),
            story: Story::default(),
            ended: false,
        }
    }

    pub(super) fn lines(&self) -> mpsc::Sender<String> {
        self.lines.clone()
    }

    pub(super) fn usage(&self) -> GpuUsage {
        self.meter.usage()
    }

    /// Whether it had not been told yet.
    fn tell(&mut self, line: &str) -> bool {
        let news = self.told.insert(line.to_owned());
        if news {
            // A log that cannot keep up has worse to miss; the note stays.
            drop(self.lines.try_send(line.to_owned()));
        }
        news
    }
}

impl Entry {
    fn has(&self, uuid: &str) -> bool {
        self.gpus.uuids.iter().any(|own| own == uuid)
    }

    /// Its container has GPUs in its hands.
    fn runs(&self) -> bool {
        self.attempt.phase == JobState::Running && !self.gpus.ended
    }

    /// Of a shared GPU others use, nobody can say that one lets it lie idle.
    fn count(&mut self, now: Instant, readings: &[GpuReading], idle: &Idle) -> Option<Finding> {
        let samples: Vec<Sample<'_>> = (readings.iter())
            .filter(|reading| self.has(&reading.gpu.uuid) && reading.fault.is_none())
            .map(|reading| Sample {
                uuid: &reading.gpu.uuid,
                index: reading.gpu.index,
                memory_bytes: own_memory(reading, self.gpus.container.as_deref()),
                percent: reading.tells_utilisation.then_some(reading.gpu.utilisation_percent),
            })
            .collect();
        let used: u64 = samples.iter().map(|sample| sample.memory_bytes).sum();
        let found = self.gpus.meter.add(now, &samples, idle);
        self.attempt.usage.gpu = self.gpus.meter.usage();
        match self.gpus.limit {
            Some(limit) if used > limit => {
                self.stopper.raise(Cause::VramLimit { used, limit });
                None
            }
            Some(_) => None,
            None => found,
        }
    }
}

/// Of a container whose id no process could show every contained one is taken.
fn own_memory(reading: &GpuReading, container: Option<&str>) -> u64 {
    let own = reading.processes.iter().filter(|process| match (&process.container, container) {
        (Some(shown), Some(own)) => shown == own,
        (shown, None) => shown.is_some(),
        (None, Some(_)) => false,
    });
    own.map(|process| process.memory_bytes).sum()
}

impl Held {
    pub(crate) fn looks(&self) -> &Looks {
        &self.0.looks
    }

    /// UUID to the containers that have it, where they are known.
    pub(crate) fn containers(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for share in self.lock().values().map(|entry| &entry.gpus) {
            let Some(container) = &share.container else { continue };
            for uuid in &share.uuids {
                all.entry(uuid.clone()).or_default().insert(container.clone());
            }
        }
        all
    }

    /// Counts what running attempts use; what lies idle is said or ended.
    pub(crate) fn gpus_read(&self, now: Instant, readings: &[GpuReading], idle: &Idle) {
        for entry in self.lock().values_mut().filter(|entry| !entry.gpus.uuids.is_empty() && entry.runs()) {
            match entry.count(now, readings, idle) {
                Some(Finding { ends: true, detail }) => entry.stopper.raise(Cause::GpuIdle(detail)),
                Some(Finding { ends: false, detail }) => {
                    entry.gpus.tell(&format!("gpu_idle: {detail}; others may be waiting for it"));
                }
                None => {}
            }
        }
    }

    /// `whole`: the GPU that an instance is a part of.
    pub(crate) fn gpu_signal(&self, signal: &Signal, whole: impl Fn(&str) -> String) {
        let (Signal::Fault { gpu, .. } | Signal::Told { gpu, .. }) = signal;
        let concerns = |entry: &Entry| entry.gpus.uuids.iter().any(|own| own == gpu || whole(own) == *gpu);
        for entry in self.lock().values_mut().filter(|entry| concerns(entry)) {
            match signal {
                Signal::Fault { xid, detail, .. } => {
                    entry.gpus.story.fault.get_or_insert_with(|| (*xid, detail.clone()));
                    if !entry.gpus.ended {
                        entry.stopper.raise(Cause::GpuFault { xid: *xid, detail: detail.clone() });
                    }
                }
                Signal::Told { line, .. } => {
                    if entry.gpus.tell(line) {
                        entry.gpus.story.errors.push(line.clone());
                    }
                }
            }
        }
    }

    /// Somebody else's process is on a GPU that an attempt has.
    pub(crate) fn gpu_stranger(&self, uuid: &str, who: &str) {
        for entry in self.lock().values_mut().filter(|entry| entry.has(uuid) && !entry.gpus.ended) {
            if entry.gpus.tell(&format!("gpu_stranger: {who}; it is not of this job")) {
                entry.gpus.story.strangers.push(who.to_owned());
            }
        }
    }
}

impl Holding {
    pub(crate) fn has_gpus(&self, uuids: &[String], request: Option<&GpuRequest>) {
        let shared = request.filter(|request| request.shared && request.memory_bytes > 0);
        self.update(|entry| {
            entry.gpus.uuids = uuids.to_vec();
            entry.gpus.limit = shared.map(|shared| shared.memory_bytes);
        });
    }

    pub(crate) fn has_container(&self, id: &str) {
        let id = (id.len() == ID).then(|| id.to_owned());
        self.update(|entry| entry.gpus.container = id);
    }

    /// Its container has ended: a fault from now on is only noted, for whoever asks how it came.
    pub(crate) fn ended(&self) {
        self.update(|entry| {
            entry.gpus.ended = true;
            entry.inside = None;
            entry.over.cancel();
        });
    }

    /// The next line for the attempt's log. Cancel-safe.
    pub(crate) async fn line(&mut self) -> String {
        match self.lines.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }

    /// Waits for a look at the GPUs that begins now, then says what happened to them.
    pub(crate) async fn story(&self, patience: Duration) -> Story {
        self.held.looks().fresh(patience).await;
        self.story_so_far()
    }

    pub(crate) fn story_so_far(&self) -> Story {
        let entries = self.held.lock();
        entries.get(&self.attempt).map(|entry| entry.gpus.story.clone()).unwrap_or_default()
    }

    pub(crate) fn gpu_usage(&self) -> GpuUsage {
        let entries = self.held.lock();
        entries.get(&self.attempt).map(|entry| entry.gpus.usage()).unwrap_or_default()
    }
}
