//! `step`: every pair of state and event is listed, so that a new state or event does not compile until decided.

use super::{
    again::{self, lost, not_taken},
    effect::Effect,
    event::{Event, Loss, Phase},
    refusal::Refusal,
    state::{Desired, Ending, Job, Latest},
};
use longshore_common::{
    clock::Timestamp,
    ids::{AgentId, AttemptRef, Epoch},
    job::{JobState, Outcome},
};
/// The job after the event, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub job: Job,
    pub effects: Vec<Effect>,
}

/// What `event` makes of `job`. A refusal changes nothing.
pub fn step(job: &Job, event: Event, now: Timestamp) -> Result<Step, Refusal> {
    use Event as E;
    use JobState as S;
    if let Some(attempt) = event.attempt() {
        job.check(attempt)?;
    }
    let illegal = Err(Refusal::Illegal { from: job.state, event: event.name() });
    match (job.state, event) {
        (S::Queued, E::Claimed { agent, epoch }) => Ok(claimed(job, agent, epoch)),
        (S::Waiting | S::Claimed | S::Preparing | S::Running | S::Collecting, E::Claimed { .. }) => illegal,

        (S::Claimed | S::Preparing | S::Running | S::Collecting, E::Phase { attempt, phase }) => {
            moved(job, attempt, phase)
        }
        (S::Waiting | S::Queued, E::Phase { .. }) => spent(job),

        (
            S::Claimed | S::Preparing | S::Running | S::Collecting,
            E::Finished { attempt, ending, died, jitter },
        ) => Ok(finished(job, attempt, ending, (died, jitter), now)),
        (S::Waiting | S::Queued, E::Finished { attempt, ending, died, .. }) => {
            finished_late(job, attempt, ending, died, now)
        }

        (S::Claimed | S::Preparing | S::Running | S::Collecting, E::HandedBack { attempt, detail }) => {
            Ok(handed_back(job, attempt, detail, now))
        }
        (S::Waiting | S::Queued, E::HandedBack { attempt, detail }) => handed_back_late(job, attempt, detail),

        (S::Claimed, E::NotTaken(loss)) => Ok(not_taken(job, loss, now)),
        // It was: somebody spoke for it.
        (S::Preparing | S::Running | S::Collecting, E::NotTaken(_)) => illegal,
        (S::Waiting | S::Queued, E::NotTaken(_)) => spent(job),

        (S::Claimed | S::Preparing | S::Running | S::Collecting, E::AgentLost(loss)) => {
            Ok(lost(job, loss, now))
        }
        (S::Waiting | S::Queued, E::AgentLost(Loss { died: true, .. })) => died_after_expiry(job, now),
        (S::Waiting | S::Queued, E::AgentLost(Loss { died: false, .. })) => spent(job),

        (
            S::Waiting | S::Queued | S::Claimed | S::Preparing | S::Running | S::Collecting,
            E::AgentDied { agent },
        ) => Ok(again::died_earlier(job, agent, now)),

        (S::Waiting | S::Queued, E::CancelRequested { by, reason }) => {
            Ok(cancelled_at_rest(job, by, reason, now))
        }
        (S::Claimed | S::Preparing | S::Running | S::Collecting, E::CancelRequested { by, reason }) => {
            Ok(cancel_held(job, by, reason))
        }

        (S::Waiting | S::Queued, E::QueueDeadlinePassed) => queue_deadline(job, now),
        (S::Claimed | S::Preparing | S::Running | S::Collecting, E::QueueDeadlinePassed) => illegal,

        (S::Waiting, E::BackoffOver) => backoff_over(job, now),
        (S::Queued | S::Claimed | S::Preparing | S::Running | S::Collecting, E::BackoffOver) => illegal,

        (S::Waiting, E::TurnCame { queue_deadline }) if job.wants_turn() => Ok(let_go(job, queue_deadline)),
        (
            S::Waiting | S::Queued | S::Claimed | S::Preparing | S::Running | S::Collecting,
            E::TurnCame { .. },
        ) => illegal,

        (S::Waiting, E::DependenciesMet { queue_deadline }) if job.blocked => {
            Ok(released(job, queue_deadline, now))
        }
        (S::Waiting, E::DependencyFailed { detail }) if job.blocked => {
            Ok(dependency_failed(job, detail, now))
        }
        (
            S::Waiting | S::Queued | S::Claimed | S::Preparing | S::Running | S::Collecting,
            E::DependenciesMet { .. } | E::DependencyFailed { .. },
        ) => illegal,

        (
            S::Succeeded | S::Failed | S::Cancelled | S::TimedOut,
            E::Phase { .. } | E::Finished { .. } | E::HandedBack { .. } | E::NotTaken(_) | E::AgentLost(_),
        ) => match spent(job) {
            Err(Refusal::AlreadyReported) => Err(Refusal::AlreadyReported),
            Ok(_) | Err(_) => Err(Refusal::AlreadyFinished(job.state)),
        },
        (
            S::Succeeded | S::Failed | S::Cancelled | S::TimedOut,
            E::Claimed { .. }
            | E::AgentDied { .. }
            | E::CancelRequested { .. }
            | E::QueueDeadlinePassed
            | E::BackoffOver
            | E::TurnCame { .. }
            | E::DependenciesMet { .. }
            | E::DependencyFailed { .. },
        ) => Err(Refusal::AlreadyFinished(job.state)),
    }
}

