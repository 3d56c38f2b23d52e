//! Looks at the host every second and at the engine now and then, until the agent leaves. Says what was seen; never
//! what is offered.

use super::judge::{Judge, Patients};
use crate::{
    attempt::Held,
    caches::Caches,
    capacity::{self, Foreign},
    gpus,
    host::{Age, Disk, Facts, Host, Reading},
    images::Images,
    runtime::{EngineInfo, Runtime},
    slots::Slots,
};
use longshore_common::{
    agent::{Gpu, Holdings},
    shutdown::Shutdown,
    tasks,
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
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

/// Whom to ask.
#[derive(Debug)]
pub struct Sources {
    pub host: Arc<dyn Host>,
    pub runtime: Arc<dyn Runtime>,
    pub slots: Slots,
    pub held: Held,
    pub images: Images,
    pub caches: Caches,
    pub gpus: gpus::Config,
    /// Where sick GPUs are noted.
    pub gpu_health: PathBuf,
    /// Rung when somebody saw the engine away.
    pub engine_away: Arc<Notify>,
}

/// What was seen last.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) reading: Reading,
    /// The engine's data root and the disk it is on, as far as it can be seen.
    pub(super) engine_disk: Option<(PathBuf, Disk)>,
    pub(super) foreign: Foreign,
    /// With why they are busy; whose they are is looked up when asked.
    pub(super) gpus: Vec<Gpu>,
    /// What jobs that are over have not let go of GPUs.
    pub(super) leftovers: Vec<String>,
    /// What the operator should know of GPUs.
    pub(super) gpu_notes: Vec<String>,
    /// Version, and the newest CUDA it runs.
    pub(super) driver: (Option<String>, Option<String>),
    /// Or why nothing may run.
    pub(super) engine: Result<EngineInfo, String>,
    /// What the operator should know although jobs may run.
    pub(super) warning: Option<String>,
    /// Images that are here; `None`: the engine has not said.
    pub(super) images: Option<Arc<BTreeSet<String>>>,
}

/// Looks once at everything, then keeps looking.
pub(super) async fn start(
    sources: Sources,
    others: &capacity::Config,
    leave: &Shutdown,
) -> Result<(Facts, Patients, watch::Receiver<Now>), JoinError> {
    let Sources { host, runtime, slots, held, engine_away, images: _, caches: _, gpus, gpu_health } = sources;
    let asked = Arc::clone(&host);
    let (facts, reading) = spawn_blocking(move || (asked.facts(), asked.read())).await?;
    let idle = gpus.idle.clone();
    let patients = spawn_blocking(move || Patients::open(gpus, gpu_health)).await?;
    let (engine, warning) = look(&*runtime, true).await;
    if let Err(problem) = &engine {
        tracing::warn!(%problem, "claiming nothing");
    }
    tell(&engine, None);
    let mut judge = Judge::new(facts.clone(), (others, idle), slots, held, patients.clone());
    let judged = judge.judge(&reading);
    patients.save().await;
    let images = images_on(&*runtime).await;
    let root = engine.as_ref().ok().map(|engine| engine.data_root.clone());
    let asked = Arc::clone(&host);
    let engine_disk = spawn_blocking(move || root.and_then(|root| disk(&*asked, root))).await?;
    let (seen, now) = watch::channel(Now {
        reading,
        engine_disk,
        foreign: judged.foreign,
        gpus: judged.gpus,
        leftovers: Vec::new(),
        gpu_notes: judged.notes,
        driver: (facts.driver.clone(), facts.cuda.clone()),
        engine,
        warning,
        images,
    });
    let seen = Arc::new(seen);
    drop(tasks::spawn("host", watch_host(host, judge, Arc::clone(&seen), leave.clone())));
    drop(tasks::spawn("engine", watch_engine(runtime, seen, engine_away, leave.clone())));
    Ok((facts, patients, now))
}

async fn watch_host(host: Arc<dyn Host>, mut judge: Judge, seen: Arc<watch::Sender<Now>>, leave: Shutdown) {
    let looks = judge.looks().clone();
    loop {
        tokio::select! {
            () = leave.triggered() => return,
            () = tokio::time::sleep(READ_EVERY) => {}
            // Whether they are free again is seen only now.
            () = judge.gpus_back() => {}
            () = looks.wanted() => {}
        }
        let look = looks.begin();
        let (host, root) = (Arc::clone(&host), data_root(&seen.borrow()));
        let load = seen.borrow().reading.driver_load;
        let read = move || {
            let reading = host.read();
            // A driver that was loaded anew may be another one.
            let driver = (reading.driver_load != load).then(|| host.facts());
            (
                reading,
                driver.map(|facts| (facts.driver, facts.cuda)),
                root.and_then(|root| disk(&*host, root)),
            )
        };
        let age = match spawn_blocking(read).await {
            Ok((reading, driver, engine_disk)) => {
                let age = reading.age;
                let judged = judge.judge(&reading);
                judge.save().await;
                seen.send_if_modified(|now| {
                    let changed =
                        now.reading != reading || now.foreign != judged.foreign || now.gpus != judged.gpus;
                    let changed = changed || now.engine_disk != engine_disk;
                    (now.reading, now.foreign, now.gpus) = (reading, judged.foreign, judged.gpus);
                    now.engine_disk = engine_disk;
                    now.leftovers = judge.leftovers();
                    now.gpu_notes = judged.notes;
                    if let Some(driver) = driver {
                        now.driver = driver;
                    }
                    changed
                });
                age
            }
            Err(error) => {
                tracing::error!(%error, "reading the host failed");
                Age::Old
            }
        };
        looks.done(look, age);
    }
}

/// As the engine said, or said before it went away.
fn data_root(now: &Now) -> Option<PathBuf> {
    let before = || now.engine_disk.as_ref().map(|(root, _)| root.clone());
    now.engine.as_ref().ok().map(|engine| engine.data_root.clone()).or_else(before)
}

fn disk(host: &dyn Host, root: PathBuf) -> Option<(PathBuf, Disk)> {
    let disk = host.disk(&root)?;
    Some((root, disk))
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
        let images = if engine.is_ok() { images_on(&*runtime).await } else { None };
        let before = seen.borrow().engine.as_ref().ok().and_then(|engine| engine.warning.clone());
        tell(&engine, before.as_deref());
        seen.send_if_modified(|now| {
            let warning = if with_network { warning } else { now.warning.clone() };
            let changed = now.engine != engine || now.warning != warning;
            (now.engine, now.warning) = (engine, warning);
            now.images = images.or_else(|| now.images.take());
            changed
        });
    }
}

/// `None`: it does not say, now or ever.
async fn images_on(runtime: &dyn Runtime) -> Option<Arc<BTreeSet<String>>> {
    timeout(ENGINE_ANSWER, runtime.images(Holdings::MOST)).await.ok()?.ok()?.map(Arc::new)
}

/// Logs what the operator should know, once.
fn tell(engine: &Result<EngineInfo, String>, told: Option<&str>) {
    if let Some(warning) = engine.as_ref().ok().and_then(|engine| engine.warning.as_deref())
        && told != Some(warning)
    {
        tracing::warn!(%warning, "containers run, but not as configured");
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
