//! One committed outcome, and the right one.

use super::{Findings, Promise};
use crate::{
    jobs::{ATTEMPTS, Kind},
    stream::{Accepted, ended},
};
use longshore_proto::v1::{Attempt, Blame, GetJobResponse, Job, Outcome};
use std::collections::BTreeSet;

/// Whether it ended as its program did, or as somebody asked.
pub(super) fn check(
    accepted: &Accepted,
    known: &GetJobResponse,
    place: usize,
    findings: &mut Findings,
) -> bool {
    let Some(job) = &known.job else {
        findings.violation(Promise::OneOutcome, Some(place), "a job", "none".to_owned());
        return false;
    };
    if !ended(job) {
        let waiting = known.waiting.as_ref().map(|waiting| waiting.summary.clone()).unwrap_or_default();
        findings.violation(
            Promise::OneOutcome,
            Some(place),
            "an end",
            format!("{:?} {waiting}", job.state()),
        );
        return false;
    }
    if let Some(wrong) = not_one(job, &known.attempts) {
        findings.violation(Promise::OneOutcome, Some(place), "one committed outcome", wrong);
    }
    let expected = accepted.order.expected();
    let seen = text(job);
    if seen == expected || accepted.order.kind == Kind::Cancelled && seen == "cancelled" {
        return true;
    }
    let detail = job.outcome.as_ref().map(|outcome| outcome.detail.clone()).unwrap_or_default();
    if spent(job, &known.attempts) {
        findings.allowed.push(format!(
            "{} ({}): {seen} after {} attempts: {detail}",
            job.id, accepted.order.kind, job.attempts
        ));
    } else {
        findings.violation(Promise::RightOutcome, Some(place), &expected, format!("{seen}: {detail}"));
    }
    false
}

/// The outcome as it is stored: `exit_code(3)`.
pub(super) fn text(job: &Job) -> String {
    job.outcome.as_ref().map_or_else(|| job.state().as_str_name().to_owned(), outcome_text)
}

pub(super) fn outcome_text(outcome: &Outcome) -> String {
    if outcome.name == "exit_code" {
        format!("exit_code({})", outcome.exit_code)
    } else {
        outcome.name.clone()
    }
}

/// More or less than one attempt whose word is the job's.
fn not_one(job: &Job, attempts: &[Attempt]) -> Option<String> {
    let outcomes: Vec<_> =
        attempts.iter().map(|attempt| attempt.outcome.as_ref().map(outcome_text)).collect();
    let whole = attempts.len() == job.attempts as usize
        && attempts.iter().zip(1..).all(|(attempt, number)| attempt.number == number)
        && outcomes.iter().all(Option::is_some);
    // A program's own end is never followed by another attempt.
    let earlier = outcomes.len().saturating_sub(1);
    let own = outcomes[..earlier]
        .iter()
        .flatten()
        .find(|text| *text == "succeeded" || text.starts_with("exit_code"));
    let last = outcomes.last().cloned().flatten();
    let same =
        last.as_deref() == Some(&text(job)) || matches!(text(job).as_str(), "cancelled" | "lost_too_often");
    (!whole || own.is_some() || !same).then(|| format!("job {}, attempts {outcomes:?}", text(job)))
}

/// The retry policy allows no further attempt, and nothing in it was the program's fault.
fn spent(job: &Job, attempts: &[Attempt]) -> bool {
    let platform = |attempt: &Attempt| {
        attempt.outcome.as_ref().is_some_and(|outcome| outcome.blame() == Blame::Platform)
    };
    let handed_back =
        |attempt: &&Attempt| attempt.outcome.as_ref().is_some_and(|outcome| outcome.name == "agent_shutdown");
    let counted = attempts.len() - attempts.iter().filter(handed_back).count();
    let lost =
        |attempt: &&Attempt| attempt.outcome.as_ref().is_some_and(|outcome| outcome.name == "agent_lost");
    // Twice on one agent is no such end: two of them must have died.
    let agents: BTreeSet<_> = attempts.iter().filter(lost).map(|attempt| &attempt.agent).collect();
    let poison = text(job) == "lost_too_often" && agents.len() >= 2;
    poison || attempts.iter().all(platform) && counted >= ATTEMPTS as usize
}
