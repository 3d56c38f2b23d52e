//! Which GPUs of a machine a job gets. Smallest sufficient memory first, so that large ones stay for those who need
//! them; then together: one NVLink group before one NUMA node before anything; then what breaks up least.

use super::{
    fit::{Reason, lasting, passing},
    globs::model_matches,
    machine::{Machine, Whole},
};
use longshore_common::{
    agent::Gpu,
    job::{GpuRequest, JobSpec, Version},
};
use std::collections::{BTreeMap, BTreeSet};

/// Whether the machine would have them if nothing else ran.
pub(super) fn fits_whole(spec: &JobSpec, whole: &Whole) -> Result<(), Reason> {
    let Some(asked) = &spec.resources.gpu else { return Ok(()) };
    let suited = suited(asked, &whole.gpus);
    if suited.len() < asked.count as usize {
        let have = if suited.len() == whole.gpus.len() {
            suited.len().to_string()
        } else {
            format!("{} such of {}", suited.len(), whole.gpus.len())
        };
        return Err(lasting(format!("needs {asked}, has {have}")));
    }
    if must_be_joined(asked) && largest_group(&suited) < asked.count as usize {
        let largest = largest_group(&suited);
        return Err(lasting(format!("needs {asked}, has {largest} such in one group at most")));
    }
    Ok(())
}

/// UUIDs of the free ones that it gets.
pub(super) fn choose(spec: &JobSpec, machine: &Machine) -> Result<Vec<String>, Reason> {
    let Some(asked) = &spec.resources.gpu else { return Ok(Vec::new()) };
    if asked.shared
        && let Some(uuid) = part(asked, machine)
    {
        return Ok(vec![uuid]);
    }
    let suited = suited(asked, &machine.gpus);
    let count = asked.count as usize;
    let found = if must_be_joined(asked) { largest_group(&suited) } else { suited.len() };
    if found < count {
        return Err(passing(format!("needs {asked}, {found} free{}", in_use(asked, machine))));
    }
    let best = sets(asked, &suited).min_by_key(|set| cost(set, &machine.gpus));
    let mut best = best.expect("there are enough of them");
    best.sort_by_key(|gpu| gpu.index);
    Ok(best.into_iter().map(|gpu| gpu.uuid.clone()).collect())
}

/// The fullest GPU of other shared jobs that has room for one more.
fn part(asked: &GpuRequest, machine: &Machine) -> Option<String> {
    let suited = suited(asked, machine.shared_free.iter().map(|(gpu, _)| gpu));
    let suits = |gpu: &Gpu| suited.iter().any(|one| one.uuid == gpu.uuid);
    let room = machine.shared_free.iter().filter(|(gpu, left)| *left >= asked.memory_bytes && suits(gpu));
    room.min_by_key(|(gpu, left)| (*left, gpu.index)).map(|(gpu, _)| gpu.uuid.clone())
}

const fn must_be_joined(asked: &GpuRequest) -> bool {
    asked.nvlink && asked.count > 1
}

/// The best set of each group that has enough, and of all of them.
fn sets<'a>(asked: &GpuRequest, suited: &[&'a Gpu]) -> impl Iterator<Item = Vec<&'a Gpu>> {
    let mut groups: Vec<Vec<&Gpu>> = groups(suited, |gpu| gpu.nvlink);
    if !must_be_joined(asked) {
        groups.extend(self::groups(suited, |gpu| gpu.numa));
        groups.push(suited.to_vec());
    }
    let count = asked.count as usize;
    groups.into_iter().filter(move |group| group.len() >= count).map(move |mut group| {
        group.sort_by_key(|gpu| (gpu.memory_bytes, gpu.index));
        group.truncate(count);
        group
    })
}

fn groups<'a>(suited: &[&'a Gpu], of: impl Fn(&Gpu) -> Option<u32>) -> Vec<Vec<&'a Gpu>> {
    let mut groups: BTreeMap<u32, Vec<&Gpu>> = BTreeMap::new();
    for gpu in suited {
        if let Some(group) = of(gpu) {
            groups.entry(group).or_default().push(gpu);
        }
    }
    groups.into_values().collect()
}

