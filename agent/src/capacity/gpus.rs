//! Whether a GPU is free, ours, still held by a job that is over, or used by somebody else.

use super::{Config, OVER, window::Window};
use crate::host::{GpuProcess, GpuReading};
use longshore_common::agent::{Gpu, Keeper};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// VRAM others may hold on a free GPU: contexts of daemons and displays.
const VRAM_ALLOWED: u64 = 512 << 20;

/// Percent over the window that others may compute on a free GPU.
const UTILISATION_ALLOWED: u64 = 5;

/// After a grant ended, NVML's utilisation still shows our own job for a moment.
const AFTERGLOW: Duration = Duration::from_secs(2);

/// Follows every GPU's utilisation while it is not ours.
#[derive(Debug)]
pub struct GpuWatch {
    config: Config,
    last: Option<Instant>,
    gpus: BTreeMap<String, Usage>,
    /// By UUID.
    containers: BTreeMap<String, Containers>,
    strangers: Vec<Stranger>,
}

/// Those that have a GPU, which may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    pub known: BTreeSet<String>,
    /// One more is not known yet: what runs in a container may be its own.
    pub coming: bool,
    /// One has no name that a process could show: what runs in a container is its own.
    pub nameless: bool,
}

impl Default for Containers {
    /// Of a job that has just come.
    fn default() -> Self {
        Self { known: BTreeSet::new(), coming: true, nameless: false }
    }
}

/// A process of nobody's on a GPU that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    pub gpu: String,
    /// `python of anna (pid 4711) holds 22 GiB of GPU 0`
    pub who: String,
}

#[derive(Debug)]
struct Usage {
    window: Window,
    ours_until: Option<Instant>,
    /// The job that has it, or had it and may not have let it go.
    job: Option<String>,
    /// Processes in containers that came while that job had it.
    own: BTreeSet<u32>,
    /// As it was when nobody of ours had it.
    before: Option<AtRest>,
    leftover: Option<String>,
}

/// What is on a GPU that is not granted.
#[derive(Debug)]
struct AtRest {
    pids: BTreeSet<u32>,
    /// Memory of no listed process: the driver's own.
    unlisted: u64,
}

impl GpuWatch {
    pub fn new(config: Config) -> Self {
        Self { config, last: None, gpus: BTreeMap::new(), containers: BTreeMap::new(), strangers: Vec::new() }
    }

    /// Which containers have GPUs from now on.
    pub fn know(&mut self, containers: BTreeMap<String, Containers>) {
        self.containers = containers;
    }

    /// Who is on granted GPUs, as of the last reading.
    pub fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    /// Takes a reading and answers every GPU with its job, and with why it is busy. `granted`: UUID to job.
    pub fn observe(
        &mut self,
        now: Instant,
        readings: &[GpuReading],
        granted: &BTreeMap<String, String>,
    ) -> Vec<Gpu> {
        let length =
            self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.strangers.clear();
        self.gpus.retain(|uuid, _| readings.iter().any(|reading| reading.gpu.uuid == *uuid));
        readings.iter().map(|reading| self.judge(now, length, reading, granted)).collect()
    }

    /// What jobs that are over have not let go.
    pub fn leftovers(&self) -> Vec<String> {
        self.gpus.values().filter_map(|usage| usage.leftover.clone()).collect()
    }

    fn judge(
        &mut self,
        now: Instant,
        length: Duration,
        reading: &GpuReading,
        granted: &BTreeMap<String, String>,
    ) -> Gpu {
        let job = granted.get(&reading.gpu.uuid).cloned();
        let containers = self.containers.get(&reading.gpu.uuid).cloned().unwrap_or_default();
        let usage = self.gpus.entry(reading.gpu.uuid.clone()).or_insert_with(Usage::new);
        usage.follow(reading, job.as_deref(), &containers);
        if job.is_some() {
            usage.ours_until = Some(now);
            usage.window.clear();
        } else if usage.ours_until.is_none_or(|until| now.duration_since(until) > AFTERGLOW) {
            usage.window.add(now, length, reading.gpu.utilisation_percent.into());
        }
        let (busy, keeper) = match &reading.fault {
            Some(fault) => (Some(format!("set aside: {fault}")), None),
            None if usage.leftover.is_some() => {
                (usage.leftover.as_ref().map(|why| format!("reserved: {why}")), None)
            }
            None if !self.config.count => (None, None),
            None => {
                let who = self.stranger(reading, job.is_some().then_some(&containers));
                let keeper = who.as_ref().map(|_| Keeper::Stranger);
                (who, keeper)
            }
        };
        Gpu { job, busy, keeper, ..reading.gpu.clone() }
    }

