//! What a container uses now: CPU and memory from its control group's files (cgroup v1 and v2, both drivers), disk
//! by walking its writable layer and folders. Falls back on the engine's statistics where the files are not to be
//! seen. Cheap enough to be asked several times a second.

use super::{
    access,
    engine::{Engine, status},
    live::Live,
};
use crate::{
    disk,
    runtime::{ContainerId, Error, Sample, Scratch},
    sized::{self, Fill},
};
use bollard::{
    models::{ContainerInspectResponse, MountPoint},
    query_parameters::{InspectContainerOptions, StatsOptions},
};
use futures::StreamExt as _;
use longshore_common::{agent::Usage, job::Outcome};
use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

const GROUPS: &str = "/sys/fs/cgroup";
/// Milliseconds between the first readings; samples come after.
const GLANCES: [u64; 5] = [0, 5, 15, 50, 100];
/// Between two looks for a group that is about to be made, and how many.
const SEARCH: Duration = Duration::from_millis(10);
const SEARCHES: u32 = 300;

/// Where to look, found out at the first sample, and the highest readings since.
#[derive(Debug, Default)]
pub(super) struct Meter {
    places: Option<Arc<Places>>,
    peak: Usage,
}

impl Meter {
    /// The highest readings, this one among them.
    fn raise(&mut self, reading: Usage) -> Usage {
        let peak = &mut self.peak;
        peak.cpu_micros = peak.cpu_micros.max(reading.cpu_micros);
        peak.memory_peak_bytes = peak.memory_peak_bytes.max(reading.memory_peak_bytes);
        peak.disk_peak_bytes = peak.disk_peak_bytes.max(reading.disk_peak_bytes);
        *peak
    }
}

#[derive(Debug)]
pub(super) struct Places {
    group: Option<Group>,
    /// Writable layer and the image's own volumes.
    own: Vec<PathBuf>,
    /// `/out` and `/tmp_disk`.
    folders: Vec<PathBuf>,
    /// The file system of `/out` and `/tmp_disk`, if they have one of their own.
    disk: Option<PathBuf>,
    /// The engine shows no writable layer as a folder: its own count must do.
    ask_layer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    V1 { memory: PathBuf, cpu: PathBuf },
    V2(PathBuf),
}

/// What the kernel says of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    usage: Usage,
    /// Without page cache that can be dropped.
    working_set: u64,
    /// Processes' own and shared memory.
    held: u64,
}

pub(super) async fn sample(engine: &Engine, id: &ContainerId, live: &Live) -> Result<Sample, Error> {
    let places = places(engine, id, live).await?;
    let measured = tokio::task::spawn_blocking({
        let (places, id) = (Arc::clone(&places), id.0.clone());
        move || {
            let opens_gpus = access::opens_gpus(Path::new(GROUPS), &id);
            let fill = places.disk.as_deref().map_or_else(|| Ok(Fill::default()), sized::fill);
            let folders = disk::bytes(&places.own).and_then(|own| Ok((own, disk::bytes(&places.folders)?)));
            (places.group.as_ref().and_then(Group::read), folders, fill, opens_gpus)
        }
    });
    let (usage, folder_bytes, fill, opens_gpus) = measured.await.map_err(|panic| {
        Error::ends(Outcome::RuntimeError, format!("measure the container's use: {panic}"))
    })?;
    let (own_bytes, folder_bytes) = folder_bytes.map_err(|error| {
        let outcome = if error.is_evasion() { Outcome::DiskLimit } else { Outcome::RuntimeError };
        Error::ends(outcome, error.to_string())
    })?;
    let fill = fill.map_err(|error| {
        Error::ends(Outcome::RuntimeError, format!("measure the container's file system: {error}"))
    })?;
    let Reading { usage, working_set, held } = match usage {
        Some(measured) => measured,
        None if places.group.is_none() && !live.has_ended() => ask(engine, id).await?,
        // The container has ended and its group with it: the highest readings stand.
        None => Reading::default(),
    };
    let layer_bytes = if places.ask_layer { ask_layer(engine, id).await? } else { 0 };
    let own_bytes = own_bytes.saturating_add(layer_bytes);
    let disk_bytes = folder_bytes.saturating_add(own_bytes).saturating_add(fill.bytes);
    let mut meter = live.usage.lock().unwrap_or_else(PoisonError::into_inner);
    let usage = meter.raise(Usage { disk_peak_bytes: disk_bytes, ..usage });
    Ok(Sample {
        usage,
        memory_bytes: working_set,
        disk_bytes,
        own_bytes,
        held_bytes: held,
        disk_full: fill.is_full,
        opens_gpus,
    })
}

