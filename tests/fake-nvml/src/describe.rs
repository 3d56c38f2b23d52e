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
}

impl Default for Description {
    fn default() -> Self {
        Self { driver: "550.54.15".into(), init_error: None, gpus: Vec::new() }
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
    pub utilisation: u32,
    pub mig: bool,
    pub fault: Option<Fault>,
    pub processes: Vec<Process>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            model: "NVIDIA A100-SXM4-80GB".into(),
            memory_mib: 81_920,
            reserved_mib: 500,
            utilisation: 0,
            mig: false,
            fault: None,
            processes: Vec::new(),
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
        self.processes.iter().map(|process| process.memory_mib).sum::<u64>().min(self.memory_mib)
    }
}
