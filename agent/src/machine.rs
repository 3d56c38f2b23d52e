//! What this machine has and what of it is free now: what the watchers saw and what is granted, put together into
//! offers, inventory and heartbeats. Never grants, never talks to the controller.

mod judge;
mod watchers;

pub use watchers::Sources;

use crate::{
    attempt::Held,
    caches::{Caches, Kept},
    capacity,
    host::{Disk, Facts, Host},
    images::Images,
    link::{Report, Reporter},
    slots::Slots,
};
use async_trait::async_trait;
use judge::Patients;
use longshore_common::{
    agent::{Capacity, Gpu, Holdings, Inventory, Keeper, Offer},
    queue::Lane,
    shutdown::Shutdown,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
    time::Instant,
};
use watchers::Now;

/// What the operator keeps from jobs, or says instead of measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub reserve_cpu_millis: u32,
    pub reserve_memory_bytes: u64,
    pub reserve_disk_bytes: u64,
    /// With less free than this on the disk of the data directory or of the engine's, nothing is claimed.
    pub disk_floor_bytes: u64,
    /// What jobs may have of the processor, instead of all of it but the reserve.
    pub cpu_millis: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub scratch_bytes: Option<u64>,
    /// How others' use is told from ours.
    pub others: capacity::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The kernel shares it well; a job of all cores must fit.
            reserve_cpu_millis: 0,
            // Engine, agent, sshd and page cache of a small machine.
            reserve_memory_bytes: 512 << 20,
            // A full disk stops the engine and the log spool.
            reserve_disk_bytes: 2 << 30,
            // Journal, log spools and the engine's own files of what runs must still fit.
            disk_floor_bytes: 512 << 20,
            cpu_millis: None,
            memory_bytes: None,
            scratch_bytes: None,
            others: capacity::Config::default(),
        }
    }
}

/// How long the look is waited for that shows what became of a GPU.
const LOOK: Duration = Duration::from_secs(5);

/// Shared by intake and link. Its watchers run until `leave`.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    labels: BTreeMap<String, String>,
    pool: String,
    facts: Facts,
    slots: Slots,
    held: Held,
    images: Images,
    caches: Caches,
    host: Arc<dyn Host>,
    patients: Patients,
    now: watch::Receiver<Now>,
    leaving: Leaving,
}

/// Until when what runs may go on, once the agent was told to stop.
#[derive(Debug, Default)]
struct Leaving {
    until: OnceLock<Instant>,
    told: Notify,
}

impl Machine {
    /// Reads everything once, then keeps reading.
    pub async fn start(
        config: Config,
        mut labels: BTreeMap<String, String>,
        pool: String,
        sources: Sources,
        leave: &Shutdown,
    ) -> Result<Self, JoinError> {
        let (slots, held) = (sources.slots.clone(), sources.held.clone());
        let (images, caches, host) =
            (sources.images.clone(), sources.caches.clone(), Arc::clone(&sources.host));
        let (facts, patients, now) = watchers::start(sources, &config.others, leave).await?;
        labels.insert("arch".to_owned(), facts.arch.clone());
        let leaving = Leaving::default();
        Ok(Self { config, labels, pool, facts, slots, held, images, caches, host, patients, now, leaving })
    }

    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub const fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub fn has_gpus(&self) -> bool {
        !self.now.borrow().reading.gpus.is_empty()
    }

    /// Whether a job has just given one back that was not looked at since.
    pub(crate) fn has_leaving_gpus(&self) -> bool {
        self.gpus().iter().any(|gpu| gpu.keeper == Some(Keeper::Leaving))
    }

    /// What it would take from these lanes; `None`: nothing fits, or nothing may run.
    pub fn offer(&self, lanes: &[Lane]) -> Option<Offer> {
        let slots = self.slots.left();
        let free = self.free();
        if lanes.is_empty() || slots == 0 || self.problem().is_some() {
            return None;
        }
        if free.cpu_millis == 0 || free.memory_bytes == 0 {
            return None;
        }
        let gpus = self.gpus().into_iter().filter(is_free).collect();
        let lanes = lanes.to_vec();
        Some(Offer { free, gpus, slots, labels: self.labels.clone(), pool: self.pool.clone(), lanes })
    }

    /// The operator says that a GPU is well, by its index or UUID. What is still wrong shows at the next reading.
    pub(crate) async fn reset_gpu(&self, gpu: &str) {
        if self.patients.lock().reset(gpu).is_none() {
            tracing::warn!(gpu, "the operator names a GPU that is not on this machine");
        }
        self.patients.save().await;
        self.held.looks().fresh(LOOK, || false).await;
    }