async fn places(engine: &Engine, id: &ContainerId, live: &Live) -> Result<Arc<Places>, Error> {
    let known = live.usage.lock().unwrap_or_else(PoisonError::into_inner).places.clone();
    if let Some(places) = known {
        return Ok(places);
    }
    let client = engine.client().await?;
    let found = client
        .api
        .inspect_container(&id.0, None::<InspectContainerOptions>)
        .await
        .map_err(|error| engine.failed("look at the container", &error))?;
    Ok(remember(id, live, &found))
}

/// Keeps where to look, as the engine has just told.
pub(super) fn remember(id: &ContainerId, live: &Live, found: &ContainerInspectResponse) -> Arc<Places> {
    let mut meter = live.usage.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(places) = &meter.places {
        return Arc::clone(places);
    }
    let layer = found.graph_driver.as_ref().and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
    let ask_layer = layer.is_none();
    let at = |wanted: fn(&MountPoint) -> bool| {
        let mounts = found.mounts.iter().flatten().filter(move |mount| wanted(mount));
        mounts.filter_map(|mount| mount.source.as_ref()).map(PathBuf::from)
    };
    // Shares, caches and what an operator opens to all outlive the container: they are not its use.
    let scratch = at(|mount| matches!(mount.destination.as_deref(), Some("/out" | "/tmp_disk")));
    let volumes = at(|mount| mount.typ.as_deref() == Some("volume") && mount.rw == Some(true));
    let (sized, folders): (Vec<_>, Vec<_>) = scratch.partition(|folder| sized_disk(folder).is_some());
    let places = Arc::new(Places {
        group: Group::find(Path::new(GROUPS), &id.0),
        own: layer.into_iter().chain(volumes).collect(),
        folders,
        disk: sized.first().and_then(|folder| sized_disk(folder)),
        ask_layer,
    });
    meter.places = Some(Arc::clone(&places));
    places
}

/// Reads CPU and memory a few times in the first moments, for the container may be over before anybody asks: its group
/// goes with it. Never returns.
pub(super) async fn glance(id: &ContainerId, live: &Live) -> Infallible {
    let look = |known: Option<Group>| {
        let name = id.0.clone();
        tokio::task::spawn_blocking(move || {
            let group = known.or_else(|| Group::find(Path::new(GROUPS), &name))?;
            Some((group.read()?.usage, group))
        })
    };
    let mut group = None;
    for _ in 0..SEARCHES {
        if let Ok(Some((usage, found))) = look(None).await {
            live.usage.lock().unwrap_or_else(PoisonError::into_inner).raise(usage);
            group = Some(found);
            break;
        }
        tokio::time::sleep(SEARCH).await;
    }
    for pause in GLANCES {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Some(known) = group.take() else { break };
        let Ok(Some((usage, found))) = look(Some(known)).await else { break };
        live.usage.lock().unwrap_or_else(PoisonError::into_inner).raise(usage);
        group = Some(found);
    }
    std::future::pending().await
}

/// The file system that a mounted folder shares with its like.
fn sized_disk(folder: &Path) -> Option<PathBuf> {
    let disk = Scratch::disk(folder).filter(|disk| disk.ends_with(sized::FOLDER))?;
    sized::is_mounted(disk).unwrap_or(false).then(|| disk.to_owned())
}

