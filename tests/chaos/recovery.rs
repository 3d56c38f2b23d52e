//! How soon each part was of use again after it was killed: from its start to the first thing that needs it.

use crate::{
    check::{Evidence, Findings},
    faults::{PARTS, Part},
    jobs::Kind,
};
use longshore_proto::v1::Attempt;
use longshore_tests::{
    env::agent_name,
    summary::{Goal, Summary, percentile},
};
use prost_types::Timestamp;
use std::time::Duration;

pub(crate) fn tell(evidence: &Evidence<'_>, findings: &Findings, summary: &mut Summary) {
    for part in PARTS {
        let uses = uses(part, evidence, findings);
        let first_after = |restart: &Duration| {
            uses.iter().filter(|at| *at > restart).min().map(|at| (*at - *restart).as_secs_f64())
        };
        let mut times: Vec<f64> = evidence.timeline.restarts(part).iter().filter_map(first_after).collect();
        if times.is_empty() {
            continue;
        }
        let name = format!("recovery after a kill of {part}");
        summary.add(&format!("{name}, p50"), percentile(&mut times, 0.5), "s", None, Goal::None);
        summary.add(&format!("{name}, max"), percentile(&mut times, 1.0), "s", None, Goal::None);
    }
}

/// When something happened that cannot happen without this part.
fn uses(part: Part, evidence: &Evidence<'_>, findings: &Findings) -> Vec<Duration> {
    let of = |time: Option<&Timestamp>| time.map(|time| evidence.timeline.of(time));
    let attempts = || findings.jobs.iter().flat_map(|job| &job.attempts);
    let each = |time: fn(&Attempt) -> Option<&Timestamp>| {
        attempts().filter_map(|attempt| of(time(attempt))).collect()
    };
    match part {
        Part::Controller => each(|attempt| attempt.finished_at.as_ref()),
        // An agent that has just become free asks without a hint: such a claim says nothing of the broker.
        Part::Broker => {
            let mut claims: Vec<Duration> = each(|attempt| attempt.claimed_at.as_ref());
            claims.retain(|at| was_well(evidence.queue_well, *at));
            claims
        }
        Part::Engine => each(|attempt| attempt.started_at.as_ref()),
        Part::Agent(seat) => attempts()
            .filter(|attempt| attempt.agent == agent_name(seat))
            .flat_map(|attempt| [of(attempt.claimed_at.as_ref()), of(attempt.finished_at.as_ref())])
            .flatten()
            .collect(),
        Part::Store => evidence
            .orders
            .accepted
            .iter()
            .zip(&findings.jobs)
            .filter(|(accepted, _)| accepted.order.kind == Kind::Files)
            .filter_map(|(_, known)| of(known.job.as_ref()?.finished_at.as_ref()))
            .collect(),
    }
}

/// As it was asked last.
fn was_well(asked: &[(Duration, bool)], at: Duration) -> bool {
    asked.iter().rev().find(|(when, _)| *when <= at).is_some_and(|(_, well)| *well)
}
