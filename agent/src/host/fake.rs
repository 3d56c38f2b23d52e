//! A described machine, for tests: it is what it was told to be, and changes when told.

use super::{Disk, Facts, GpuReading, Host, MemoryErrors, Nvml, Reading};
use longshore_common::{agent::Gpu, job::resources::GIB};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub struct FakeHost {
    facts: Mutex<Facts>,
    reading: Mutex<Reading>,
}

impl Default for FakeHost {
    /// Eight idle cores, 32 GiB, 500 GiB of disk, no GPU.
    fn default() -> Self {
        let facts = Facts {
            hostname: "fake".into(),
            os: "Fake Linux".into(),
            kernel: "6.1.0".into(),
            arch: "amd64".into(),
            boot_id: "00000000-0000-4000-8000-000000000000".into(),
            cpu_millis: 8000,
            memory_bytes: 32 * GIB,
            driver: None,
            cuda: None,
            driver_problem: None,
        };
        let reading = Reading {
            memory_available_bytes: 31 * GIB,
            cpu_busy_millis: 0,
            agent_cpu_millis: 0,
            disk: Disk { free_bytes: 400 * GIB, total_bytes: 500 * GIB },
            ..Reading::default()
        };
        Self { facts: Mutex::new(facts), reading: Mutex::new(reading) }
    }
}

impl FakeHost {
    pub fn new() -> Self {
        Self::default()
    }

    /// The same machine with `count` free GPUs of a model.
    pub fn with_gpus(count: u32, model: &str, memory_bytes: u64) -> Self {
        let host = Self::new();
        host.change_facts(|facts| {
            facts.driver = Some("550.54.15".into());
            facts.cuda = Some("12.4".into());
        });
        host.change(|reading| {
            reading.nvml = Nvml::Answers;
            reading.gpus = (0..count).map(|index| gpu(index, model, memory_bytes)).collect();
        });
        host
    }

    pub fn change(&self, change: impl FnOnce(&mut Reading)) {
        change(&mut lock(&self.reading));
    }

    pub fn change_facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut lock(&self.facts));
    }
}

/// A free GPU; its UUID is its index.
pub fn gpu(index: u32, model: &str, memory_bytes: u64) -> GpuReading {
    let gpu = Gpu {
        index,
        uuid: format!("GPU-00000000-0000-4000-8000-{index:012}"),
        model: model.to_owned(),
        memory_bytes,
        memory_free_bytes: memory_bytes,
        ..Gpu::default()
    };
    GpuReading { gpu, tells_utilisation: true, memory_errors: MemoryErrors::NONE, ..GpuReading::default() }
}

impl Host for FakeHost {
    fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Errors of GPUs are told once.
    fn read(&self) -> Reading {
        let mut reading = lock(&self.reading);
        let told = reading.clone();
        reading.xids.clear();
        told
    }

    /// It has but one.
    fn disk(&self, _folder: &Path) -> Option<Disk> {
        Some(lock(&self.reading).disk)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_holds() {
        crate::host::contract::run(&FakeHost::with_gpus(4, "NVIDIA L4", 24 * GIB));
    }
}
