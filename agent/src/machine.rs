//! What this machine has and what of it is free now: the engine's health, host readings and grants put together
//! into offers, inventory and heartbeats. Never grants, never talks to the controller.

use crate::{
    attempt::Held,
    capacity::{self, Foreign, GpuWatch, Meter},
    host::{Facts, Host, Reading},
    link::{Report, Reporter},
    runtime::{EngineInfo, Runtime},
    slots::Slots,
};
use async_trait::async_trait;
use longshore_common::{
    agent::{Capacity, Gpu, Inventory, Offer},
    queue::Lane,
    shutdown::Shutdown,
    tasks,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::{JoinError, spawn_blocking},
    time::{Instant, timeout},
};

/// NVML and sysinfo answer in milliseconds; a stranger on a GPU is seen within this time.
const READ_EVERY: Duration = Duration::from_secs(1);
/// An engine that answers is asked seldom, one that does not is asked often.
const ENGINE_WELL_EVERY: Duration = Duration::from_secs(10);
const ENGINE_ILL_EVERY: Duration = Duration::from_secs(1);
const ENGINE_ANSWER: Duration = Duration::from_secs(10);
/// Somebody may flush firewall rules; trying them out costs a container.
const NETWORK_EVERY: Duration = Duration::from_secs(300);
const NETWORK_ANSWER: Duration = Duration::from_secs(60);

/// What the operator keeps from jobs, or says instead of measuring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub reserve_cpu_millis: u32,
    pub reserve_memory_bytes: u64,
    pub reserve_disk_bytes: u64,
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
            cpu_millis: None,
            memory_bytes: None,
            scratch_bytes: None,
            others: capacity::Config::default(),
        }
    }
}

/// Shared by intake and link. Its watchers run until `leave`.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    labels: BTreeMap<String, String>,
    pool: String,
    facts: Facts,
    slots: Slots,
    held: Held,
    now: watch::Receiver<Now>,
}

/// What was seen last.
#[derive(Clone, Debug)]
struct Now {
    reading: Reading,
    foreign: Foreign,
    /// With why they are busy; whose they are is looked up when asked.
    gpus: Vec<Gpu>,
    /// Or why nothing may run.
    engine: Result<EngineInfo, String>,
    /// What the operator should know although jobs may run.
    warning: Option<String>,
}

/// Whom to ask.
#[derive(Debug)]
pub struct Sources {
    pub host: Arc<dyn Host>,
    pub runtime: Arc<dyn Runtime>,
    pub slots: Slots,
    pub held: Held,
    /// Rung when somebody saw the engine away.
    pub engine_away: Arc<Notify>,
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
        let Sources { host, runtime, slots, held, engine_away } = sources;
        let asked = Arc::clone(&host);
        let (facts, reading) = spawn_blocking(move || (asked.facts(), asked.read())).await?;
        let (engine, warning) = look(&*runtime, true).await;
        let mut judge = Judge {
            facts: facts.clone(),
            meter: Meter::new(&config.others),
            watch: GpuWatch::new(config.others.clone()),
            slots: slots.clone(),
            held: held.clone(),
        };
        let (foreign, gpus) = judge.judge(&reading);
        let (seen, now) = watch::channel(Now { reading, foreign, gpus, engine, warning });
        let seen = Arc::new(seen);
        drop(tasks::spawn("host", watch_host(host, judge, Arc::clone(&seen), leave.clone())));
        drop(tasks::spawn("engine", watch_engine(runtime, seen, engine_away, leave.clone())));
        labels.insert("arch".to_owned(), facts.arch.clone());
        Ok(Self { config, labels, pool, facts, slots, held, now })
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

    /// Whether it has any use for a hint of this lane now.
    pub fn wants(&self, lane: &Lane) -> bool {
        self.offer(std::slice::from_ref(lane)).is_some_and(|offer| !lane.is_gpu() || !offer.gpus.is_empty())
    }

    /// For whoever waits until what it can offer has changed by itself.
    pub fn changes(&self) -> Changes {
        Changes(self.now.clone())
    }

    /// Why nothing may run.
    fn problem(&self) -> Option<String> {
        self.now.borrow().engine.as_ref().err().cloned()
    }

