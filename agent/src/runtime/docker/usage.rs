//! What a container uses now: CPU and memory from its control group's files (cgroup v1 and v2, both drivers), disk
//! by walking its writable layer and folders. Falls back on the engine's statistics where the files are not to be
//! seen. Cheap enough to be asked several times a second.

use super::{
    disk,
    engine::{Engine, status},
    live::Live,
};
use crate::runtime::{ContainerId, Error, Sample};
use bollard::query_parameters::{InspectContainerOptions, StatsOptions};
use futures::StreamExt as _;
use longshore_common::{agent::Usage, job::Outcome};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

/// Where to look, found out at the first sample, and the highest readings since.
#[derive(Debug, Default)]
pub(super) struct Meter {
    places: Option<Arc<Places>>,
    peak: Usage,
}

#[derive(Debug)]
struct Places {
    group: Option<Group>,
    /// Writable layer, `/out`, `/tmp_disk`, the image's own volumes.
    folders: Vec<PathBuf>,
    /// The engine shows no writable layer as a folder: its own count must do.
    ask_layer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Group {
    V1 { memory: PathBuf, cpu: PathBuf },
    V2(PathBuf),
}

pub(super) async fn sample(engine: &Engine, id: &ContainerId, live: &Live) -> Result<Sample, Error> {
    let places = places(engine, id, live).await?;
    let measured = tokio::task::spawn_blocking({
        let places = Arc::clone(&places);
        move || (places.group.as_ref().and_then(Group::read), disk::bytes(&places.folders))
    });
    let (usage, folder_bytes) = measured.await.map_err(|panic| {
        Error::ends(Outcome::RuntimeError, format!("measure the container's use: {panic}"))
    })?;
    let folder_bytes = folder_bytes.map_err(|error| {
        let outcome = if error.is_evasion() { Outcome::DiskLimit } else { Outcome::RuntimeError };
        Error::ends(outcome, error.to_string())
    })?;
    let (usage, memory_bytes) = match usage {
        Some(measured) => measured,
        None if places.group.is_none() => ask(engine, id).await?,
        // The container has ended and its group with it: the highest readings stand.
        None => (Usage::default(), 0),
    };
    let layer_bytes = if places.ask_layer { ask_layer(engine, id).await? } else { 0 };
    let disk_bytes = folder_bytes.saturating_add(layer_bytes);
    let mut meter = live.usage.lock().unwrap_or_else(PoisonError::into_inner);
    let peak = &mut meter.peak;
    peak.cpu_micros = peak.cpu_micros.max(usage.cpu_micros);
    peak.memory_peak_bytes = peak.memory_peak_bytes.max(usage.memory_peak_bytes);
    peak.disk_peak_bytes = peak.disk_peak_bytes.max(disk_bytes);
    Ok(Sample { usage: *peak, memory_bytes, disk_bytes })
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
    let layer = found.graph_driver.and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
    let ask_layer = layer.is_none();
    let mounts = found.mounts.unwrap_or_default().into_iter();
    let writable = mounts.filter(|mount| mount.rw == Some(true)).filter_map(|mount| mount.source);
    let folders = layer.into_iter().chain(writable.map(PathBuf::from)).collect();
    let places =
        Arc::new(Places { group: Group::find(Path::new("/sys/fs/cgroup"), &id.0), folders, ask_layer });
    live.usage.lock().unwrap_or_else(PoisonError::into_inner).places = Some(Arc::clone(&places));
    Ok(places)
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
async fn ask(engine: &Engine, id: &ContainerId) -> Result<(Usage, u64), Error> {
    let client = engine.client().await?;
    let options = StatsOptions { stream: false, one_shot: true };
    let mut answers = std::pin::pin!(client.api.stats(&id.0, Some(options)));
    let stats = match answers.next().await {
        Some(Ok(stats)) => stats,
        Some(Err(error)) if status(&error) != Some(404) => {
            return Err(engine.failed("read the container's statistics", &error));
        }
        _ => return Ok((Usage::default(), 0)),
    };
    let nanos = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
    let memory = stats.memory_stats.unwrap_or_default();
    let usage = Usage {
        cpu_micros: nanos.unwrap_or(0) / 1000,
        memory_peak_bytes: memory.max_usage.or(memory.usage).unwrap_or(0),
        disk_peak_bytes: 0,
    };
    Ok((usage, memory.usage.unwrap_or(0)))
}

impl Group {
    /// The group of a container, under `/sys/fs/cgroup`, by the two names that engines give it.
    fn find(root: &Path, id: &str) -> Option<Self> {
        let names = [format!("docker/{id}"), format!("system.slice/docker-{id}.scope")];
        names.iter().find_map(|name| {
            let unified = root.join(name);
            if unified.join("cpu.stat").is_file() && unified.join("memory.current").is_file() {
                return Some(Self::V2(unified));
            }
            let (memory, cpu) = (root.join("memory").join(name), root.join("cpuacct").join(name));
            (memory.is_dir() && cpu.is_dir()).then_some(Self::V1 { memory, cpu })
        })
    }

    /// What was used, and the working set now. `None`: the group is gone.
    fn read(&self) -> Option<(Usage, u64)> {
        let (cpu_micros, memory_peak_bytes, now, cache) = match self {
            Self::V1 { memory, cpu } => (
                number(&cpu.join("cpuacct.usage"))? / 1000,
                number(&memory.join("memory.max_usage_in_bytes"))?,
                number(&memory.join("memory.usage_in_bytes")),
                keyed(&memory.join("memory.stat"), "total_inactive_file "),
            ),
            Self::V2(group) => (
                keyed(&group.join("cpu.stat"), "usage_usec")?,
                // `memory.peak` is younger than the rest (Linux 5.19).
                number(&group.join("memory.peak")).or_else(|| number(&group.join("memory.current")))?,
                number(&group.join("memory.current")),
                keyed(&group.join("memory.stat"), "inactive_file "),
            ),
        };
        let working_set = now.unwrap_or(0).saturating_sub(cache.unwrap_or(0));
        Some((Usage { cpu_micros, memory_peak_bytes, disk_peak_bytes: 0 }, working_set))
    }
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
        write(v1.path(), "memory/docker/c1/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
        let (usage, memory) = Group::find(v1.path(), "c1").expect("found").read().expect("read");
        assert_eq!((usage.cpu_micros, usage.memory_peak_bytes, memory), (7, 4096, 2000));

        let v2 = tempfile::tempdir().expect("a folder");
        let scope = "system.slice/docker-c1.scope";
        write(v2.path(), &format!("{scope}/cpu.stat"), "usage_usec 9\nuser_usec 5\n");
        write(v2.path(), &format!("{scope}/memory.current"), "100\n");
        write(v2.path(), &format!("{scope}/memory.peak"), "200\n");
        write(v2.path(), &format!("{scope}/memory.stat"), "anon 5\ninactive_file 40\n");
        let (usage, memory) = Group::find(v2.path(), "c1").expect("found").read().expect("read");
        assert_eq!((usage.cpu_micros, usage.memory_peak_bytes, memory), (9, 200, 60));
        assert_eq!(Group::find(v2.path(), "c2"), None);
    }
}
