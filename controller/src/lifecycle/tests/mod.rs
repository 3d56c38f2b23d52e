mod histories;

use super::*;
use longshore_common::{
    clock::Timestamp,
    ids::{AgentId, AttemptRef, Epoch, JobId},
    job::{JobState, Outcome, RetryPolicy},
};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);
const EPOCH: Epoch = Epoch(1);

fn job() -> Job {
    Job::new(JobId::new(), RetryPolicy::default(), Some(NOW.plus(Duration::from_secs(10))))
}

fn after(job: &Job, event: Event) -> Job {
    step(job, event, NOW).expect("legal").job
}

fn held() -> Job {
    after(&job(), Event::Claimed { agent: AgentId::new(), epoch: EPOCH })
}

fn token(job: &Job) -> AttemptRef {
    job.latest.expect("claimed before").attempt
}

fn ending(outcome: Outcome) -> Ending {
    Ending { outcome, detail: String::new() }
}

fn finish(job: &Job, outcome: Outcome) -> Event {
    Event::Finished { attempt: token(job), ending: ending(outcome), died: false, jitter: 0.5 }
}

fn loss(job: &Job, died: bool) -> Loss {
    Loss { attempt: token(job), detail: String::new(), died, jitter: 0.5 }
}

fn lose(job: &Job) -> Event {
    Event::AgentLost(loss(job, false))
}

fn die(job: &Job) -> Event {
    Event::AgentLost(loss(job, true))
}

fn miss(job: &Job, died: bool) -> Event {
    Event::NotTaken(loss(job, died))
}

fn claim(job: &Job, agent: AgentId) -> Job {
    let later = NOW.plus(Duration::from_secs(3600));
    let queued = match job.state {
        JobState::Waiting => step(job, Event::BackoffOver, later).expect("legal").job,
        _ => job.clone(),
    };
    after(&queued, Event::Claimed { agent, epoch: EPOCH })
}

fn cancel() -> Event {
    Event::CancelRequested { by: "anna".into(), reason: "wrong data".into() }
}

#[test]
fn a_job_runs_through_its_phases_and_ends() {
    let mut job = held();
    for phase in [Phase::Preparing, Phase::Running, Phase::Collecting] {
        job = after(&job, Event::Phase { attempt: token(&job), phase });
        assert_eq!(job.state, phase.state());
    }
    let job = after(&job, finish(&job, Outcome::Succeeded));
    assert_eq!((job.state, job.finished_at), (JobState::Succeeded, Some(NOW)));
}

#[test]
fn a_job_behind_others_begins_when_they_are_done_and_ends_with_the_first_that_fails() {
    let blocked = || job().behind_others();
    let refused = step(&blocked(), Event::BackoffOver, NOW);
    assert_eq!(refused, Err(Refusal::NotYet), "no time lets it go");
    let met = || Event::DependenciesMet { queue_deadline: None };
    let released = step(&blocked(), met(), NOW).expect("legal");
    assert_eq!((released.job.state, released.effects), (JobState::Queued, vec![Effect::Queued]));
    assert!(step(&released.job, met(), NOW).is_err(), "once");
    let failed = after(&blocked(), Event::DependencyFailed { detail: "x".into() });
    assert_eq!(failed.ending.expect("ended").outcome, Outcome::DependencyFailed);
    assert_eq!(after(&blocked(), cancel()).state, JobState::Cancelled);
}

#[test]
fn a_job_behind_others_spends_none_of_its_queue_deadline_on_them() {
    let hour = NOW.plus(Duration::from_secs(3_600));
    let blocked = job().behind_others();
    assert_eq!(step(&blocked, Event::QueueDeadlinePassed, hour), Err(Refusal::NotYet));
    let deadline = hour.plus(Duration::from_secs(10));
    let met = Event::DependenciesMet { queue_deadline: Some(deadline) };
    let queued = step(&blocked, met, hour).expect("legal").job;
    assert_eq!(step(&queued, Event::QueueDeadlinePassed, hour), Err(Refusal::NotYet));
    let late = step(&queued, Event::QueueDeadlinePassed, deadline).expect("now it holds");
    assert_eq!(late.job.ending.expect("ended").outcome, Outcome::QueueTimeout);
}

