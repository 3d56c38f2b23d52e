//! Whether a GPU is free, ours, or used by somebody else.

use super::{Config, OVER, window::Window};
use crate::host::{GpuProcess, GpuReading};
use longshore_common::agent::Gpu;
use std::{
    collections::BTreeMap,
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
}

#[derive(Debug)]
struct Usage {
    window: Window,
    ours_until: Option<Instant>,
}

impl GpuWatch {
    pub fn new(config: Config) -> Self {
        Self { config, last: None, gpus: BTreeMap::new() }
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
        self.gpus.retain(|uuid, _| readings.iter().any(|reading| reading.gpu.uuid == *uuid));
        readings.iter().map(|reading| self.judge(now, length, reading, granted)).collect()
    }

    fn judge(
        &mut self,
        now: Instant,
        length: Duration,
        reading: &GpuReading,
        granted: &BTreeMap<String, String>,
    ) -> Gpu {
        let job = granted.get(&reading.gpu.uuid).cloned();
        let usage = self
            .gpus
            .entry(reading.gpu.uuid.clone())
            .or_insert_with(|| Usage { window: Window::new(OVER), ours_until: None });
        if job.is_some() {
            usage.ours_until = Some(now);
            usage.window.clear();
        } else if usage.ours_until.is_none_or(|until| now.duration_since(until) > AFTERGLOW) {
            usage.window.add(now, length, reading.gpu.utilisation_percent.into());
        }
        let busy = match &reading.fault {
            Some(fault) => Some(format!("set aside: {fault}")),
            None if !self.config.count => None,
            None => self.stranger(reading, job.is_some()),
        };
        Gpu { job, busy, ..reading.gpu.clone() }
    }

    /// Who else is on it. On a granted GPU only processes outside containers are told: the ones inside are the
    /// job's own.
    fn stranger(&self, reading: &GpuReading, granted: bool) -> Option<String> {
        let foreign: Vec<&GpuProcess> =
            reading.processes.iter().filter(|process| self.is_foreign(process, granted)).collect();
        if foreign.iter().map(|process| process.memory_bytes).sum::<u64>() > VRAM_ALLOWED {
            return foreign.iter().max_by_key(|process| process.memory_bytes).map(|process| told(process));
        }
        let mean = self.gpus.get(&reading.gpu.uuid).map_or(0, |usage| usage.window.mean());
        (mean > UTILISATION_ALLOWED).then(|| match foreign.first() {
            Some(process) => format!("{}, {mean} % busy over 30 s", told(process)),
            None => format!("somebody keeps it {mean} % busy over 30 s"),
        })
    }

    fn is_foreign(&self, process: &GpuProcess, granted: bool) -> bool {
        let ours = granted && process.container.is_some();
        !ours && !process.graphics && !self.config.gpu_ignore.contains(&process.name)
    }
}

/// `python of anna (pid 4711) holds 22 GiB`
fn told(process: &GpuProcess) -> String {
    let GpuProcess { pid, name, user, memory_bytes, .. } = process;
    let name = if name.is_empty() { "a process" } else { name };
    let user = if user.is_empty() { String::new() } else { format!(" of {user}") };
    let amount = match memory_bytes >> 20 {
        mib if mib < 1024 => format!("{mib} MiB"),
        mib => format!("{} GiB", (mib + 512) >> 10),
    };
    format!("{name}{user} (pid {pid}) holds {amount}")
}
