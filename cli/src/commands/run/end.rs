//! How a job's end is told, and what it means for the exit code.

use crate::failure::code;
use crate::follow;
use crate::output::{amount, size, span};
use longshore_common::job::{JobState, Outcome};
use longshore_common::units::ByteSize;
use longshore_proto::v1;

/// The container's own code, or what the outcome table says.
pub(crate) fn exit_code(job: &v1::Job) -> i32 {
    match (&job.outcome, follow::state(job)) {
        (Some(outcome), _) => outcome.exit_code,
        (None, Some(JobState::Succeeded)) => 0,
        (None, Some(JobState::Cancelled)) => code::INTERRUPTED,
        (None, Some(JobState::TimedOut)) => 124,
        (None, _) => code::PLATFORM,
    }
}

/// `failed after 2m51s: … (oom_killed)`, and what to try.
pub(crate) fn end_line(job: &v1::Job) -> Vec<String> {
    let state = follow::state(job).map_or_else(|| "ended".to_owned(), |state| state.to_string());
    let mut line = state.replace('_', " ");
    if let Some(ran) = amount(job.started_at.as_ref(), job.finished_at.as_ref()) {
        line.push_str(&format!(" after {}", span(ran)));
    }
    let Some(outcome) = &job.outcome else { return vec![line] };
    if follow::state(job) != Some(JobState::Succeeded) {
        line.push_str(&format!(": {} ({})", detail(job, outcome), outcome.name));
    }
    let mut lines = vec![line];
    let hint = hint(job, outcome);
    if !hint.is_empty() {
        lines.push(format!("  try: {hint}"));
    }
    lines
}

/// What happened, with the limit that was passed.
pub(crate) fn detail(job: &v1::Job, outcome: &v1::Outcome) -> String {
    match memory_limit(job, outcome) {
        Some(limit) => {
            outcome.detail.replace("its memory limit", &format!("its {} memory limit", size(limit)))
        }
        None => outcome.detail.clone(),
    }
}

/// What to try; of a memory limit twice as much.
fn hint(job: &v1::Job, outcome: &v1::Outcome) -> String {
    let files = outcome.name == Outcome::FilesOverMemory.name();
    let limit = if files { asked_memory(job) } else { memory_limit(job, outcome) };
    match limit {
        Some(limit) => outcome.hint.replace("SIZE", &ByteSize(limit.saturating_mul(2)).to_string()),
        None => outcome.hint.clone(),
    }
}

/// Of a job that passed it.
fn memory_limit(job: &v1::Job, outcome: &v1::Outcome) -> Option<u64> {
    asked_memory(job).filter(|_| outcome.name == Outcome::OomKilled.name())
}

fn asked_memory(job: &v1::Job) -> Option<u64> {
    job.spec.as_ref()?.resources.as_ref()?.memory_bytes.filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::{job::JobSpec, wire};

    fn ended(outcome: &Outcome) -> v1::Job {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        v1::Job {
            id: "k3m9q2xw".into(),
            state: v1::JobState::from(outcome.state()) as i32,
            outcome: Some(wire::outcome(outcome, "", "k3m9q2xw")),
            started_at: time(100),
            finished_at: time(271),
            ..v1::Job::default()
        }
    }

    #[test]
    fn exit_codes_are_the_promised_ones() {
        for (outcome, code) in [
            (Outcome::Succeeded, 0),
            (Outcome::ExitCode(3), 3),
            (Outcome::RunTimeout, 124),
            (Outcome::QueueTimeout, 124),
            (Outcome::PrepareTimeout, 124),
            (Outcome::ImageNotFound, 125),
            (Outcome::AgentLost, 125),
            (Outcome::EntrypointNotExecutable, 126),
            (Outcome::EntrypointNotFound, 127),
            (Outcome::Cancelled, 130),
            (Outcome::OomKilled, 137),
        ] {
            assert_eq!(exit_code(&ended(&outcome)), code, "{outcome}");
        }
        assert_eq!(exit_code(&v1::Job::default()), 125);
    }

    #[test]
    fn the_last_lines_say_what_happened_and_what_to_try() {
        assert_eq!(
            end_line(&ended(&Outcome::OomKilled)),
            [
                "failed after 2m51s: the container passed its memory limit (oom_killed)",
                "  try: longshore retry k3m9q2xw --memory SIZE"
            ]
        );
        let spec = Some(v1::JobSpec::from(&JobSpec::for_image("alpine")));
        assert_eq!(
            end_line(&v1::Job { spec, ..ended(&Outcome::OomKilled) }),
            [
                "failed after 2m51s: the container passed its 2 GiB memory limit (oom_killed)",
                "  try: longshore retry k3m9q2xw --memory 4GiB"
            ]
        );
        assert_eq!(end_line(&ended(&Outcome::Succeeded)), ["succeeded after 2m51s"]);
        assert!(end_line(&ended(&Outcome::RunTimeout))[0].starts_with("timed out after"));
    }
}