#[test]
fn a_job_of_a_batch_is_let_go_last_of_all_and_its_queue_deadline_counts_from_then() {
    let (late, later) = (NOW.plus(Duration::from_secs(60)), NOW.plus(Duration::from_secs(90)));
    let job = job().behind_others().not_before(late).in_turn();
    let turn = || Event::TurnCame { queue_deadline: Some(later) };
    assert!(step(&job, turn(), NOW).is_err(), "it could not begin");
    let job = after(&job, Event::DependenciesMet { queue_deadline: Some(late) });
    assert_eq!((job.state, job.blocked), (JobState::Waiting, false));
    assert_eq!(step(&job, Event::BackoffOver, NOW), Err(Refusal::NotYet));
    let job = step(&job, Event::BackoffOver, late).expect("its time has come").job;
    assert!(job.wants_turn() && job.queue_deadline.is_none(), "{job:?}");
    assert_eq!(step(&job, Event::BackoffOver, late), Err(Refusal::NotYet), "once");
    let going = step(&job, turn(), late).expect("legal");
    assert_eq!((going.job.state, going.effects), (JobState::Queued, vec![Effect::Queued]));
    assert_eq!(going.job.queue_deadline, Some(later));
    assert!(step(&going.job, turn(), late).is_err(), "once");
    assert_eq!(after(&job, cancel()).state, JobState::Cancelled);
}

#[test]
fn phases_never_go_back() {
    let job = held();
    let running = after(&job, Event::Phase { attempt: token(&job), phase: Phase::Running });
    let back = step(&running, Event::Phase { attempt: token(&job), phase: Phase::Preparing }, NOW);
    assert_eq!(back, Err(Refusal::Illegal { from: JobState::Running, event: "phase" }));
}

#[test]
fn a_cancel_at_rest_ends_at_once_and_one_under_way_rings_the_agent() {
    assert_eq!(after(&job(), cancel()).state, JobState::Cancelled);
    let held = held();
    let asked = step(&held, cancel(), NOW).expect("legal");
    assert_eq!(asked.job.state, JobState::Claimed);
    assert!(
        matches!(&asked.effects[..], [Effect::Stop { reason, .. }] if reason == "cancelled by anna: wrong data")
    );
    let ended = after(&asked.job, finish(&held, Outcome::Cancelled));
    assert_eq!(ended.state, JobState::Cancelled);
}

#[test]
fn a_container_that_ended_before_the_cancel_reached_it_keeps_its_outcome() {
    let job = after(&held(), cancel());
    assert_eq!(after(&job, finish(&job, Outcome::Succeeded)).state, JobState::Succeeded);
    assert_eq!(after(&job, finish(&job, Outcome::ExitCode(3))).state, JobState::Failed);
}

/// As it would be had the cancel come a moment later, into its backoff.
#[test]
fn a_cancelled_job_that_would_be_tried_again_ends_as_cancelled() {
    let job = after(&held(), cancel());
    let ended = after(&job, finish(&job, Outcome::EngineRestart));
    assert_eq!(
        (ended.state, ended.ending.map(|e| e.outcome)),
        (JobState::Cancelled, Some(Outcome::Cancelled))
    );
    let mut spent = job.clone();
    spent.retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let ended = after(&spent, finish(&spent, Outcome::EngineRestart));
    assert_eq!(ended.ending.map(|e| e.outcome), Some(Outcome::EngineRestart), "nothing was left to cancel");
}

#[test]
fn a_cancelled_job_whose_agent_is_lost_is_never_requeued() {
    let job = after(&held(), cancel());
    let lost = after(&job, lose(&job));
    assert_eq!((lost.state, lost.ending.map(|e| e.outcome)), (JobState::Cancelled, Some(Outcome::Cancelled)));
    let back = Event::HandedBack { attempt: token(&job), detail: String::new() };
    assert_eq!(after(&job, back).state, JobState::Cancelled);
    // The agent came back, and says so itself.
    assert_eq!(after(&job, finish(&job, Outcome::AgentLost)).state, JobState::Cancelled);
}

