//! How soon each part was of use again after it was killed: from its start to the first thing that needs it, but for
//! the time in which something else was broken that is needed too.

use crate::{
    check::{Evidence, Findings},
    faults::{Link, PARTS, Part, What},
    jobs::Kind,
    timeline::Entry,
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
            let used = uses.iter().filter(|at| *at > restart).min()?;
            Some(undisturbed(part, *restart, *used, &evidence.timeline.between(*restart, *used)))
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

/// Seconds between these times in which this part had all that it needs.
fn undisturbed(part: Part, from: Duration, to: Duration, faults: &[Entry]) -> f64 {
    const STEP: Duration = Duration::from_millis(20);
    let steps = (to - from).as_millis() / STEP.as_millis();
    let times = (0..u32::try_from(steps).unwrap_or(u32::MAX)).map(|step| from + STEP * step);
    let well = times.filter(|at| {
        let broken =
            |seat: usize| faults.iter().any(|fault| fault.lasts_at(*at) && seat_of(fault.what) == Some(seat));
        let agents = match part {
            Part::Agent(seat) => broken(seat),
            // One of them is enough.
            _ => broken(0) && broken(1),
        };
        !agents && !faults.iter().any(|fault| fault.lasts_at(*at) && seat_of(fault.what).is_none())
    });
    (STEP * u32::try_from(well.count()).unwrap_or(u32::MAX)).as_secs_f64()
}

/// The one agent that a fault concerns.
const fn seat_of(what: What) -> Option<usize> {
    match what {
        What::Kill { part: Part::Agent(seat), .. }
        | What::Pause(Part::Agent(seat))
        | What::Cut(Link::Agent(seat))
        | What::Freeze(Link::Agent(seat)) => Some(seat),
        What::Kill { .. } | What::Pause(_) | What::Cut(_) | What::Freeze(_) => None,
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