    /// Who else is on it. On a granted GPU the processes of the job's container are its own, and so may be what no
    /// listed process holds.
    fn stranger(&mut self, reading: &GpuReading, own: Option<&Containers>) -> Option<String> {
        let foreign: Vec<&GpuProcess> =
            reading.processes.iter().filter(|process| self.is_foreign(process, own)).collect();
        let listed: u64 = foreign.iter().map(|process| process.memory_bytes).sum();
        let hidden = if own.is_none() { unlisted(reading) } else { 0 };
        if listed.saturating_add(hidden) > VRAM_ALLOWED && hidden >= listed {
            let there = foreign.first().map(|process| format!("; {} is on it", named(process)));
            let held =
                format!("{} are held by no process that the driver lists with its memory", amount(hidden));
            return Some(held + &there.unwrap_or_default());
        }
        if listed.saturating_add(hidden) > VRAM_ALLOWED {
            let tells = foreign.iter().filter(|process| own.is_some() && process.memory_bytes > 0);
            let stranger = |process: &&GpuProcess| Stranger {
                gpu: reading.gpu.uuid.clone(),
                who: format!("{} of GPU {}", told(process), reading.gpu.index),
            };
            self.strangers.extend(tells.map(stranger));
            return foreign.iter().max_by_key(|process| process.memory_bytes).map(|process| told(process));
        }
        let mean = self.gpus.get(&reading.gpu.uuid).map_or(0, |usage| usage.window.mean());
        (mean > UTILISATION_ALLOWED).then(|| match foreign.first() {
            Some(process) => format!("{}, {mean} % busy over 30 s", told(process)),
            None => format!("somebody keeps it {mean} % busy over 30 s"),
        })
    }

    /// `own`: of a granted one.
    fn is_foreign(&self, process: &GpuProcess, own: Option<&Containers>) -> bool {
        let coming = |own: &Containers| own.coming && process.container.is_some();
        let ours = own.is_some_and(|own| own.has(process) || coming(own));
        !ours && !process.graphics && !self.config.gpu_ignore.contains(&process.name)
    }
}

impl Usage {
    fn new() -> Self {
        Self {
            window: Window::new(OVER),
            ours_until: None,
            job: None,
            own: BTreeSet::new(),
            before: None,
            leftover: None,
        }
    }

    /// A GPU that was given back is the job's until nothing of it is left: a process that cannot be killed holds its
    /// memory after its container is gone, and a driver may for longer than that.
    fn follow(&mut self, reading: &GpuReading, job: Option<&str>, containers: &Containers) {
        if reading.fault.is_some() {
            return;
        }
        if let Some(job) = job {
            if self.job.as_deref() != Some(job) {
                self.own.clear();
            }
            self.job = Some(job.to_owned());
            self.leftover = None;
            let is_new = |pid: &u32| self.before.as_ref().is_none_or(|before| !before.pids.contains(pid));
            let inside = reading.processes.iter().filter(|process| containers.has(process));
            self.own.extend(inside.map(|process| process.pid).filter(is_new));
            return;
        }
        self.leftover = self.job.as_deref().and_then(|job| {
            let held = self.left_by(reading)?;
            Some(format!("{job} is over and {held} on GPU {}", reading.gpu.index))
        });
        if self.leftover.is_none() {
            let pids = reading.processes.iter().map(|process| process.pid).collect();
            self.before = Some(AtRest { pids, unlisted: unlisted(reading) });
            self.job = None;
            self.own.clear();
        }
    }

    fn left_by(&self, reading: &GpuReading) -> Option<String> {
        if let Some(process) = reading.processes.iter().find(|process| self.own.contains(&process.pid)) {
            return Some(told(process));
        }
        let before = self.before.as_ref()?.unlisted;
        let more = unlisted(reading).saturating_sub(before);
        (more > VRAM_ALLOWED).then(|| format!("{} of no process are held", amount(more)))
    }
}

impl Containers {
    fn has(&self, process: &GpuProcess) -> bool {
        process.container.as_ref().is_some_and(|shown| self.nameless || self.known.contains(shown))
    }
}

fn unlisted(reading: &GpuReading) -> u64 {
    let taken = reading.gpu.memory_bytes.saturating_sub(reading.gpu.memory_free_bytes);
    let used = taken.saturating_sub(reading.reserved_bytes);
    used.saturating_sub(reading.processes.iter().map(|process| process.memory_bytes).sum())
}

fn amount(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib < 1024 => format!("{mib} MiB"),
        mib => format!("{} GiB", (mib + 512) >> 10),
    }
}

/// `python of anna (pid 4711) holds 22 GiB`
fn told(process: &GpuProcess) -> String {
    format!("{} holds {}", named(process), amount(process.memory_bytes))
}

/// `python of anna (pid 4711)`
fn named(process: &GpuProcess) -> String {
    let GpuProcess { pid, name, user, .. } = process;
    let name = if name.is_empty() { "a process" } else { name };
    let user = if user.is_empty() { String::new() } else { format!(" of {user}") };
    format!("{name}{user} (pid {pid})")
}