#[test]
fn platform_outcomes_wait_and_are_tried_again_user_outcomes_end() {
    let job = held();
    let waiting = after(&job, finish(&job, Outcome::RuntimeError));
    assert_eq!(waiting.state, JobState::Waiting);
    assert!(waiting.not_before.expect("a backoff") > NOW);
    assert_eq!(step(&waiting, Event::BackoffOver, NOW), Err(Refusal::NotYet));
    let later = NOW.plus(Duration::from_secs(600));
    assert_eq!(step(&waiting, Event::BackoffOver, later).expect("legal").job.state, JobState::Queued);
    assert_eq!(after(&job, finish(&job, Outcome::ExitCode(3))).state, JobState::Failed);
}

#[test]
fn handing_back_spends_no_retry() {
    let mut job = held();
    for _ in 0..20 {
        job = after(&job, Event::HandedBack { attempt: token(&job), detail: String::new() });
        assert_eq!(job.state, JobState::Queued);
        job = after(&job, Event::Claimed { agent: AgentId::new(), epoch: EPOCH });
    }
    assert_eq!(after(&job, lose(&job)).state, JobState::Waiting);
}

#[test]
fn a_grant_that_never_came_to_its_agent_spends_no_retry_and_its_late_finish_counts() {
    let mut job = held();
    for _ in 0..20 {
        let queued = after(&job, miss(&job, false));
        assert_eq!(queued.state, JobState::Queued);
        assert_eq!(after(&queued, finish(&job, Outcome::Succeeded)).state, JobState::Succeeded);
        job = claim(&queued, AgentId::new());
    }
    assert_eq!(after(&job, lose(&job)).state, JobState::Waiting);
    let running = after(&job, Event::Phase { attempt: token(&job), phase: Phase::Running });
    let refused = step(&running, miss(&running, false), NOW);
    assert_eq!(refused, Err(Refusal::Illegal { from: JobState::Running, event: "not_taken" }));
    assert_eq!(after(&after(&job, cancel()), miss(&job, false)).state, JobState::Cancelled);
}

#[test]
fn a_job_under_which_two_agents_died_is_not_given_to_a_third() {
    let (one, two) = (AgentId::new(), AgentId::new());
    let outcome = |job: &Job| job.ending.clone().map(|ending| ending.outcome);
    let first = claim(&job(), one);
    let again = claim(&after(&first, die(&first)), one);
    let waiting = after(&again, die(&again));
    assert_eq!(waiting.state, JobState::Waiting, "the same agent twice may be the agent's fault");
    let second = claim(&waiting, two);
    assert_eq!(outcome(&after(&second, die(&second))), Some(Outcome::LostTooOften));
    assert_eq!(outcome(&after(&second, miss(&second, true))), Some(Outcome::LostTooOften));
    let reported = Event::Finished {
        attempt: token(&second),
        ending: ending(Outcome::AgentLost),
        died: true,
        jitter: 0.5,
    };
    assert_eq!(outcome(&after(&second, reported)), Some(Outcome::LostTooOften));
    // A machine that is only silent is not known to be dead, until it comes back as another process.
    let silent = after(&second, lose(&second));
    assert_eq!(silent.state, JobState::Waiting);
    assert_eq!(step(&silent, lose(&second), NOW), Err(Refusal::Expired));
    assert_eq!(outcome(&after(&silent, die(&second))), Some(Outcome::LostTooOften));
    let cancelled = after(&second, cancel());
    assert_eq!(outcome(&after(&cancelled, die(&second))), Some(Outcome::Cancelled));
}

#[test]
fn a_job_whose_grant_kills_one_agent_again_and_again_is_given_up() {
    let agent = AgentId::new();
    let mut job = claim(&job(), agent);
    let mut deaths = 0;
    while job.state.is_held() {
        job = after(&job, miss(&job, true));
        deaths += 1;
        assert!(deaths < 20, "nothing ever ends it");
        if !job.state.is_terminal() {
            job = claim(&job, agent);
        }
    }
    let attempts = RetryPolicy::default().attempts;
    assert_eq!((deaths, job.ending.expect("ended").outcome), (attempts + 1, Outcome::AgentLost));
}

