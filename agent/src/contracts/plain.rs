//! The default contract: run the container, wait, collect `/out`. It only says what the environment holds.

use longshore_common::{agent::Grant, clock::Timestamp};
use std::collections::BTreeMap;

/// The container's environment; `agent` is the weakest layer, Longshore's own words the strongest.
pub fn env(grant: &Grant, agent: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let Grant { spec, gpus, .. } = grant;
    let mut env = agent.clone();
    env.extend(spec.env.clone());
    let deadline = Timestamp::now().plus(spec.deadlines.run);
    let own = [
        ("LONGSHORE_JOB_ID", grant.short_id.to_string()),
        ("LONGSHORE_ATTEMPT", grant.attempt.number.to_string()),
        ("LONGSHORE_PROJECT", grant.project.clone()),
        ("LONGSHORE_OUT", "/out".to_owned()),
        ("LONGSHORE_SCRATCH", "/tmp_disk".to_owned()),
        ("LONGSHORE_DEADLINE", deadline.to_rfc3339()),
        ("LONGSHORE_CPUS", cores(spec.resources.cpu_millis)),
        ("LONGSHORE_MEMORY", spec.resources.memory_bytes.to_string()),
        ("LONGSHORE_GPUS", gpus.len().to_string()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    env
}

/// `4`, `0.5`.
fn cores(millis: u32) -> String {
    (f64::from(millis) / 1000.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{
        ids::{AttemptRef, Epoch, JobId, ShortId},
        job::JobSpec,
        queue::Lane,
    };
    use std::time::Duration;

    #[test]
    fn the_job_overrides_the_agent_and_longshore_overrides_both() {
        let mut spec = JobSpec::for_image("busybox:1");
        spec.resources.cpu_millis = 1500;
        spec.env = [("HTTP_PROXY", "job"), ("LONGSHORE_OUT", "/etc")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let grant = Grant {
            attempt: AttemptRef { job: JobId::new(), number: 2, epoch: Epoch(1) },
            short_id: ShortId::random(),
            project: "default".into(),
            spec,
            lease: Duration::from_secs(600),
            gpus: vec!["GPU-a".into()],
            lane: Lane::new("default", true),
            cancel_requested: false,
            sealed: false,
        };
        let agent = [("HTTP_PROXY", "agent"), ("NO_PROXY", "localhost")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let env = env(&grant, &agent);
        for (name, value) in [
            ("HTTP_PROXY", "job"),
            ("NO_PROXY", "localhost"),
            ("LONGSHORE_OUT", "/out"),
            ("LONGSHORE_ATTEMPT", "2"),
            ("LONGSHORE_CPUS", "1.5"),
            ("LONGSHORE_MEMORY", "2147483648"),
            ("LONGSHORE_GPUS", "1"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }
}
