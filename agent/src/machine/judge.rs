//! Makes of a reading what is others', which GPUs are sick, and what the attempts that have GPUs are told of them.
//! Never reads the machine, never offers.

use crate::{
    attempt::Held,
    capacity::{self, Foreign, GpuWatch, Meter},
    gpus::{self, Health, Idle, Looks},
    host::{Age, Facts, Nvml, Reading},
    slots::Slots,
};
use longshore_common::{agent::Gpu, durable};
use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::task::spawn_blocking;

/// What a machine with a stuck driver says.
pub(super) const HANGS: &str = "the NVIDIA driver does not answer";

#[derive(Debug)]
pub(super) struct Judge {
    facts: Facts,
    meter: Meter,
    watch: GpuWatch,
    idle: Idle,
    slots: Slots,
    held: Held,
    patients: Patients,
    /// As of the last reading with news.
    gpus: Vec<Gpu>,
}

/// What follows from a reading.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) foreign: Foreign,
    pub(super) gpus: Vec<Gpu>,
    pub(super) notes: Vec<String>,
}

impl Judge {
    pub(super) fn new(
        facts: Facts,
        (others, idle): (&capacity::Config, Idle),
        slots: Slots,
        held: Held,
        patients: Patients,
    ) -> Self {
        let (meter, watch) = (Meter::new(others), GpuWatch::new(others.clone()));
        Self { facts, meter, watch, idle, slots, held, patients, gpus: Vec::new() }
    }

    pub(super) fn judge(&mut self, reading: &Reading) -> Judged {
        let now = Instant::now();
        let foreign = self.meter.observe(now, &self.facts, reading, &self.held.ours());
        let granted = self.slots.granted().gpus;
        self.watch.know(self.held.containers());
        // Whether a GPU that was given back is free, an old reading does not say.
        if reading.age != Age::Old {
            self.gpus = self.watch.observe(now, &reading.gpus, &granted);
        }
        let mut gpus = self.gpus.clone();
        let mut health = self.patients.lock();
        let has = granted.keys().cloned().collect();
        let signals = health.observe(now, &self.facts.boot_id, reading, &has);
        for signal in &signals {
            self.held.gpu_signal(signal, |uuid| health.whole(uuid).to_owned());
        }
        for stranger in self.watch.strangers() {
            self.held.gpu_stranger(&stranger.gpu, &stranger.who);
        }
        if reading.nvml == Nvml::Answers && reading.age != Age::Old {
            self.held.gpus_read(now, &reading.gpus, &self.idle);
        }
        for gpu in &mut gpus {
            let fault = || reading.gpus.iter().find(|seen| seen.gpu.uuid == gpu.uuid)?.fault.clone();
            gpu.health = health.why(&gpu.uuid).map(str::to_owned).or_else(fault);
            if let Some(why) = &gpu.health {
                gpu.busy = Some(format!("set aside: {why}"));
            }
            if reading.nvml == Nvml::Hangs && gpu.busy.is_none() {
                gpu.busy = Some(HANGS.to_owned());
            }
        }
        let notes = self.notes(reading, &health, &gpus);
        drop(health);
        Judged { foreign, gpus, notes }
    }

    fn notes(&self, reading: &Reading, health: &Health, gpus: &[Gpu]) -> Vec<String> {
        let hangs = (reading.nvml == Nvml::Hangs).then(|| {
            format!("{HANGS}: no job that needs a GPU is taken until it does (dmesg | grep -i nvrm)")
        });
        let strangers = self.watch.strangers().iter().map(|stranger| stranger.who.clone());
        let slow = gpus.iter().filter(|gpu| !gpu.throttled.is_empty());
        let slow = slow.map(|gpu| format!("GPU {} is slowed down ({})", gpu.index, gpu.throttled.join(", ")));
        let shut_out = self.held.shut_out().into_iter().map(|job| {
            format!("the container of {job} cannot open its GPUs any more: its devices were set anew")
        });
        hangs.into_iter().chain(health.notes()).chain(strangers).chain(slow).chain(shut_out).collect()
    }

    /// Attempts that wait for a look.
    pub(super) fn looks(&self) -> &Looks {
        self.held.looks()
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        self.watch.leftovers()
    }

    pub(super) async fn gpus_back(&self) {
        self.slots.gpus_back().await;
    }

    pub(super) async fn save(&self) {
        self.patients.save().await;
    }
}

/// Which GPUs are sick, in memory and in a file. Clones are handles.
#[derive(Clone, Debug)]
pub(super) struct Patients {
    health: Arc<Mutex<Health>>,
    file: PathBuf,
}

impl Patients {
    /// Blocks for the disk.
    pub(super) fn open(config: gpus::Config, file: PathBuf) -> Self {
        let kept = match fs::read(&file) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "what was known of sick GPUs cannot be read");
                None
            }
        };
        Self { health: Arc::new(Mutex::new(Health::new(config, kept.as_deref()))), file }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is new.
    pub(super) async fn save(&self) {
        let Some(data) = self.lock().take_unsaved() else { return };
        let file = self.file.clone();
        let written = spawn_blocking(move || durable::replace(&file, &data)).await;
        if let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::error!(%error, file = %self.file.display(), "sick GPUs cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Host as _, fake::FakeHost};
    use longshore_common::{
        ids::ShortId,
        job::{Resources, resources::GIB},
    };

    #[test]
    fn a_gpu_that_was_given_back_while_the_driver_stalls_is_not_free_before_it_was_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let (host, slots) = (FakeHost::with_gpus(1, "NVIDIA L4", 24 * GIB), Slots::new(4));
        let mut reading = host.read();
        let patients = Patients::open(gpus::Config::default(), folder.path().join("gpus.json"));
        let config = (&capacity::Config::default(), Idle::default());
        let mut judge = Judge::new(host.facts(), config, slots.clone(), Held::default(), patients);
        let uuid = reading.gpus[0].gpu.uuid.clone();
        let permit = slots.take(&ShortId::random(), &Resources::default(), &[uuid]);
        assert!(judge.judge(&reading).gpus[0].job.is_some());
        drop(permit);
        reading.age = Age::Old;
        assert!(judge.judge(&reading).gpus[0].job.is_some(), "nobody has seen what is on it");
        reading.age = Age::Fresh;
        assert!(judge.judge(&reading).gpus[0].job.is_none());
    }
}