fn largest_group(suited: &[&Gpu]) -> usize {
    groups(suited, |gpu| gpu.nvlink).iter().map(Vec::len).max().unwrap_or(0)
}

/// Smaller is better: memory, whether they are joined, whether they are near, free ones they leave in broken groups.
fn cost(set: &[&Gpu], free: &[Gpu]) -> (u64, bool, bool, usize, u32) {
    let alike = |of: fn(&Gpu) -> Option<u32>| {
        let first = set.first().and_then(|gpu| of(gpu));
        first.is_some() && set.iter().all(|gpu| of(gpu) == first)
    };
    let several = set.len() > 1;
    let nvlink = |gpu: &Gpu| gpu.nvlink;
    let numa = |gpu: &Gpu| gpu.numa;
    let chosen: BTreeSet<&str> = set.iter().map(|gpu| gpu.uuid.as_str()).collect();
    let left_in = |of: fn(&Gpu) -> Option<u32>| {
        let broken: BTreeSet<u32> = set.iter().filter_map(|gpu| of(gpu)).collect();
        let left = |gpu: &&Gpu| of(gpu).is_some_and(|group| broken.contains(&group));
        free.iter().filter(left).filter(|gpu| !chosen.contains(gpu.uuid.as_str())).count()
    };
    (
        set.iter().map(|gpu| gpu.memory_bytes).sum(),
        several && !alike(nvlink),
        several && !alike(numa),
        left_in(nvlink) + left_in(numa),
        set.iter().map(|gpu| gpu.index).sum(),
    )
}

/// Who has the suitable ones: `; GPU 1: python of anna (pid 4711) holds 22 GiB`.
fn in_use(asked: &GpuRequest, machine: &Machine) -> String {
    let Some(whole) = &machine.whole else { return String::new() };
    let mut text = String::new();
    for gpu in suited(asked, &whole.gpus) {
        match (&gpu.health, &gpu.busy, &gpu.job) {
            (_, Some(busy), _) => text.push_str(&format!("; GPU {}: {busy}", gpu.index)),
            (Some(health), None, _) => text.push_str(&format!("; GPU {}: set aside: {health}", gpu.index)),
            (None, None, Some(job)) => text.push_str(&format!("; GPU {}: job {job}", gpu.index)),
            (None, None, None) => {}
        }
    }
    text
}

/// Those that keep every rule. What is alike is asked about once.
pub(super) fn suited<'a>(asked: &GpuRequest, gpus: impl IntoIterator<Item = &'a Gpu>) -> Vec<&'a Gpu> {
    let mut known: Vec<(&str, bool)> = Vec::new();
    let mut is_named = |model: &'a str| match known.iter().find(|(of, _)| *of == model) {
        Some((_, is)) => *is,
        None => {
            let is = named(asked, model);
            known.push((model, is));
            is
        }
    };
    gpus.into_iter().filter(|gpu| is_able(asked, gpu) && is_named(&gpu.model)).collect()
}

fn is_able(asked: &GpuRequest, gpu: &Gpu) -> bool {
    let able = |least: &Version| {
        let have = gpu.capability.and_then(|(major, minor)| format!("{major}.{minor}").parse().ok());
        have.is_some_and(|have: Version| have.meets(least))
    };
    gpu.memory_bytes >= asked.memory_bytes
        && asked.mig == gpu.mig
        && asked.capability.as_ref().is_none_or(able)
}

/// Any of the globs, and none of those that exclude.
fn named(asked: &GpuRequest, model: &str) -> bool {
    let (not, any): (Vec<_>, Vec<_>) = asked.model.iter().partition(|glob| glob.starts_with('!'));
    (any.is_empty() || any.iter().any(|glob| model_matches(glob, model)))
        && !not.iter().any(|glob| model_matches(glob.trim_start_matches('!'), model))
}
