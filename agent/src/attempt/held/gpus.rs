//! What is seen of GPUs, told to the attempts that have them: faults stop, strangers and errors go into the log, use
//! is counted.

use super::{Entry, Held, Holding};
use crate::{
    attempt::stop::Cause,
    capacity::Containers,
    gpus::{Finding, Idle, Looks, Meter, Sample, Signal},
    host::GpuReading,
};
use longshore_common::{
    agent::GpuUsage,
    ids::AttemptRef,
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
/// A driver may tell of a fault so long after it has ended a container.
const AFTERMATH: Duration = Duration::from_secs(30);
/// And of a program's own error so long. Later ones are of whoever has the GPU then.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a job reads whose devices were set anew behind the engine's back.
const SHUT_OUT: &str = "gpu_access: this container's devices were set anew without its GPUs (`systemctl daemon-reload` on \
     the machine does that); what has a GPU open goes on, what opens one from now on fails";

/// Of one attempt.
#[derive(Debug)]
pub(super) struct Share {
    uuids: Vec<String>,
    /// How much of its memory it may have, of a shared one.
    limit: Option<u64>,
    container: Container,
    /// Whether its container may open GPUs, as far as that was seen.
    opens: bool,
    meter: Meter,
    lines: mpsc::Sender<String>,
    told: BTreeSet<String>,
    story: Story,
    /// The container has ended: nothing stops it any more.
    ended: Option<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Container {
    /// There is none yet, or its id is not known.
    #[default]
    Coming,
    /// No process could show it.
    Nameless,
    Known(String),
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
    /// And those that may be of others who use the same GPU.
    pub(crate) doubtful: Vec<String>,
    /// Its container cannot open GPUs any more.
    pub(crate) shut_out: bool,
    /// The driver did not answer when it ended.
    pub(crate) unknown: bool,
}

impl Share {
    pub(super) fn new(lines: mpsc::Sender<String>) -> Self {
        Self {
            uuids: Vec::new(),
            limit: None,
            container: Container::Coming,
            opens: false,
            meter: Meter::default(),
            lines,
            told: BTreeSet::new(),
            story: Story::default(),
            ended: None,
        }
    }

    pub(super) fn lines(&self) -> mpsc::Sender<String> {
        self.lines.clone()
    }

    fn ended_before(&self, length: Duration) -> bool {
        self.ended.is_some_and(|ended| ended.elapsed() > length)
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
    fn fails(&mut self, xid: Option<u32>, detail: &str) {
        // Later it is somebody else's, most likely.
        if !self.gpus.ended_before(AFTERMATH) {
            self.gpus.story.fault.get_or_insert_with(|| (xid, detail.to_owned()));
        }
        if self.gpus.ended.is_none() {
            self.stopper.raise(Cause::GpuFault { xid, detail: detail.to_owned() });
        }
    }

    fn errs(&mut self, line: &str, sure: bool) {
        if sure {
            if self.gpus.tell(line) {
                self.gpus.story.errors.push(line.to_owned());
            }
            return;
        }
        let line =
            format!("{line}; others may use this GPU too, and the driver does not say whose program it was");
        if self.gpus.tell(&line) {
            self.gpus.story.doubtful.push(line);
        }
    }

    fn has(&self, uuid: &str) -> bool {
        self.gpus.uuids.iter().any(|own| own == uuid)
    }

    /// Its container has GPUs in its hands.
    fn runs(&self) -> bool {
        self.attempt.phase == JobState::Running && self.gpus.ended.is_none()
    }

    /// Of a shared GPU others use, nobody can say that one lets it lie idle.
    fn count(&mut self, now: Instant, readings: &[GpuReading], idle: &Idle) -> Option<Finding> {
        let samples: Vec<Sample<'_>> = (readings.iter())
            .filter(|reading| self.has(&reading.gpu.uuid) && reading.fault.is_none())
            .map(|reading| Sample {
                uuid: &reading.gpu.uuid,
                index: reading.gpu.index,
                memory_bytes: own_memory(reading, &self.gpus.container),
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
fn own_memory(reading: &GpuReading, container: &Container) -> u64 {
    let own = reading.processes.iter().filter(|process| match container {
        Container::Known(own) => process.container.as_ref() == Some(own),
        Container::Nameless => process.container.is_some(),
        Container::Coming => false,
    });
    own.map(|process| process.memory_bytes).sum()
}

impl Held {
    pub(crate) fn looks(&self) -> &Looks {
        &self.0.looks
    }

    /// Those that have GPUs, by UUID.
    pub(crate) fn containers(&self) -> BTreeMap<String, Containers> {
        let mut all: BTreeMap<String, Containers> = BTreeMap::new();
        for share in self.lock().values().map(|entry| &entry.gpus) {
            for uuid in &share.uuids {
                let none = || Containers { coming: false, ..Containers::default() };
                let had = all.entry(uuid.clone()).or_insert_with(none);
                match &share.container {
                    Container::Coming => had.coming = true,
                    Container::Nameless => had.nameless = true,
                    Container::Known(id) => drop(had.known.insert(id.clone())),
                }
            }
        }
        all
    }

    /// Jobs whose containers cannot open their GPUs any more.
    pub(crate) fn shut_out(&self) -> Vec<String> {
        let entries = self.lock();
        let shut_out = entries.values().filter(|entry| entry.gpus.story.shut_out && entry.runs());
        shut_out.map(|entry| entry.serves.job.clone()).collect()
    }

    /// A line for its log, once.
    pub(crate) fn tell(&self, attempt: &AttemptRef, line: &str) {
        if let Some(entry) = self.lock().get_mut(attempt) {
            entry.gpus.tell(line);
        }
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
        let mut entries = self.lock();
        let concerned = entries.values_mut().filter(|entry| concerns(entry));
        match signal {
            Signal::Fault { xid, detail, .. } => concerned.for_each(|entry| entry.fails(*xid, detail)),
            Signal::Told { line, .. } => {
                // It is a running program's. The driver names the GPU, not the instance nor the process.
                let mut told: Vec<&mut Entry> = concerned
                    .filter(|entry| entry.attempt.phase == JobState::Running)
                    .filter(|entry| !entry.gpus.ended_before(LAST_WORDS))
                    .collect();
                let alone = told.len() == 1;
                for entry in &mut told {
                    let sure = alone && entry.has(gpu);
                    entry.errs(line, sure);
                }
            }
        }
    }

    /// Somebody else's process is on a GPU that an attempt has.
    pub(crate) fn gpu_stranger(&self, uuid: &str, who: &str) {
        for entry in self.lock().values_mut().filter(|entry| entry.has(uuid) && entry.gpus.ended.is_none()) {
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
        let named = id.len() == ID;
        let container = if named { Container::Known(id.to_owned()) } else { Container::Nameless };
        self.update(|entry| entry.gpus.container = container);
    }

    /// Whether its container may open GPUs. One that could and cannot any more was cut off by somebody on the machine:
    /// what has a GPU open goes on, so it is not ended.
    pub(crate) fn opens_gpus(&self, may: bool) {
        self.update(|entry| {
            let could = std::mem::replace(&mut entry.gpus.opens, may);
            if could && !may && entry.gpus.tell(SHUT_OUT) {
                tracing::warn!(job = entry.serves.job, "its container cannot open its GPUs any more");
                entry.gpus.story.shut_out = true;
            }
        });
    }

    /// Its container has ended: a fault from now on is only noted, for whoever asks how it came.
    pub(crate) fn ended(&self) {
        self.update(|entry| {
            entry.gpus.ended = Some(Instant::now());
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

    /// Waits for a look at the GPUs that begins now, then says what happened to them. A driver that is slow is waited
    /// for, unless it has told of a fault: after one it often is.
    pub(crate) async fn story(&self) -> Story {
        let enough = {
            let (held, attempt) = (self.held.clone(), self.attempt);
            move || held.lock().get(&attempt).is_some_and(|entry| entry.gpus.story.fault.is_some())
        };
        let seen = self.held.looks().fresh(AFTERMATH, enough).await;
        Story { unknown: !seen, ..self.story_so_far() }
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

#[cfg(test)]
mod tests;