fn claimed(job: &Job, agent: AgentId, epoch: Epoch) -> Step {
    let mut job = job.clone();
    job.attempts += 1;
    let attempt = AttemptRef { job: job.id, number: job.attempts, epoch };
    job.state = JobState::Claimed;
    job.latest = Some(Latest { attempt, agent, reported: false });
    job.not_before = None;
    job.queue_deadline = None;
    Step { job, effects: vec![Effect::AttemptOpened { attempt, agent }] }
}

/// Phases only go forward; the same phase again changes nothing.
fn moved(job: &Job, attempt: AttemptRef, phase: Phase) -> Result<Step, Refusal> {
    let state = phase.state();
    if state < job.state {
        return Err(Refusal::Illegal { from: job.state, event: "phase" });
    }
    let mut job = job.clone();
    let effects = if state == job.state {
        Vec::new()
    } else {
        job.state = state;
        vec![Effect::AttemptMoved { attempt, phase: state }]
    };
    Ok(Step { job, effects })
}

fn finished(
    job: &Job,
    attempt: AttemptRef,
    ending: Ending,
    (died, jitter): (bool, f64),
    now: Timestamp,
) -> Step {
    let mut step = close(job, attempt, ending.clone(), true);
    if died {
        again::note_death(&mut step.job);
    }
    if step.job.desired.is_cancel() {
        // Without the cancel it would go on: so that is what ended it. Any other end was reached before it.
        if ending.outcome == Outcome::AgentLost || again::is_due(job, &ending.outcome) {
            end_cancelled(&mut step, now);
        } else {
            end(&mut step, ending, now);
        }
    } else if died && again::is_poison(&step.job) {
        again::end_poisoned(&mut step, now);
    } else {
        again::retry_or_end(&mut step, ending, jitter, now);
    }
    step
}

/// The lease had run out and nobody else was granted the job: the report counts. One that would be tried again
/// leaves the job in its queue.
fn finished_late(
    job: &Job,
    attempt: AttemptRef,
    ending: Ending,
    died: bool,
    now: Timestamp,
) -> Result<Step, Refusal> {
    if spent(job) == Err(Refusal::AlreadyReported) {
        return Err(Refusal::AlreadyReported);
    }
    let tried_again = again::is_due(job, &ending.outcome);
    let mut step = close(job, attempt, ending.clone(), true);
    if died {
        again::note_death(&mut step.job);
    }
    if died && again::is_poison(&step.job) {
        again::end_poisoned(&mut step, now);
    } else if !tried_again {
        end(&mut step, ending, now);
    }
    Ok(step)
}

fn handed_back(job: &Job, attempt: AttemptRef, detail: String, now: Timestamp) -> Step {
    let mut step = close(job, attempt, Ending { outcome: Outcome::AgentShutdown, detail }, true);
    if step.job.desired.is_cancel() {
        end_cancelled(&mut step, now);
    } else {
        step.job.handed_back += 1;
        again::queue_again(&mut step, now);
    }
    step
}

