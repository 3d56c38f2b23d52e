//! This machine: sysinfo and NVML together.

use super::{
    Disk, Error, Facts, Host, Reading,
    gpu::Gpus,
    system::{System, disk},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// NVML's library; unset: where the driver puts it, since the loader finds it there.
    pub nvml_library: Option<PathBuf>,
}

pub struct Machine {
    system: Mutex<System>,
    gpus: Mutex<Gpus>,
}

impl Machine {
    /// `data_dir` names the disk whose room counts.
    pub fn new(config: &Config, data_dir: &Path) -> Result<Self, Error> {
        Self::with_devices(config, data_dir, Path::new("/dev"))
    }

    pub(super) fn with_devices(config: &Config, data_dir: &Path, devices: &Path) -> Result<Self, Error> {
        Ok(Self {
            system: Mutex::new(System::new(data_dir)?),
            gpus: Mutex::new(Gpus::new(config.nvml_library.clone(), devices)),
        })
    }
}

impl Host for Machine {
    fn facts(&self) -> Facts {
        let mut facts = lock(&self.system).facts();
        let mut gpus = lock(&self.gpus);
        gpus.load();
        facts.driver = gpus.driver();
        facts.cuda = gpus.cuda();
        facts.driver_problem = gpus.problem();
        facts
    }

    fn read(&self) -> Reading {
        let mut reading = lock(&self.system).read();
        reading.gpus = lock(&self.gpus).read();
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
