//! The machine: what it has and what is really free now. `system` asks sysinfo, `gpu` asks NVML, `fake` plays a
//! described machine. Never decides about jobs; `capacity` does the sums.

#[doc(hidden)]
pub mod contract;
mod driver;
pub mod fake;
mod gpu;
mod machine;
mod process;
mod system;

pub use machine::{Config, Machine};

use longshore_common::agent::Gpu;
use std::{fmt, path::Path};

pub trait Host: Send + Sync + fmt::Debug {
    /// What does not change while the agent runs.
    fn facts(&self) -> Facts;

    /// A fresh reading. Blocks for milliseconds, for seconds where the driver is stuck: call it off the async
    /// threads.
    fn read(&self) -> Reading;

    /// The file system that holds `folder`; `None`: it cannot be asked, or the machine does not say.
    fn disk(&self, folder: &Path) -> Option<Disk>;
}

/// A file system, as users without privileges may fill it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub hostname: String,
    pub os: String,
    pub kernel: String,
    /// `amd64`, `arm64`
    pub arch: String,
    pub boot_id: String,
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// NVIDIA driver version; `None`: no driver, hence no GPU.
    pub driver: Option<String>,
    /// The newest CUDA that driver runs, `12.4`.
    pub cuda: Option<String>,
    /// `/dev/nvidia*` is there and NVML could not be loaded: why.
    pub driver_problem: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub memory_available_bytes: u64,
    /// Busy CPU of the whole host since the last reading, in thousandths of a core.
    pub cpu_busy_millis: u32,
    /// The agent process's own part of it.
    pub agent_cpu_millis: u32,
    /// The disk that holds the data directory. All zero: it cannot be asked.
    pub disk: Disk,
    /// In order of their index; the instances of one GPU share it.
    pub gpus: Vec<GpuReading>,
    pub nvml: Nvml,
    /// Of the GPUs.
    pub age: Age,
    /// What GPUs told since the last reading.
    pub xids: Vec<Xid>,
    /// Another one each time the driver is loaded; `None`: the machine does not say.
    pub driver_load: Option<u64>,
}

/// Whether the GPUs of a reading are to be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nvml {
    /// There is no driver, or it cannot be used.
    #[default]
    Absent,
    Answers,
    /// A call does not come back: the GPUs are those of before.
    Hangs,
}

/// When the GPUs of a reading were asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Age {
    /// For this reading.
    #[default]
    Fresh,
    /// For an earlier one, and told only now.
    Late,
    /// Nothing new was told: they are as in the reading before.
    Old,
}

/// An error that the driver told of, by NVIDIA's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    /// Of the whole GPU; `None`: it could not say any more.
    pub gpu: Option<String>,
    pub code: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuReading {
    /// Identity, VRAM and utilisation; `job` and `busy` are `capacity`'s to fill.
    pub gpu: Gpu,
    pub processes: Vec<GpuProcess>,
    /// VRAM that the driver keeps for itself.
    pub reserved_bytes: u64,
    /// Whether its utilisation is a measured one.
    pub tells_utilisation: bool,
    pub memory_errors: MemoryErrors,
    /// It does not answer, or cannot be used as it is: why.
    pub fault: Option<String>,
    /// The fault is that it does not answer, for itself or for its parts: nothing is known of it now.
    pub silent: bool,
    /// The fault is that it has fallen off the bus.
    pub lost: bool,
}

/// `None`: it could not be asked, which says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryErrors {
    /// ECC errors since the driver was loaded that could not be corrected.
    pub uncorrected: Option<u64>,
    /// A row or a page is replaced at the next reset.
    pub needs_reset: Option<bool>,
    /// And another one cannot be any more.
    pub worn_out: Option<bool>,
}

impl MemoryErrors {
    pub const NONE: Self = Self { uncorrected: Some(0), needs_reset: Some(false), worn_out: Some(false) };

    /// What was not told is as it was.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            uncorrected: self.uncorrected.or(before.uncorrected),
            needs_reset: self.needs_reset.or(before.needs_reset),
            worn_out: self.worn_out.or(before.worn_out),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuProcess {
    pub pid: u32,
    pub name: String,
    pub user: String,
    pub memory_bytes: u64,
    /// Draws on a screen: does not make a GPU busy.
    pub graphics: bool,
    /// Container id from its cgroup, if it runs in one.
    pub container: Option<String>,
}

/// The machine cannot be read at all, and will not be later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot read this machine's processors and memory: {0}; is /proc mounted?")]
pub struct Error(String);

impl Error {
    pub const fn is_transient(&self) -> bool {
        false
    }
}
