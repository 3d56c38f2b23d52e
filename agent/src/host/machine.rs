//! This machine: sysinfo and NVML together.

use super::{
    Disk, Error, Facts, Host, Reading,
    driver::Driver,
    gpu::Gpus,
    system::{System, disk},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Its inode is another one each time the module is loaded.
const MODULE: &str = "/sys/module/nvidia";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// NVML's library; unset: where the driver puts it, since the loader finds it there.
    pub nvml_library: Option<PathBuf>,
    /// How long the driver may take for an answer before it is said to hang.
    pub nvml_answer_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        // Milliseconds are usual; a GPU that wakes up without persistence mode takes a few seconds.
        Self { nvml_library: None, nvml_answer_seconds: 10 }
    }
}

pub struct Machine {
    system: Mutex<System>,
    driver: Driver,
}

impl Machine {
    /// `data_dir` names the disk whose room counts.
    pub fn new(config: &Config, data_dir: &Path) -> Result<Self, Error> {
        Self::with_devices(config, data_dir, Path::new("/dev"))
    }

    pub(super) fn with_devices(config: &Config, data_dir: &Path, devices: &Path) -> Result<Self, Error> {
        let (library, devices) = (config.nvml_library.clone(), devices.to_owned());
        let limit = Duration::from_secs(config.nvml_answer_seconds);
        let driver = Driver::start(move |events| Gpus::new(library, &devices, events), MODULE.into(), limit);
        Ok(Self { system: Mutex::new(System::new(data_dir)?), driver })
    }
}

impl Host for Machine {
    fn facts(&self) -> Facts {
        let mut facts = lock(&self.system).facts();
        let answer = self.driver.look();
        facts.driver = answer.version;
        facts.cuda = answer.cuda;
        facts.driver_problem = answer.problem;
        facts
    }

    fn read(&self) -> Reading {
        let mut reading = lock(&self.system).read();
        let (answer, age, xids) = self.driver.read();
        reading.gpus = answer.gpus;
        reading.nvml = answer.nvml;
        (reading.age, reading.xids) = (age, xids);
        reading.driver_load = answer.load;
        reading
    }

    fn disk(&self, folder: &Path) -> Option<Disk> {
        disk(folder).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}