    /// From now on the controller hears that what runs is handed back then.
    pub(crate) fn leaves(&self, until: Instant) {
        if self.leaving.until.set(until).is_ok() {
            self.leaving.told.notify_one();
        }
    }

    /// For whoever waits until what it can offer has changed by itself.
    pub fn changes(&self) -> Changes {
        Changes(self.now.clone())
    }

    /// Why nothing may run.
    fn problem(&self) -> Option<String> {
        let engine = self.now.borrow().engine.as_ref().err().cloned();
        engine.or_else(|| self.full_disk())
    }

    /// Which disk has too little room.
    fn full_disk(&self) -> Option<String> {
        let now = self.now.borrow();
        let floor = self.config.disk_floor_bytes;
        let engine = || {
            let (root, disk) = now.engine_disk.as_ref()?;
            full(disk, floor, &format!("the container engine ({})", root.display()))
        };
        full(&now.reading.disk, floor, "the data directory").or_else(engine)
    }

    /// Whether the disk that images are on has less free than this, asked anew. Where the engine's data cannot be
    /// seen, as in a container, it is taken to be on our disk.
    pub(crate) async fn lacks_room_for_images(&self, room: u64) -> bool {
        let room = room.max(self.config.disk_floor_bytes);
        let (root, ours) = {
            let now = self.now.borrow();
            (now.engine_disk.as_ref().map(|(root, _)| root.clone()), now.reading.disk)
        };
        let host = Arc::clone(&self.host);
        let asked = tokio::task::spawn_blocking(move || root.and_then(|root| host.disk(&root)));
        let disk = asked.await.ok().flatten().unwrap_or(ours);
        disk.total_bytes > 0 && disk.free_bytes < room
    }

    /// The disk of the data directory, as read last.
    pub(crate) fn data_disk(&self) -> Disk {
        self.now.borrow().reading.disk
    }

    /// Whether nothing is claimed for want of room on it.
    pub(crate) fn is_data_disk_full(&self) -> bool {
        full(&self.data_disk(), self.config.disk_floor_bytes, "").is_some()
    }

    /// Whether the disk of a folder of ours has less free than this, asked anew.
    pub(crate) async fn lacks_room_at(&self, folder: PathBuf, room: u64) -> bool {
        let (host, room) = (Arc::clone(&self.host), room.max(self.config.disk_floor_bytes));
        let asked = tokio::task::spawn_blocking(move || host.disk(&folder));
        let disk = asked.await.ok().flatten().unwrap_or_else(|| self.data_disk());
        disk.total_bytes > 0 && disk.free_bytes < room
    }

