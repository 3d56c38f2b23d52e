//! Whether a job whose attempt is over is tried again: by its retry policy, and never on a third machine once two died
//! under it. Part of `step`.

use super::{
    event::Loss,
    state::{Ending, Job},
    step::{Step, close, end, end_cancelled},
};
use crate::lifecycle::Effect;
use longshore_common::{
    clock::Timestamp,
    ids::AgentId,
    job::{JobState, Outcome},
};
use std::time::Duration;

/// So many agents that died under one job are no chance: the next one is spared.
const POISON: usize = 2;

/// Not reported: should the grant come to the agent after all, its finish is taken until somebody else has the job.
/// An agent that died under the job twice is no lost answer: it spends a retry like any loss.
pub(super) fn not_taken(job: &Job, loss: Loss, now: Timestamp) -> Step {
    let died_before = job.latest.is_some_and(|latest| job.died_on.contains(&latest.agent));
    let (again, jitter) = (loss.died && died_before, loss.jitter);
    gone(job, loss, now, |step, ending| {
        if again {
            retry_or_end(step, ending, jitter, now);
        } else {
            step.job.handed_back += 1;
            queue_again(step, now);
        }
    })
}

pub(super) fn lost(job: &Job, loss: Loss, now: Timestamp) -> Step {
    let jitter = loss.jitter;
    gone(job, loss, now, |step, ending| retry_or_end(step, ending, jitter, now))
}

/// The agent does not have the attempt any more; `again` is what becomes of a job that may go on.
fn gone(job: &Job, loss: Loss, now: Timestamp, again: impl FnOnce(&mut Step, Ending)) -> Step {
    let Loss { attempt, detail, died, .. } = loss;
    let ending = Ending { outcome: Outcome::AgentLost, detail };
    let mut step = close(job, attempt, ending.clone(), false);
    if died {
        note_death(&mut step.job);
    }
    if step.job.desired.is_cancel() {
        end_cancelled(&mut step, now);
    } else if died && is_poison(&step.job) {
        end_poisoned(&mut step, now);
    } else {
        again(&mut step, ending);
    }
    step
}

/// Known only when others had the job already: whoever has it goes on with it, and nobody after them.
pub(super) fn died_earlier(job: &Job, agent: AgentId, now: Timestamp) -> Step {
    let mut step = Step { job: job.clone(), effects: Vec::new() };
    step.job.died_on.insert(agent);
    if !job.state.is_held() && is_poison(&step.job) {
        end_poisoned(&mut step, now);
    }
    step
}

/// GPUs that failed under a job, or were disturbed, cost it no retry. So often: a program that breaks GPUs must not
/// have them all.
const SPARED: u32 = 3;

fn is_spared(job: &Job, outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::GpuFault(_) | Outcome::GpuDisturbed) && job.handed_back < SPARED
}

/// Whether the policy has another attempt for a job that ended so.
pub(super) fn is_due(job: &Job, outcome: &Outcome) -> bool {
    is_spared(job, outcome) || job.retry.next_wait(outcome, counted(job), 0.0).is_some()
}

pub(super) fn retry_or_end(step: &mut Step, ending: Ending, jitter: f64, now: Timestamp) {
    if is_spared(&step.job, &ending.outcome) {
        step.job.handed_back += 1;
        return queue_again(step, now);
    }
    match step.job.retry.next_wait(&ending.outcome, counted(&step.job), jitter) {
        None => end(step, ending, now),
        Some(_) if is_poison(&step.job) => end_poisoned(step, now),
        Some(Duration::ZERO) => queue(step),
        Some(wait) => {
            step.job.state = JobState::Waiting;
            step.job.not_before = Some(now.plus(wait));
        }
    }
}

/// At once, unless nobody is to have it any more.
pub(super) fn queue_again(step: &mut Step, now: Timestamp) {
    if is_poison(&step.job) { end_poisoned(step, now) } else { queue(step) }
}

pub(super) fn queue(step: &mut Step) {
    step.job.state = JobState::Queued;
    step.job.not_before = None;
    step.effects.push(Effect::Queued);
}

/// Whether it was not known before.
pub(super) fn note_death(job: &mut Job) -> bool {
    job.latest.is_some_and(|latest| job.died_on.insert(latest.agent))
}

pub(super) fn is_poison(job: &Job) -> bool {
    job.died_on.len() >= POISON
}

pub(super) fn end_poisoned(step: &mut Step, now: Timestamp) {
    let detail = format!("{} agents died while they had it", step.job.died_on.len());
    end(step, Ending { outcome: Outcome::LostTooOften, detail }, now);
}

/// Attempts that count for the retry policy.
const fn counted(job: &Job) -> u32 {
    job.attempts.saturating_sub(job.handed_back)
}
