//! What `run` says while a job goes through its states.

use crate::client::Client;
use crate::follow::{self, Announcement, Screen, is_ended};
use crate::output::{amount, span};
use longshore_common::job::{JobSpec, JobState};
use longshore_common::{clock::Timestamp, units, wire};
use longshore_proto::v1;
use std::{ops::Range, sync::Arc, time::Duration};

/// A job that starts at once needs no reason.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the reason may change on the screen.
const REASONS: Duration = Duration::from_secs(2);
/// Agents named in a reason.
const NAMED: usize = 2;

/// Follows the job to its end and tells each step.
pub(super) async fn narrate(
    client: &Client,
    mut job: v1::Job,
    running: &Announcement,
    screen: &Screen,
) -> anyhow::Result<v1::Job> {
    let mut told = None;
    let mut ends_told = 0;
    let mut reason = Reason::default();
    loop {
        let state = follow::state(&job);
        let step = (job.attempts, Step::of(state, job.attempts));
        let ends = ends_before(&job);
        if ends > ends_told {
            for line in retries(client, &job, ends_told..ends).await {
                screen.say(line);
            }
            ends_told = ends;
        }
        if told != Some(step) {
            match step.1 {
                Step::Claimed => screen.say(claimed(client, &job).await),
                Step::Running => running.tell(),
                Step::Waits | Step::Backoff | Step::Other => {}
            }
            told = Some(step);
        }
        if is_ended(&job) {
            return Ok(job);
        }
        let change = follow::next_change(client, &job.id, job.revision);
        let next = if step.1 == Step::Waits {
            tokio::select! {
                next = change => next,
                never = reason.tell(client, &job.id, screen) => match never {},
            }
        } else {
            change.await
        };
        job = next?;
    }
}

/// States that are one to whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// For an agent, or for what must come before.
    Waits,
    /// Until it may be tried again: no agent is asked.
    Backoff,
    Claimed,
    Running,
    Other,
}

impl Step {
    const fn of(state: Option<JobState>, attempts: u32) -> Self {
        match state {
            Some(JobState::Queued) => Self::Waits,
            Some(JobState::Waiting) if attempts == 0 => Self::Waits,
            Some(JobState::Waiting) => Self::Backoff,
            Some(JobState::Claimed | JobState::Preparing) => Self::Claimed,
            Some(JobState::Running) => Self::Running,
            _ => Self::Other,
        }
    }
}

/// How many attempts ended with another one after them.
fn ends_before(job: &v1::Job) -> u32 {
    match Step::of(follow::state(job), job.attempts) {
        Step::Waits | Step::Backoff => job.attempts,
        // The last one is under way, or the job's own end.
        Step::Claimed | Step::Running | Step::Other => job.attempts.saturating_sub(1),
    }
}

/// A line for each of these attempts, counted from 0: why it ended, and when the next one comes.
async fn retries(client: &Client, job: &v1::Job, which: Range<u32>) -> Vec<String> {
    let request = v1::GetJobRequest { job: job.id.clone() };
    let Ok(answer) = client.ask(client.jobs().get(request)).await else { return Vec::new() };
    let attempts = answer.attempts.iter().filter(|attempt| which.contains(&attempt.number.saturating_sub(1)));
    let line = |attempt: &v1::Attempt| {
        let is_last = attempt.number == job.attempts;
        retry_line(attempt, job.not_before.as_ref().filter(|_| is_last).map(until))
    };
    attempts.map(line).collect()
}

fn retry_line(attempt: &v1::Attempt, wait: Option<Duration>) -> String {
    let outcome = attempt.outcome.clone().unwrap_or_default();
    let on = if attempt.agent.is_empty() { String::new() } else { format!(" on {}", attempt.agent) };
    let wait = wait.filter(|wait| !wait.is_zero());
    let soon = wait.map_or_else(|| "now".to_owned(), |wait| format!("in {}", span(wait)));
    format!(
        "  retry    attempt {}{on} ended: {} ({}); attempt {} follows {soon}",
        attempt.number,
        outcome.detail,
        outcome.name,
        attempt.number + 1
    )
}

/// From now on; the machines' clocks may differ by a little.
fn until(time: &prost_types::Timestamp) -> Duration {
    wire::timestamp_from(time).since(Timestamp::now())
}

/// The node, its GPUs and how long it took.
async fn claimed(client: &Client, job: &v1::Job) -> String {
    let request = v1::GetJobRequest { job: job.id.clone() };
    let answer = client.ask(client.jobs().get(request)).await.ok();
    let attempt = answer.and_then(|mut answer| answer.attempts.pop());
    let mut line = format!("  claimed  {}", job.agent);
    let Some(attempt) = attempt else { return line };
    for gpu in &attempt.gpus {
        line.push_str(&format!("  GPU {}", gpu_name(gpu)));
    }
    if let (Some(created), Some(_)) = (&job.created_at, &attempt.claimed_at)
        && let Some(after) = amount(Some(created), attempt.claimed_at.as_ref())
        && attempt.number <= 1
        && after >= PATIENCE
    {
        line.push_str(&format!("  after {}", span(after)));
    }
    line
}

/// `0 NVIDIA A100 80GB GPU-…` without the UUID, which is for machines.
fn gpu_name(text: &str) -> &str {
    text.rsplit_once(" GPU-").map_or(text, |(name, _)| name)
}