    fn total(&self) -> Capacity {
        let now = self.now.borrow();
        Capacity {
            cpu_millis: self.facts.cpu_millis,
            memory_bytes: self.facts.memory_bytes,
            scratch_bytes: now.reading.disk_total_bytes,
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
        let granted = self.slots.granted().gpus;
        let shown = |gpu: &Gpu| Gpu { job: granted.get(&gpu.uuid).cloned(), ..gpu.clone() };
        self.now.borrow().gpus.iter().map(shown).collect()
    }

    /// Why it does not claim, or what else the operator should know.
    fn note(&self) -> Option<String> {
        let (warning, foreign) = {
            let now = self.now.borrow();
            (now.warning.clone(), now.foreign)
        };
        self.problem().or(warning).or_else(|| capacity::note(&self.free(), &foreign))
    }
}

const fn is_free(gpu: &Gpu) -> bool {
    gpu.job.is_none() && gpu.busy.is_none()
}

/// Makes of a reading what is others'.
#[derive(Debug)]
struct Judge {
    facts: Facts,
    meter: Meter,
    watch: GpuWatch,
    slots: Slots,
    held: Held,
}

impl Judge {
    fn judge(&mut self, reading: &Reading) -> (Foreign, Vec<Gpu>) {
        let now = std::time::Instant::now();
        let foreign = self.meter.observe(now, &self.facts, reading, &self.held.ours());
        (foreign, self.watch.observe(now, &reading.gpus, &self.slots.granted().gpus))
    }
}

#[async_trait]
impl Reporter for Machine {
    fn inventory(&self) -> Inventory {
        let engine = self.now.borrow().engine.clone().ok();
        Inventory {
            os: self.facts.os.clone(),
            arch: self.facts.arch.clone(),
            kernel: self.facts.kernel.clone(),
            engine: engine.as_ref().map(|engine| engine.name.clone()).unwrap_or_default(),
            driver: self.facts.driver.clone().unwrap_or_default(),
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
        }
    }

    async fn changed(&self) {
        self.held.changed().await;
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

async fn watch_host(host: Arc<dyn Host>, mut judge: Judge, seen: Arc<watch::Sender<Now>>, leave: Shutdown) {
    loop {
        tokio::select! {
            () = leave.triggered() => return,
            () = tokio::time::sleep(READ_EVERY) => {}
        }
        let host = Arc::clone(&host);
        match spawn_blocking(move || host.read()).await {
            Ok(reading) => {
                let (foreign, gpus) = judge.judge(&reading);
                seen.send_if_modified(|now| {
                    let changed = now.reading != reading || now.foreign != foreign || now.gpus != gpus;
                    (now.reading, now.foreign, now.gpus) = (reading, foreign, gpus);
                    changed
                });
            }
            Err(error) => tracing::error!(%error, "reading the host failed"),
        }
    }
}

async fn watch_engine(
    runtime: Arc<dyn Runtime>,
    seen: Arc<watch::Sender<Now>>,
    away: Arc<Notify>,
    leave: Shutdown,
) {
    let mut network_at = Instant::now();
    loop {
        let well = seen.borrow().engine.is_ok();
        let pause = if well { ENGINE_WELL_EVERY } else { ENGINE_ILL_EVERY };
        let nudged = tokio::select! {
            () = leave.triggered() => return,
            () = tokio::time::sleep(pause) => false,
            () = away.notified(), if well => true,
        };
        let with_network = nudged || !well || network_at.elapsed() > NETWORK_EVERY;
        let (engine, warning) = look(&*runtime, with_network).await;
        if with_network {
            network_at = Instant::now();
        }
        match (&engine, well) {
            (Err(problem), true) => tracing::warn!(%problem, "claiming nothing"),
            (Ok(engine), false) => tracing::info!(engine = %engine.name, "containers can run again"),
            _ => {}
        }
        seen.send_if_modified(|now| {
            let warning = if with_network { warning } else { now.warning.clone() };
            let changed = now.engine != engine || now.warning != warning;
            (now.engine, now.warning) = (engine, warning);
            changed
        });
    }
}

/// The engine, or why nothing may run on it; and what else the operator should know.
async fn look(runtime: &dyn Runtime, with_network: bool) -> (Result<EngineInfo, String>, Option<String>) {
    let silent = |length: Duration| format!("the container engine did not answer for {} s", length.as_secs());
    let engine = match timeout(ENGINE_ANSWER, runtime.describe()).await {
        Ok(described) => described.map_err(|error| error.to_string()),
        Err(_) => Err(silent(ENGINE_ANSWER)),
    };
    if engine.is_err() || !with_network {
        return (engine, None);
    }
    match timeout(NETWORK_ANSWER, runtime.prepare_network()).await {
        Ok(Ok(())) => (engine, None),
        Ok(Err(problem)) if problem.may_claim => (engine, Some(problem.detail)),
        Ok(Err(problem)) => (Err(problem.detail), None),
        Err(_) => (Err(silent(NETWORK_ANSWER)), None),
    }
}
