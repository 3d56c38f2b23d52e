//! One job against one machine.

use super::{
    gpus::{choose, fits_whole},
    machine::Machine,
};
use longshore_common::{
    agent::Capacity,
    job::{Input, JobSpec, SHARE_WRITABLE, ShareInput, Version, share_label},
    units::{ByteSize, Cores},
};

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

fn fits_shares(spec: &JobSpec, machine: &Machine) -> Result<(), Reason> {
    for input in spec.inputs.values() {
        let Input::Share(ShareInput { share, writable, .. }) = input else { continue };
        match machine.labels.get(&share_label(share)) {
            None => return Err(lasting(format!("has no share `{share}`"))),
            Some(may) if *writable && may != SHARE_WRITABLE => {
                return Err(lasting(format!("has the share `{share}` read-only")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn fits_amounts(spec: &JobSpec, have: &Capacity, word: &str, permanent: bool) -> Result<(), Reason> {
    let asked = &spec.resources;
    let short = |what: &str, need: String, have: String| {
        let text = if permanent {
            format!("needs {need} {what}, has {have}")
        } else {
            format!("needs {need} {what}, {have} {word}")
        };
        Err(Reason { text, permanent })
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

pub(super) const fn lasting(text: String) -> Reason {
    Reason { text, permanent: true }
}

pub(super) const fn passing(text: String) -> Reason {
    Reason { text, permanent: false }
}