/// What is said once the container runs.
pub(super) fn running(job: &v1::Job, screen: &Arc<Screen>) -> Announcement {
    let spec = job.spec.clone().and_then(|spec| JobSpec::try_from(spec).ok());
    let line = spec.map_or_else(String::new, |spec| format!("  running  {}", limits(&spec)));
    Announcement::new(line, Arc::clone(screen))
}

/// The limits that most often surprise, each marked if nobody set it.
fn limits(spec: &JobSpec) -> String {
    let default = JobSpec::for_image("x");
    let mark = |is_default: bool| if is_default { " (default)" } else { "" };
    let (asked, usual) = (&spec.resources, &default.resources);
    format!(
        "cpu {}{} · memory {}{} · {}{}",
        units::Cores(asked.cpu_millis),
        mark(asked.cpu_millis == usual.cpu_millis),
        units::ByteSize(asked.memory_bytes).rounded(),
        mark(asked.memory_bytes == usual.memory_bytes),
        units::HumanDuration(spec.deadlines.run),
        mark(spec.deadlines.run == default.deadlines.run),
    )
}

/// Why a job waits, told when it changes.
#[derive(Debug, Default)]
struct Reason {
    last: String,
    waited: bool,
}

enum Never {}

impl Reason {
    async fn tell(&mut self, client: &Client, job: &str, screen: &Screen) -> Never {
        loop {
            tokio::time::sleep(if self.waited { REASONS } else { PATIENCE }).await;
            self.waited = true;
            let request = v1::ExplainJobRequest { job: job.to_owned(), ..Default::default() };
            // The link's troubles are told by the other half.
            let Ok(answer) = client.jobs().explain(request).await else { continue };
            let Some(explanation) = answer.into_inner().explanation else { continue };
            let text = describe(&explanation, job);
            if text != self.last {
                screen.say(&text);
                self.last = text;
            }
        }
    }
}

fn describe(explanation: &v1::JobExplanation, job: &str) -> String {
    let mut text = format!("  waiting  {}", explanation.summary);
    let lines = explanation.agents.iter().map(|agent| format!("{}: {}", agent.agent, agent.reason));
    text.extend(explanation.changes.iter().map(|change| format!("\n           to run at all: {change}")));
    // The summary may name the first agent itself.
    let others: Vec<_> = lines.filter(|line| !explanation.summary.contains(line)).collect();
    for line in others.iter().take(NAMED) {
        text.push_str(&format!("\n           {line}"));
    }
    let more = others.len().saturating_sub(NAMED);
    if more > 0 {
        text.push_str(&format!(" · {more} more: longshore explain {job}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::job::Outcome;

    #[test]
    fn defaults_are_marked() {
        let mut spec = JobSpec::for_image("alpine");
        spec.resources.memory_bytes = 8 << 30;
        assert_eq!(limits(&spec), "cpu 1 (default) · memory 8 GiB · 24h (default)");
    }

    #[test]
    fn a_reason_names_two_agents_and_counts_the_rest() {
        let agent = |name: &str| v1::AgentReason {
            agent: name.to_owned(),
            reason: "needs 2 GPUs, has 1".to_owned(),
            ..Default::default()
        };
        let explanation = v1::JobExplanation {
            place: 2,
            summary: "2nd in line".to_owned(),
            agents: vec![agent("gpu-04"), agent("gpu-07"), agent("gpu-08")],
            ..Default::default()
        };
        let text = describe(&explanation, "k3m9q2xw");
        assert!(
            text.starts_with("  waiting  2nd in line\n           gpu-04: needs 2 GPUs, has 1\n"),
            "{text}"
        );
        assert!(text.ends_with(" · 1 more: longshore explain k3m9q2xw"), "{text}");
        let summary = "no agent fits; gpu-04: needs 2 GPUs, has 1".to_owned();
        let explanation = v1::JobExplanation { summary, agents: vec![agent("gpu-04")], ..explanation };
        assert_eq!(describe(&explanation, "x"), "  waiting  no agent fits; gpu-04: needs 2 GPUs, has 1");
    }

    #[test]
    fn an_attempt_that_is_tried_again_says_why_and_when() {
        let outcome = wire::outcome(&Outcome::EngineRestart, "", "k3m9q2xw");
        let attempt =
            v1::Attempt { number: 1, agent: "gpu-04".into(), outcome: Some(outcome), ..Default::default() };
        assert_eq!(
            retry_line(&attempt, Some(Duration::from_secs(30))),
            "  retry    attempt 1 on gpu-04 ended: the container engine went away and took the container with it \
             (engine_restart); attempt 2 follows in 30s"
        );
        assert!(retry_line(&attempt, None).ends_with("attempt 2 follows now"));
    }

    #[test]
    fn only_ends_with_another_attempt_after_them_are_retries() {
        let job = |state, attempts| v1::Job {
            state: v1::JobState::from(state) as i32,
            attempts,
            ..v1::Job::default()
        };
        for (state, attempts, ends) in [
            (JobState::Queued, 0, 0),
            (JobState::Waiting, 1, 1),
            (JobState::Queued, 2, 2),
            (JobState::Claimed, 2, 1),
            (JobState::Running, 1, 0),
            (JobState::Failed, 3, 2),
            (JobState::Cancelled, 0, 0),
        ] {
            assert_eq!(ends_before(&job(state, attempts)), ends, "{state} {attempts}");
        }
    }

    #[test]
    fn a_gpu_is_named_without_its_uuid() {
        assert_eq!(gpu_name("0 NVIDIA A100 80GB GPU-1234"), "0 NVIDIA A100 80GB");
        assert_eq!(gpu_name("0"), "0");
    }
}