#[test]
fn one_death_is_told_once() {
    let job = held();
    let waiting = after(&job, lose(&job));
    let told = after(&waiting, die(&job));
    assert_eq!((told.state, told.died_on.len()), (JobState::Waiting, 1));
    assert_eq!(step(&told, die(&job), NOW), Err(Refusal::Expired));
}

#[test]
fn a_death_that_is_learnt_when_another_has_the_job_ends_it_before_a_third() {
    let (one, two) = (AgentId::new(), AgentId::new());
    let outcome = |job: &Job| job.ending.clone().map(|ending| ending.outcome);
    let silent = claim(&job(), one);
    let second = claim(&after(&silent, lose(&silent)), two);
    let told = after(&second, Event::AgentDied { agent: one });
    assert_eq!((told.state, told.died_on.len()), (JobState::Claimed, 1));
    assert_eq!(outcome(&after(&told, die(&told))), Some(Outcome::LostTooOften));
    // Both are learnt while a third has it: that one may end it, and nobody comes after.
    let third = claim(&after(&told, lose(&told)), AgentId::new());
    let told = after(&third, Event::AgentDied { agent: two });
    assert_eq!(told.state, JobState::Claimed);
    assert_eq!(outcome(&after(&told, finish(&told, Outcome::Succeeded))), Some(Outcome::Succeeded));
    let back = Event::HandedBack { attempt: token(&told), detail: String::new() };
    for event in [lose(&told), miss(&told, false), back, finish(&told, Outcome::RuntimeError)] {
        assert_eq!(outcome(&after(&told, event.clone())), Some(Outcome::LostTooOften), "{event:?}");
    }
    let waits = after(&third, lose(&third));
    assert_eq!(outcome(&after(&waits, Event::AgentDied { agent: two })), Some(Outcome::LostTooOften));
}

#[test]
fn expired_is_not_fenced() {
    let job = held();
    let waiting = after(&job, lose(&job));
    assert_eq!(waiting.state, JobState::Waiting);
    let phase = Event::Phase { attempt: token(&job), phase: Phase::Running };
    assert_eq!(step(&waiting, phase, NOW), Err(Refusal::Expired));
    assert_eq!(after(&waiting, finish(&job, Outcome::Succeeded)).state, JobState::Succeeded);
    let queued = step(&waiting, Event::BackoffOver, NOW.plus(Duration::from_secs(600))).expect("legal").job;
    assert_eq!(after(&queued, finish(&job, Outcome::ExitCode(1))).state, JobState::Failed);
    let again = after(&queued, Event::Claimed { agent: AgentId::new(), epoch: EPOCH });
    assert_eq!(step(&again, finish(&job, Outcome::Succeeded), NOW), Err(Refusal::Fenced));
}

#[test]
fn a_repeated_report_of_a_retried_attempt_is_not_taken_for_a_late_one() {
    let job = held();
    let waiting = after(&job, finish(&job, Outcome::RuntimeError));
    assert_eq!(step(&waiting, finish(&job, Outcome::RuntimeError), NOW), Err(Refusal::AlreadyReported));
}

#[test]
fn the_queue_deadline_ends_only_what_was_never_claimed() {
    let job = job();
    assert_eq!(step(&job, Event::QueueDeadlinePassed, NOW), Err(Refusal::NotYet));
    let later = NOW.plus(Duration::from_secs(11));
    assert_eq!(step(&job, Event::QueueDeadlinePassed, later).expect("legal").job.state, JobState::TimedOut);
    let held = held();
    let lost = after(&held, lose(&held));
    assert_eq!(step(&lost, Event::QueueDeadlinePassed, later), Err(Refusal::NotYet));
}

#[test]
fn a_token_of_another_epoch_is_stale() {
    let job = held();
    let other = AttemptRef { epoch: Epoch(2), ..token(&job) };
    let event = Event::Phase { attempt: other, phase: Phase::Running };
    assert_eq!(step(&job, event, NOW), Err(Refusal::Fenced));
}
