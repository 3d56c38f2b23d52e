//! What of the machine is free: sums over readings and grants, no input of its own. Others' use is measured, and
//! counts where it goes beyond what is kept from jobs anyway. Never reads the machine, never grants.

mod gpus;
mod window;

pub use gpus::{Containers, GpuWatch, Stranger};

use crate::host::{Facts, Reading};
use longshore_common::{agent::Capacity, ids::AttemptRef};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use window::{Steady, Window};

/// What is averaged is averaged over this time.
const OVER: Duration = Duration::from_secs(30);

/// Differences too small to act on, so that offers do not flutter: half a core of daemons, a browser's tab.
const CPU_BAND: u64 = 500;
const MEMORY_BAND: u64 = 256 << 20;
const DISK_BAND: u64 = 1 << 30;

/// How others' use of the machine is told from ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether others' use takes from what jobs may have; off: jobs get all that is allocatable.
    pub count: bool,
    /// Names of processes that may be on a GPU without making it busy.
    pub gpu_ignore: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        // Monitoring and driver daemons that hold a context for ever and compute nothing.
        let daemons = ["nvidia-smi", "nvidia-persiste", "nv-hostengine", "dcgm-exporter", "dcgmi", "nvtop"];
        Self { count: true, gpu_ignore: daemons.map(str::to_owned).into() }
    }
}

/// What our own containers use now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    /// CPU time since each attempt began.
    pub cpu_micros: BTreeMap<AttemptRef, u64>,
    /// Working sets: page cache that can be dropped is not in it.
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

/// What others use of the machine, as it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
}

/// Tells others' use from ours, reading by reading.
#[derive(Debug)]
pub struct Meter {
    count: bool,
    last: Option<(Instant, BTreeMap<AttemptRef, u64>)>,
    /// Thousandths of a core that are not ours.
    busy: Window,
    cpu: Steady,
    memory: Steady,
    disk: Steady,
}

impl Meter {
    pub fn new(config: &Config) -> Self {
        Self {
            count: config.count,
            last: None,
            busy: Window::new(OVER),
            cpu: Steady::new(CPU_BAND),
            memory: Steady::new(MEMORY_BAND),
            disk: Steady::new(DISK_BAND),
        }
    }

    /// Takes a reading and answers what counts as others' from now on.
    pub fn observe(&mut self, now: Instant, facts: &Facts, reading: &Reading, ours: &Ours) -> Foreign {
        if !self.count {
            return Foreign::default();
        }
        if let Some((then, before)) = self.last.replace((now, ours.cpu_micros.clone())) {
            let length = now.saturating_duration_since(then);
            let own = u64::from(reading.agent_cpu_millis) + rate(&before, &ours.cpu_micros, length);
            self.busy.add(now, length, u64::from(reading.cpu_busy_millis).saturating_sub(own));
        }
        let used = facts.memory_bytes.saturating_sub(reading.memory_available_bytes);
        let on_disk = reading.disk.total_bytes.saturating_sub(reading.disk.free_bytes);
        Foreign {
            cpu_millis: u32::try_from(self.cpu.follow(self.busy.mean())).unwrap_or(u32::MAX),
            memory_bytes: self.memory.follow(used.saturating_sub(ours.memory_bytes)),
            disk_bytes: self.disk.follow(on_disk.saturating_sub(ours.disk_bytes)),
        }
    }
}

/// CPU that attempts used between two readings, in thousandths of a core.
fn rate(before: &BTreeMap<AttemptRef, u64>, after: &BTreeMap<AttemptRef, u64>, length: Duration) -> u64 {
    let spent = after
        .iter()
        .map(|(attempt, micros)| micros.saturating_sub(before.get(attempt).copied().unwrap_or(0)));
    let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX).max(1);
    spent.sum::<u64>().saturating_mul(1000) / length
}

/// What may be offered: allocatable − granted − what others use beyond the part that is kept from jobs anyway.
/// GPUs are counted by whoever lists them.
pub fn free(total: &Capacity, allocatable: &Capacity, granted: &Capacity, foreign: &Foreign) -> Capacity {
    let left = |total: u64, allocatable: u64, granted: u64, foreign: u64| {
        // An operator who allows more than there is has said it instead of measuring.
        let counted = if allocatable > total { 0 } else { foreign };
        let beyond = counted.saturating_sub(total.saturating_sub(allocatable));
        allocatable.saturating_sub(granted).saturating_sub(beyond)
    };
    let cpu = left(
        total.cpu_millis.into(),
        allocatable.cpu_millis.into(),
        granted.cpu_millis.into(),
        foreign.cpu_millis.into(),
    );
    Capacity {
        cpu_millis: u32::try_from(cpu).unwrap_or(u32::MAX),
        memory_bytes: left(
            total.memory_bytes,
            allocatable.memory_bytes,
            granted.memory_bytes,
            foreign.memory_bytes,
        ),
        scratch_bytes: left(
            total.scratch_bytes,
            allocatable.scratch_bytes,
            granted.scratch_bytes,
            foreign.disk_bytes,
        ),
        gpus: allocatable.gpus.saturating_sub(granted.gpus),
    }
}

/// Why a machine that would take work takes none: others use it.
pub fn note(free: &Capacity, foreign: &Foreign) -> Option<String> {
    const GIB: f64 = (1_u64 << 30) as f64;
    if free.cpu_millis == 0 && foreign.cpu_millis > 0 {
        return Some(format!("others use {:.1} cores", f64::from(foreign.cpu_millis) / 1000.0));
    }
    #[expect(clippy::cast_precision_loss, reason = "shown to one decimal")]
    let gib = |bytes: u64| bytes as f64 / GIB;
    if free.memory_bytes == 0 && foreign.memory_bytes > 0 {
        return Some(format!("others use {:.1} GiB of memory", gib(foreign.memory_bytes)));
    }
    (free.scratch_bytes == 0 && foreign.disk_bytes > 0)
        .then(|| format!("others use {:.1} GiB of the disk", gib(foreign.disk_bytes)))
}

#[cfg(test)]
mod tests;
