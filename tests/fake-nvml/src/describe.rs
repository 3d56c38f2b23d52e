//! What is played.

use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Description {
    pub driver: String,
    /// NVML's error code of `nvmlInit_v2`; 9 is "driver not loaded".
    pub init_error: Option<u32>,
    pub gpus: Vec<Gpu>,
    /// Errors told so far, oldest first: each is delivered once, to whoever waits for events then.
    pub events: Vec<Event>,
    /// NVML's error code of every wait for one.
    pub event_error: Option<u32>,
    /// Every question about a GPU waits until this is off.
    pub hang: bool,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            driver: "550.54.15".into(),
            init_error: None,
            gpus: Vec::new(),
            events: Vec::new(),
            event_error: None,
            hang: false,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// `GPU-` and a UUID.
    pub uuid: String,
    pub model: String,
    pub memory_mib: u64,
    /// Taken by the driver itself.
    pub reserved_mib: u64,
    /// Held by no process that is listed.
    pub unlisted_mib: u64,
    pub utilisation: u32,
    pub mig: bool,
    /// What a GPU in MIG mode is divided into.
    pub instances: Vec<Instance>,
    pub fault: Option<Fault>,
    pub processes: Vec<Process>,
    /// Compute capability.
    pub capability: (i32, i32),
    /// `00000000:3B:00.0`
    pub pci: String,
    pub numa: Option<u32>,
    /// GPUs with equal numbers are connected by NVLink.
    pub nvlink: Option<u32>,
    /// `None`: it has no ECC.
    pub ecc: Option<bool>,
    /// ECC errors that could not be corrected, since the driver was loaded.
    pub uncorrected: u64,
    /// A row of its memory is to be replaced at the next reset.
    pub remap_pending: bool,
    /// There is no row left to replace it with.
    pub remap_failed: bool,
    /// NVML's error code of every question about errors of its memory.
    pub memory_error: Option<u32>,
    pub temperature: u32,
    pub power_mw: u32,
    pub power_limit_mw: u32,
    /// NVML's bits of what slows it down.
    pub throttle: u64,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            model: "NVIDIA A100-SXM4-80GB".into(),
            memory_mib: 81_920,
            reserved_mib: 500,
            unlisted_mib: 0,
            utilisation: 0,
            mig: false,
            instances: Vec::new(),
            fault: None,
            processes: Vec::new(),
            capability: (8, 0),
            pci: "00000000:3B:00.0".into(),
            numa: None,
            nvlink: None,
            ecc: Some(true),
            uncorrected: 0,
            remap_pending: false,
            remap_failed: false,
            memory_error: None,
            temperature: 35,
            power_mw: 60_000,
            power_limit_mw: 400_000,
            throttle: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Fallen off the bus: every question is answered with "GPU is lost".
    Lost,
    /// Answers who it is, and then is lost.
    Failing,
    /// Answers who it is, and then fails with an unknown error.
    Confused,
}

/// A critical error that a GPU tells of.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Event {
    /// UUID of the whole GPU.
    pub gpu: String,
    pub xid: u64,
}

/// A part of a GPU in MIG mode.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instance {
    /// `MIG-` and a UUID.
    pub uuid: String,
    /// `1g.10gb`
    pub profile: String,
    pub memory_mib: u64,
    pub processes: Vec<Process>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    pub pid: u32,
    pub memory_mib: u64,
    pub graphics: bool,
}

impl Description {
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Replaces the file at once, so that a call never reads half of it.
    pub fn write(&self, path: &Path) {
        let next = path.with_extension("next");
        let text = serde_json::to_vec_pretty(self).expect("a description is plain data");
        fs::write(&next, text).expect("write the description");
        fs::rename(&next, path).expect("replace the description");
    }
}

impl Gpu {
    pub(crate) fn used_mib(&self) -> u64 {
        let listed = self.processes.iter().map(|process| process.memory_mib).sum::<u64>();
        (listed + self.unlisted_mib).min(self.memory_mib)
    }

    /// A part of it, as what a handle of that part answers for.
    pub(crate) fn part(&self, instance: &Instance) -> Self {
        Self {
            uuid: instance.uuid.clone(),
            model: format!("{} MIG {}", self.model, instance.profile),
            memory_mib: instance.memory_mib,
            reserved_mib: 0,
            unlisted_mib: 0,
            instances: Vec::new(),
            processes: instance.processes.clone(),
            ..self.clone()
        }
    }
}
