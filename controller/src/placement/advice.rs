//! For a job that a machine can never take: what to ask for instead.

use super::{
    Machine,
    gpus::{self, fits_whole},
};
use longshore_common::{
    agent::Gpu,
    job::{GpuRequest, JobSpec},
    units::{ByteSize, Cores},
};

/// Everything that would have to be otherwise for this machine, as `resources.memory: 64 GiB at most`. Empty: it
/// takes the job when it is free.
pub fn changes(spec: &JobSpec, machine: &Machine) -> Vec<String> {
    let mut changes = Vec::new();
    if spec.pool != machine.pool {
        changes.push(format!("pool: {}", machine.pool));
    }
    for (label, values) in &spec.agents {
        if !machine.labels.get(label).is_some_and(|have| values.contains(have)) {
            changes.push(format!("agents.{label}: {}", said(machine, label)));
        }
    }
    for rule in &spec.agent_rules {
        if !rule.holds(machine.labels.get(&rule.label).map(String::as_str)) {
            changes.push(format!("agents.{}: {}", rule.label, said(machine, &rule.label)));
        }
    }
    let Some(whole) = &machine.whole else { return changes };
    let (asked, have) = (&spec.resources, &whole.allocatable);
    if asked.cpu_millis > have.cpu_millis {
        changes.push(format!("resources.cpu: {} at most", Cores(have.cpu_millis)));
    }
    if asked.memory_bytes > have.memory_bytes {
        changes.push(format!("resources.memory: {} at most", ByteSize(have.memory_bytes).to_tenths()));
    }
    if asked.scratch_bytes > have.scratch_bytes {
        changes.push(format!("resources.scratch: {} at most", ByteSize(have.scratch_bytes).to_tenths()));
    }
    if let Some(gpu) = &asked.gpu {
        for (name, least, have) in
            [("driver", &gpu.driver, &machine.driver), ("cuda", &gpu.cuda, &machine.cuda)]
        {
            if let (Some(least), Some(have)) = (least, have)
                && !have.meets(least)
            {
                changes.push(format!("resources.gpu.{name}: {have} at most"));
            }
        }
        if fits_whole(spec, whole).is_err() {
            changes.extend(of_gpus(gpu, &whole.gpus));
        }
    }
    changes
}

fn said(machine: &Machine, label: &str) -> String {
    machine.labels.get(label).map_or_else(|| "leave it out".to_owned(), Clone::clone)
}

type Change = fn(&mut GpuRequest);

/// The one rule without which they would do; else all that the machine has.
fn of_gpus(asked: &GpuRequest, gpus: &[Gpu]) -> Vec<String> {
    if gpus.is_empty() {
        return vec!["resources.gpu: leave it out".to_owned()];
    }
    let suited = |asked: &GpuRequest| gpus::suited(asked, gpus).len();
    let enough = asked.count as usize;
    let largest = gpus.iter().map(|gpu| gpu.memory_bytes).max().unwrap_or(0);
    let mut models: Vec<_> = gpus.iter().map(|gpu| gpu.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let without: [(Change, String); 5] = [
        (|gpu| gpu.memory_bytes = 0, format!("memory: {} at most", ByteSize(largest).to_tenths())),
        (|gpu| gpu.model.clear(), format!("model: one of {}", models.join(", "))),
        (|gpu| gpu.capability = None, "capability: less".to_owned()),
        (|gpu| gpu.mig = None, "mig: leave it out".to_owned()),
        (|gpu| gpu.count = 0, format!("count: {} at most", suited(asked))),
    ];
    if suited(asked) >= enough {
        return vec!["resources.gpu.nvlink: leave it out".to_owned()];
    }
    for (change, text) in &without {
        let mut other = asked.clone();
        change(&mut other);
        let changed = other != *asked && suited(&other) >= other.count.max(1) as usize;
        if changed {
            return vec![format!("resources.gpu.{text}")];
        }
    }
    vec![format!("resources.gpu: at most {} of {}", gpus.len(), models.join(", "))]
}
