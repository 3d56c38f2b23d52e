//! One job against one machine.

use super::{
    gpus::{choose, fits_whole},
    machine::Machine,
};
use longshore_common::{
    agent::Capacity,
    job::{Input, JobSpec, SHARE_WRITABLE, ShareInput, Version, share_access, share_label},
    units::{ByteSize, Cores},
};

/// Of a reason, in bytes: who is on sixteen GPUs still stands in it.
const LONGEST: usize = 1000;

/// Why a job does not fit a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub text: String,
    /// No freeing of capacity mends it.
    pub permanent: bool,
}

/// Why this machine does not take the job now, or `None` if it would.
pub fn explain(spec: &JobSpec, machine: &Machine) -> Option<Reason> {
    fit(spec, machine).err()
}

/// The GPUs the job gets, or the first reason why not. What can never fit is said before what is only taken.
pub fn fit(spec: &JobSpec, machine: &Machine) -> Result<Vec<String>, Reason> {
    fits_labels(spec, machine)?;
    fits_versions(spec, machine)?;
    fits_shares(spec, machine)?;
    if let Some(whole) = &machine.whole {
        fits_amounts(spec, &whole.allocatable, "has", true)?;
        fits_whole(spec, whole)?;
    }
    if !machine.note.is_empty() {
        return Err(passing(machine.note.clone()));
    }
    if machine.closed {
        return Err(passing("a job has the machine to itself".to_owned()));
    }
    if spec.resources.exclusive && machine.jobs > 0 {
        let jobs =
            if machine.jobs == 1 { "a job runs".to_owned() } else { format!("{} jobs run", machine.jobs) };
        return Err(passing(format!("wants the machine to itself, {jobs} on it")));
    }
    fits_amounts(spec, &machine.free, "free", false)?;
    let gpus = choose(spec, machine)?;
    if machine.slots == 0 {
        return Err(passing("takes no more jobs at once".to_owned()));
    }
    Ok(gpus)
}

fn fits_labels(spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    if spec.pool != machine.pool {
        return Err(lasting(format!("is in pool `{}`, not `{}`", machine.pool, spec.pool)));
    }
    let shown = |label: &str| {
        let have = machine.labels.get(label);
        have.map_or_else(|| format!("no label {label}"), |have| format!("{label}={have}"))
    };
    for (label, values) in &spec.agents {
        if !machine.labels.get(label).is_some_and(|have| values.contains(have)) {
            return Err(lasting(format!("wants {label}={}, has {}", values.join("|"), shown(label))));
        }
    }
    for rule in &spec.agent_rules {
        if !rule.holds(machine.labels.get(&rule.label).map(String::as_str)) {
            return Err(lasting(format!("wants {rule}, has {}", shown(&rule.label))));
        }
    }
    Ok(())
}

fn fits_versions(spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    let Some(gpu) = &spec.resources.gpu else { return Ok(()) };
    let pairs = [("driver", &gpu.driver, &machine.driver), ("CUDA", &gpu.cuda, &machine.cuda)];
    for (name, least, have) in pairs {
        let Some(least) = least else { continue };
        if !have.as_ref().is_some_and(|have: &Version| have.meets(least)) {
            let have = have.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            return Err(lasting(format!("needs {name} {least}, has {have}")));
        }
    }
    Ok(())
}

/// Whose shares they are is asked of [`may_have`].
fn fits_shares(spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    for ShareInput { share, writable, .. } in shares(spec) {
        let Some(may) = machine.labels.get(&share_label(share)) else {
            return Err(lasting(format!("has no share `{share}`")));
        };
        if *writable && !may.starts_with(SHARE_WRITABLE) {
            return Err(lasting(format!("has the share `{share}` read-only")));
        }
    }
    Ok(())
}

/// Whether the machine's shares are for jobs of this project.
pub fn may_have(project: &str, spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    for ShareInput { share, .. } in shares(spec) {
        let value = machine.labels.get(&share_label(share));
        if value.is_some_and(|value| share_access(value, project).is_none()) {
            return Err(lasting(format!("has the share `{share}`, but not for project `{project}`")));
        }
    }
    Ok(())
}

fn shares(spec: &JobSpec) -> impl Iterator<Item = &ShareInput> {
    spec.inputs.values().filter_map(|input| match input {
        Input::Share(share) => Some(share),
        _ => None,
    })
}

fn fits_amounts(spec: &JobSpec, have: &Capacity, word: &str, permanent: bool) -> Result<(), Reason> {
    let asked = &spec.resources;
    let short = |what: &str, need: String, have: String| {
        let text = if permanent {
            format!("needs {need} {what}, has {have}")
        } else {
            format!("needs {need} {what}, {have} {word}")
        };
        Err(Reason { text: clipped(text), permanent })
    };
    if asked.cpu_millis > have.cpu_millis {
        return short("cpu", Cores(asked.cpu_millis).to_string(), Cores(have.cpu_millis).to_string());
    }
    if asked.memory_bytes > have.memory_bytes {
        return short(
            "memory",
            ByteSize(asked.memory_bytes).to_tenths(),
            ByteSize(have.memory_bytes).to_tenths(),
        );
    }
    if asked.scratch_bytes > have.scratch_bytes {
        return short(
            "scratch",
            ByteSize(asked.scratch_bytes).to_tenths(),
            ByteSize(have.scratch_bytes).to_tenths(),
        );
    }
    Ok(())
}

pub(super) fn lasting(text: String) -> Reason {
    Reason { text: clipped(text), permanent: true }
}

pub(super) fn passing(text: String) -> Reason {
    Reason { text: clipped(text), permanent: false }
}

/// It stands in a line of a table, and is stored for every machine that is asked.
fn clipped(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