/// The engine's own count of the writable layer: slow, it walks too.
async fn ask_layer(engine: &Engine, id: &ContainerId) -> Result<u64, Error> {
    let client = engine.client().await?;
    let options = InspectContainerOptions { size: true };
    let found = client
        .api
        .inspect_container(&id.0, Some(options))
        .await
        .map_err(|error| engine.failed("measure the writable layer", &error))?;
    Ok(found.size_rw.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
}

/// The engine's statistics, read once.
async fn ask(engine: &Engine, id: &ContainerId) -> Result<Reading, Error> {
    let client = engine.client().await?;
    let options = StatsOptions { stream: false, one_shot: true };
    let mut answers = std::pin::pin!(client.api.stats(&id.0, Some(options)));
    let stats = match answers.next().await {
        Some(Ok(stats)) => stats,
        Some(Err(error)) if status(&error) != Some(404) => {
            return Err(engine.failed("read the container's statistics", &error));
        }
        _ => return Ok(Reading::default()),
    };
    let nanos = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
    let memory = stats.memory_stats.unwrap_or_default();
    let usage = Usage {
        cpu_micros: nanos.unwrap_or(0) / 1000,
        memory_peak_bytes: memory.max_usage.or(memory.usage).unwrap_or(0),
        ..Usage::default()
    };
    // It does not say what is page cache: files are not counted twice.
    Ok(Reading { usage, working_set: memory.usage.unwrap_or(0), held: 0 })
}

impl Group {
    /// The group of a container, under `/sys/fs/cgroup`.
    fn find(root: &Path, id: &str) -> Option<Self> {
        names(id).iter().find_map(|name| {
            let unified = root.join(name);
            if unified.join("cpu.stat").is_file() && unified.join("memory.current").is_file() {
                return Some(Self::V2(unified));
            }
            let (memory, cpu) = (root.join("memory").join(name), root.join("cpuacct").join(name));
            (memory.is_dir() && cpu.is_dir()).then_some(Self::V1 { memory, cpu })
        })
    }

    /// `None`: the group is gone.
    fn read(&self) -> Option<Reading> {
        let (cpu_micros, memory_peak_bytes, now, cache, held) = match self {
            Self::V1 { memory, cpu } => (
                number(&cpu.join("cpuacct.usage"))? / 1000,
                number(&memory.join("memory.max_usage_in_bytes"))?,
                number(&memory.join("memory.usage_in_bytes")),
                keyed(&memory.join("memory.stat"), "total_inactive_file "),
                ["total_rss ", "total_shmem "].map(|key| keyed(&memory.join("memory.stat"), key)),
            ),
            Self::V2(group) => (
                keyed(&group.join("cpu.stat"), "usage_usec")?,
                // `memory.peak` is younger than the rest (Linux 5.19).
                number(&group.join("memory.peak")).or_else(|| number(&group.join("memory.current")))?,
                number(&group.join("memory.current")),
                keyed(&group.join("memory.stat"), "inactive_file "),
                ["anon ", "shmem "].map(|key| keyed(&group.join("memory.stat"), key)),
            ),
        };
        let working_set = now.unwrap_or(0).saturating_sub(cache.unwrap_or(0));
        let usage = Usage { cpu_micros, memory_peak_bytes, ..Usage::default() };
        Some(Reading { usage, working_set, held: held.into_iter().flatten().sum() })
    }
}

/// The two names that engines give to a container's group.
pub(super) fn names(id: &str) -> [String; 2] {
    [format!("docker/{id}"), format!("system.slice/docker-{id}.scope")]
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("has one")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn both_generations_of_control_groups_are_read() {
        let v1 = tempfile::tempdir().expect("a folder");
        write(v1.path(), "memory/docker/c1/memory.max_usage_in_bytes", "4096\n");
        write(v1.path(), "cpuacct/docker/c1/cpuacct.usage", "7000\n");
        write(v1.path(), "memory/docker/c1/memory.usage_in_bytes", "3000\n");
        let stat = "inactive_file 1\ntotal_inactive_file 1000\ntotal_rss 30\ntotal_shmem 5\n";
        write(v1.path(), "memory/docker/c1/memory.stat", stat);
        let read = Group::find(v1.path(), "c1").expect("found").read().expect("read");
        assert_eq!((read.usage.cpu_micros, read.usage.memory_peak_bytes, read.working_set), (7, 4096, 2000));
        assert_eq!(read.held, 35);

        let v2 = tempfile::tempdir().expect("a folder");
        let scope = "system.slice/docker-c1.scope";
        write(v2.path(), &format!("{scope}/cpu.stat"), "usage_usec 9\nuser_usec 5\n");
        write(v2.path(), &format!("{scope}/memory.current"), "100\n");
        write(v2.path(), &format!("{scope}/memory.peak"), "200\n");
        write(v2.path(), &format!("{scope}/memory.stat"), "anon 5\ninactive_file 40\nshmem 2\n");
        let read = Group::find(v2.path(), "c1").expect("found").read().expect("read");
        assert_eq!((read.usage.cpu_micros, read.usage.memory_peak_bytes, read.working_set), (9, 200, 60));
        assert_eq!(read.held, 7);
        assert_eq!(Group::find(v2.path(), "c2"), None);
    }
}