/// It is back in its queue already, and stays there.
fn handed_back_late(job: &Job, attempt: AttemptRef, detail: String) -> Result<Step, Refusal> {
    match spent(job) {
        Err(Refusal::Expired) => {
            Ok(close(job, attempt, Ending { outcome: Outcome::AgentShutdown, detail }, true))
        }
        refused => refused,
    }
}

/// The lease had run out before it was known that the agent had died.
fn died_after_expiry(job: &Job, now: Timestamp) -> Result<Step, Refusal> {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    let is_news = job.latest.is_some_and(|latest| !latest.reported) && again::note_death(&mut step.job);
    if !is_news {
        return spent(job);
    }
    if again::is_poison(&step.job) {
        again::end_poisoned(&mut step, now);
    }
    Ok(step)
}

fn cancelled_at_rest(job: &Job, by: String, reason: String, now: Timestamp) -> Step {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    step.job.desired = Desired::Cancel { by, reason };
    end_cancelled(&mut step, now);
    step
}

/// The first request names who and why; a repeat only rings again.
fn cancel_held(job: &Job, by: String, reason: String) -> Step {
    let mut job = job.clone();
    if !job.desired.is_cancel() {
        job.desired = Desired::Cancel { by, reason };
    }
    let reason = job.desired.sentence();
    let effects = job
        .latest
        .map(|latest| Effect::Stop { agent: latest.agent, attempt: latest.attempt, reason })
        .into_iter()
        .collect();
    Step { job, effects }
}

fn queue_deadline(job: &Job, now: Timestamp) -> Result<Step, Refusal> {
    if job.queue_deadline.is_none_or(|deadline| deadline > now) {
        return Err(Refusal::NotYet);
    }
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    let detail = "no agent claimed it before its queue deadline".to_owned();
    end(&mut step, Ending { outcome: Outcome::QueueTimeout, detail }, now);
    Ok(step)
}

fn backoff_over(job: &Job, now: Timestamp) -> Result<Step, Refusal> {
    if job.blocked || job.not_before.is_none_or(|start| start > now) {
        return Err(Refusal::NotYet);
    }
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    go_on(&mut step, now);
    Ok(step)
}

/// One thing less keeps it: it is queued if that was the last.
fn go_on(step: &mut Step, now: Timestamp) {
    if step.job.not_before.is_some_and(|start| start > now) {
        return;
    }
    step.job.not_before = None;
    if !step.job.awaits_turn {
        again::queue(step);
    }
}

fn let_go(job: &Job, queue_deadline: Option<Timestamp>) -> Step {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    step.job.awaits_turn = false;
    step.job.queue_deadline = queue_deadline;
    again::queue(&mut step);
    step
}

fn released(job: &Job, queue_deadline: Option<Timestamp>, now: Timestamp) -> Step {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    step.job.blocked = false;
    step.job.queue_deadline = queue_deadline.filter(|_| !job.awaits_turn);
    go_on(&mut step, now);
    step
}

fn dependency_failed(job: &Job, detail: String, now: Timestamp) -> Step {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    end(&mut step, Ending { outcome: Outcome::DependencyFailed, detail }, now);
    step
}

/// Why the latest attempt of a job that is not held has nothing more to say.
fn spent(job: &Job) -> Result<Step, Refusal> {
    match job.latest {
        Some(Latest { reported: true, .. }) => Err(Refusal::AlreadyReported),
        Some(Latest { reported: false, .. }) => Err(Refusal::Expired),
        None => Err(Refusal::Fenced),
    }
}

pub(super) fn close(job: &Job, attempt: AttemptRef, ending: Ending, reported: bool) -> Step {
    let mut job = job.clone();
    if let Some(latest) = &mut job.latest {
        latest.reported = reported;
    }
    Step { job, effects: vec![Effect::AttemptClosed { attempt, ending, reported }] }
}

pub(super) fn end_cancelled(step: &mut Step, now: Timestamp) {
    let detail = step.job.desired.sentence();
    end(step, Ending { outcome: Outcome::Cancelled, detail }, now);
}

pub(super) fn end(step: &mut Step, ending: Ending, now: Timestamp) {
    step.job.state = ending.outcome.state();
    step.job.ending = Some(ending);
    step.job.finished_at = Some(now);
    step.job.not_before = None;
    step.job.queue_deadline = None;
    step.job.blocked = false;
    step.job.awaits_turn = false;
    step.effects.push(Effect::Ended);
}