    /// What lies here that jobs would otherwise bring.
    fn holdings(&self) -> Option<Holdings> {
        let images = self.now.borrow().images.as_deref().cloned()?;
        let mut kept = self.caches.list();
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.last_used));
        let name = |kept: &Kept| format!("{}/{}", kept.key.project, kept.key.name);
        Some(Holdings { images, caches: kept.iter().take(Holdings::MOST).map(name).collect() })
    }

    fn total(&self) -> Capacity {
        let now = self.now.borrow();
        Capacity {
            cpu_millis: self.facts.cpu_millis,
            memory_bytes: self.facts.memory_bytes,
            scratch_bytes: now.reading.disk.total_bytes,
            gpus: u32::try_from(now.reading.gpus.len()).unwrap_or(u32::MAX),
        }
    }

    fn allocatable(&self) -> Capacity {
        let Config { reserve_cpu_millis, reserve_memory_bytes, reserve_disk_bytes, .. } = self.config;
        let total = self.total();
        let or = |said: Option<u64>, measured: u64| said.unwrap_or(measured);
        Capacity {
            cpu_millis: self
                .config
                .cpu_millis
                .unwrap_or_else(|| total.cpu_millis.saturating_sub(reserve_cpu_millis)),
            memory_bytes: or(
                self.config.memory_bytes,
                total.memory_bytes.saturating_sub(reserve_memory_bytes),
            ),
            scratch_bytes: or(
                self.config.scratch_bytes,
                total.scratch_bytes.saturating_sub(reserve_disk_bytes),
            ),
            gpus: total.gpus,
        }
    }

    fn free(&self) -> Capacity {
        let foreign = self.now.borrow().foreign;
        let free =
            capacity::free(&self.total(), &self.allocatable(), &self.slots.granted().amounts, &foreign);
        let gpus = self.gpus().iter().filter(|gpu| is_free(gpu)).count();
        Capacity { gpus: u32::try_from(gpus).unwrap_or(u32::MAX), ..free }
    }

    fn gpus(&self) -> Vec<Gpu> {
        let granted = self.slots.granted();
        let shown = |gpu: &Gpu| {
            let job = granted.gpus.get(&gpu.uuid).cloned();
            let stays = granted
                .staying_on(&gpu.uuid)
                .map(|job| format!("reserved: the container of {job} does not end"));
            // Its memory may not be free: the next reading says.
            let leaving = gpu.job.as_ref().filter(|_| job.is_none());
            let leaving = leaving.map(|job| format!("{job} has just given it back"));
            let keeper = match (&stays, &leaving) {
                (Some(_), _) => None,
                (None, Some(_)) => Some(Keeper::Leaving),
                (None, None) => gpu.keeper,
            };
            Gpu { busy: stays.or(leaving).or_else(|| gpu.busy.clone()), keeper, job, ..gpu.clone() }
        };
        self.now.borrow().gpus.iter().map(shown).collect()
    }

    /// Whose containers do not go.
    fn staying(&self) -> Option<String> {
        let jobs = self.slots.granted().staying;
        let jobs = jobs.into_iter().collect::<Vec<_>>().join(", ");
        (!jobs.is_empty())
            .then(|| format!("over, but not gone: the container of {jobs}; what it was given stays reserved"))
    }

    /// Why it claims nothing at all, whatever there is.
    fn closed(&self) -> Option<String> {
        self.problem().or_else(|| {
            let foreign = self.now.borrow().foreign;
            let free = self.free();
            // What jobs of ours have comes back with their ends: that is for each job to be told.
            let granted = self.slots.granted().amounts;
            let ours = granted.cpu_millis > 0 || granted.memory_bytes > 0;
            let none = free.cpu_millis == 0 || free.memory_bytes == 0;
            (none && !ours).then(|| capacity::note(&free, &foreign)).flatten()
        })
    }

    /// Why it does not claim, or what else the operator should know.
    fn note(&self) -> Option<String> {
        let (warning, foreign, leftovers, gpus) = {
            let now = self.now.borrow();
            let engine = now.engine.as_ref().ok().and_then(|engine| engine.warning.clone());
            ([engine, now.warning.clone()], now.foreign, now.leftovers.join(", "), now.gpu_notes.join("; "))
        };
        let leftovers = (!leftovers.is_empty()).then(|| format!("{leftovers}; it stays reserved"));
        let [engine, network] = warning;
        let gpus = Some(gpus).filter(|gpus| !gpus.is_empty());
        let said = [self.problem(), self.staying(), leftovers, engine, network, gpus];
        let said = said.into_iter().flatten().collect::<Vec<_>>();
        let said =
            if said.is_empty() { capacity::note(&self.free(), &foreign) } else { Some(said.join("; ")) };
        let said = [said, self.images.note()].into_iter().flatten().collect::<Vec<_>>();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// A disk that cannot be asked is not full.
fn full(disk: &Disk, floor: u64, of: &str) -> Option<String> {
    let Disk { free_bytes: free, total_bytes: total } = *disk;
    (total > 0 && free < floor).then(|| {
        let (free, floor) = (free >> 20, floor >> 20);
        format!(
            "the disk of {of} is full: {free} MiB are free and capacity.disk_floor_bytes is {floor} MiB; \
             nothing is claimed until there is room"
        )
    })
}

const fn is_free(gpu: &Gpu) -> bool {
    gpu.job.is_none() && gpu.busy.is_none()
}

#[async_trait]
impl Reporter for Machine {
    fn inventory(&self) -> Inventory {
        let engine = self.now.borrow().engine.clone().ok();
        let (driver, cuda) = self.now.borrow().driver.clone();
        Inventory {
            os: self.facts.os.clone(),
            arch: self.facts.arch.clone(),
            kernel: self.facts.kernel.clone(),
            engine: engine.as_ref().map(|engine| engine.name.clone()).unwrap_or_default(),
            driver: driver.unwrap_or_default(),
            cuda: cuda.unwrap_or_default(),
            total: self.total(),
            allocatable: self.allocatable(),
            gpus: self.gpus(),
            disk_limit: engine.map(|engine| engine.disk_limit).unwrap_or_default(),
        }
    }

    fn report(&self) -> Report {
        Report {
            held: self.held.list(),
            free: self.free(),
            gpus: self.gpus(),
            note: self.note().unwrap_or_default(),
            closed: self.closed().unwrap_or_default(),
            slots: self.slots.left(),
            disk_low: self.full_disk().is_some(),
            holdings: self.holdings(),
            caches_bytes: self.caches.list().iter().map(|kept| kept.bytes).fold(0, u64::saturating_add),
            leaving: self.leaving.until.get().map(|until| until.saturating_duration_since(Instant::now())),
        }
    }

    async fn changed(&self) {
        tokio::select! {
            () = self.held.changed() => {}
            () = self.leaving.told.notified() => {}
        }
    }
}

/// A place to wait for changes of a machine.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<Now>);

impl Changes {
    /// Returns after the next reading. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
