//! What projects may hold at once, and hold.

use super::Reason;
use crate::identity::Quotas;
use longshore_common::{
    job::JobSpec,
    units::{ByteSize, Cores},
};
use std::collections::HashMap;

/// What a project's jobs hold on all machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub running: u64,
    pub cpu_millis: u64,
    pub memory: u64,
    pub gpus: u64,
}

/// The projects whose jobs are bounded; all others may hold what they like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    bounded: HashMap<String, (Quotas, Held)>,
    /// Those whose jobs wait by somebody's word, and that word.
    paused: HashMap<String, String>,
}

impl Tenants {
    pub fn new(bounded: impl IntoIterator<Item = (String, Quotas, Held)>) -> Self {
        let bounded = bounded.into_iter().map(|(name, quotas, held)| (name, (quotas, held)));
        Self { bounded: bounded.collect(), paused: HashMap::new() }
    }

    /// Jobs of these projects wait, and why.
    #[must_use]
    pub fn paused(mut self, paused: impl Iterator<Item = (String, String)>) -> Self {
        self.paused.extend(paused);
        self
    }

    /// Why the project may not hold this job too. What can never be is said before what is only so now.
    pub fn refuse(&self, project: &str, spec: &JobSpec) -> Option<Reason> {
        let paused = self.paused.get(project).map(|text| Reason { text: text.clone(), permanent: false });
        let refused = self.over_quota(project, spec);
        if refused.as_ref().is_some_and(|reason| reason.permanent) { refused } else { paused.or(refused) }
    }

    fn over_quota(&self, project: &str, spec: &JobSpec) -> Option<Reason> {
        let (quotas, held) = self.bounded.get(project)?;
        let asked = held_by(spec);
        let bounds: [(&str, Option<u64>, u64, u64, Shown); 4] = [
            ("running jobs", quotas.running, held.running, asked.running, count),
            ("cpus", quotas.cpu_millis, held.cpu_millis, asked.cpu_millis, cores),
            ("memory", quotas.memory, held.memory, asked.memory, bytes),
            ("GPUs", quotas.gpus, held.gpus, asked.gpus, count),
        ];
        let mut reasons = bounds.into_iter().filter_map(|(what, bound, held, asked, shown)| {
            let bound = bound.filter(|bound| asked > 0 && held.saturating_add(asked) > *bound)?;
            let permanent = asked > bound;
            let text = if permanent {
                format!("needs {} {what}, the quota of project {project} is {}", shown(asked), shown(bound))
            } else {
                format!("project {project} holds {} of its {} {what}", shown(held), shown(bound))
            };
            Some(Reason { text, permanent })
        });
        let first = reasons.next()?;
        if first.permanent {
            Some(first)
        } else {
            Some(reasons.find(|reason| reason.permanent).unwrap_or(first))
        }
    }

    pub(super) fn take(&mut self, project: &str, spec: &JobSpec) {
        if let Some((_, held)) = self.bounded.get_mut(project) {
            let asked = held_by(spec);
            held.running += asked.running;
            held.cpu_millis = held.cpu_millis.saturating_add(asked.cpu_millis);
            held.memory = held.memory.saturating_add(asked.memory);
            held.gpus += asked.gpus;
        }
    }
}

/// An amount for people.
type Shown = fn(u64) -> String;

fn count(count: u64) -> String {
    count.to_string()
}

fn cores(millis: u64) -> String {
    Cores(u32::try_from(millis).unwrap_or(u32::MAX)).to_string()
}

fn bytes(bytes: u64) -> String {
    ByteSize(bytes).rounded()
}

fn held_by(spec: &JobSpec) -> Held {
    let asked = &spec.resources;
    Held {
        running: 1,
        cpu_millis: asked.cpu_millis.into(),
        memory: asked.memory_bytes,
        gpus: asked.gpu_count().into(),
    }
}
