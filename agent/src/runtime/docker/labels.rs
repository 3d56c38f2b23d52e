//! The labels that say whose container it is. They alone are believed after a restart; names are for people.

use crate::runtime::{ContainerId, ContainerSpec, Known, Scratch};
use longshore_common::ids::{AgentId, AttemptRef, Epoch};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

pub(super) const AGENT: &str = "longshore.agent";
pub(super) const CLUSTER: &str = "longshore.cluster";
const JOB: &str = "longshore.job";
const ATTEMPT: &str = "longshore.attempt";
const EPOCH: &str = "longshore.epoch";
const IMAGE: &str = "longshore.image";
const OUT: &str = "longshore.scratch.out";
const TMP: &str = "longshore.scratch.tmp";

pub(super) fn of(spec: &ContainerSpec) -> HashMap<String, String> {
    [
        (CLUSTER, spec.cluster.to_string()),
        (AGENT, spec.agent.to_string()),
        (JOB, spec.attempt.job.to_string()),
        (ATTEMPT, spec.attempt.number.to_string()),
        (EPOCH, spec.attempt.epoch.0.to_string()),
        (IMAGE, spec.image_name.clone()),
        (OUT, spec.scratch.out.display().to_string()),
        (TMP, spec.scratch.tmp.display().to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Whether a container with these labels is this very attempt's.
pub(super) fn belong_to(labels: &HashMap<String, String>, spec: &ContainerSpec) -> bool {
    let wanted = of(spec);
    [CLUSTER, AGENT, JOB, ATTEMPT, EPOCH].iter().all(|key| labels.get(*key) == wanted.get(*key))
}

/// `None`: not a container of Longshore's.
pub(super) fn known(container: &str, running: bool, labels: &HashMap<String, String>) -> Option<Known> {
    let attempt = AttemptRef {
        job: labels.get(JOB)?.parse().ok()?,
        number: labels.get(ATTEMPT)?.parse().ok()?,
        epoch: Epoch(labels.get(EPOCH)?.parse().ok()?),
    };
    let cluster = labels.get(CLUSTER)?.parse().ok()?;
    let folder = scratch(labels).first().and_then(|out| Scratch::home(out)).map(Path::to_owned);
    Some(Known { container: ContainerId(container.to_owned()), cluster, attempt, running, folder })
}

/// The scratch folders its agent made for it.
pub(super) fn scratch(labels: &HashMap<String, String>) -> Vec<PathBuf> {
    [OUT, TMP].iter().filter_map(|key| labels.get(*key)).map(PathBuf::from).collect()
}

/// The filter for containers of this agent.
pub(super) fn of_agent(agent: AgentId) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{AGENT}={agent}")])])
}

/// Eight characters that tell ids apart. The end, for the beginning of a time-ordered id is a time.
pub(super) fn tail(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::contract::sample_spec;

    #[test]
    fn labels_read_back_as_the_attempt_they_were_made_for() {
        let spec = sample_spec();
        let labels = of(&spec);
        let known = known("c1", true, &labels).expect("ours");
        assert_eq!((known.attempt, known.cluster), (spec.attempt, spec.cluster));
        assert_eq!(scratch(&labels), [spec.scratch.out.clone(), spec.scratch.tmp.clone()]);
        assert!(belong_to(&labels, &spec));
    }

    #[test]
    fn another_attempt_of_the_same_job_is_not_adopted() {
        let spec = sample_spec();
        let mut next = spec.clone();
        next.attempt.number += 1;
        assert!(!belong_to(&of(&spec), &next));
        assert_eq!(known("c1", true, &HashMap::new()), None);
    }

    #[test]
    fn agents_made_within_one_minute_get_different_names() {
        let (a, b) = (AgentId::new().to_string(), AgentId::new().to_string());
        assert_ne!(tail(&a), tail(&b));
    }
}
