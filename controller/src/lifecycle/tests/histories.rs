//! Any history of any events, stale ones too: what holds of all of them.

use super::*;
use longshore_common::job::RetryRule;
use proptest::prelude::*;

/// An event with a token that is `age` attempts old.
#[derive(Clone, Debug)]
enum Draw {
    Claimed,
    Phase(Phase, u32),
    Finished(usize, u32),
    HandedBack(u32),
    NotTaken(u32, bool),
    Lost(u32, bool),
    Died(usize),
    Cancel,
    QueueDeadline,
    BackoffOver,
    Released(bool),
    TurnCame,
}

fn draws() -> impl Strategy<Value = Vec<(Draw, u32)>> {
    let age = || prop_oneof![5 => Just(0_u32), 1 => 1..3_u32];
    let phase = prop_oneof![Just(Phase::Preparing), Just(Phase::Running), Just(Phase::Collecting)];
    let draw = prop_oneof![
        6 => Just(Draw::Claimed),
        4 => (phase, age()).prop_map(|(phase, age)| Draw::Phase(phase, age)),
        3 => (0..Outcome::ALL.len(), age()).prop_map(|(outcome, age)| Draw::Finished(outcome, age)),
        2 => age().prop_map(Draw::HandedBack),
        2 => (age(), any::<bool>()).prop_map(|(age, died)| Draw::NotTaken(age, died)),
        2 => (age(), any::<bool>()).prop_map(|(age, died)| Draw::Lost(age, died)),
        1 => (0..3_usize).prop_map(Draw::Died),
        1 => Just(Draw::Cancel),
        1 => Just(Draw::QueueDeadline),
        4 => Just(Draw::BackoffOver),
        2 => any::<bool>().prop_map(Draw::Released),
        2 => Just(Draw::TurnCame),
    ];
    proptest::collection::vec((draw, 0..400_u32), 1..60)
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    let name = || (0..Outcome::ALL.len()).prop_map(|index| Outcome::ALL[index].name().to_owned());
    let rule = (proptest::option::of(1..5_u32), proptest::option::of(0..100_u64))
        .prop_map(|(attempts, seconds)| RetryRule { attempts, backoff: seconds.map(Duration::from_secs) });
    let rules = proptest::collection::btree_map(name(), rule, 0..4);
    let on = proptest::collection::vec(name(), 0..4);
    (1..6_u32, 0..3_u64, on, rules).prop_map(|(attempts, seconds, on, outcomes)| RetryPolicy {
        attempts,
        backoff: Duration::from_secs(seconds),
        on,
        outcomes,
        ..RetryPolicy::default()
    })
}

fn event(draw: &Draw, job: &Job, agents: &[AgentId]) -> Event {
    let attempt =
        |age: &u32| AttemptRef { job: job.id, number: job.attempts.saturating_sub(*age), epoch: EPOCH };
    let loss = |age: &u32, died| Loss { attempt: attempt(age), detail: String::new(), died, jitter: 0.3 };
    match draw {
        // Of three, so that deaths on one and on several come together.
        Draw::Claimed => Event::Claimed { agent: agents[job.attempts as usize % agents.len()], epoch: EPOCH },
        Draw::Phase(phase, age) => Event::Phase { attempt: attempt(age), phase: *phase },
        Draw::Finished(outcome, age) => Event::Finished {
            attempt: attempt(age),
            ending: ending(Outcome::ALL[*outcome].clone()),
            died: Outcome::ALL[*outcome] == Outcome::AgentLost,
            jitter: 0.3,
        },
        Draw::HandedBack(age) => Event::HandedBack { attempt: attempt(age), detail: String::new() },
        Draw::NotTaken(age, died) => Event::NotTaken(loss(age, *died)),
        Draw::Lost(age, died) => Event::AgentLost(loss(age, *died)),
        Draw::Died(agent) => Event::AgentDied { agent: agents[*agent] },
        Draw::Cancel => cancel(),
        Draw::QueueDeadline => Event::QueueDeadlinePassed,
        Draw::BackoffOver => Event::BackoffOver,
        Draw::TurnCame => Event::TurnCame { queue_deadline: None },
        Draw::Released(true) => Event::DependenciesMet { queue_deadline: None },
        Draw::Released(false) => Event::DependencyFailed { detail: String::new() },
    }
}

proptest! {
    #[test]
    fn the_invariants_hold_for_any_history(
        history in draws(),
        retry in policies(),
        (behind, later, in_turn) in any::<(bool, bool, bool)>(),
    ) {
        let mut job = Job { retry, ..job() };
        job = if behind { job.behind_others() } else { job };
        job = if later { job.not_before(NOW.plus(Duration::from_secs(50))) } else { job };
        job = if in_turn { job.in_turn() } else { job };
        let mut now = NOW;
        let mut live: Option<AttemptRef> = None;
        let mut ended = 0;
        let agents = [AgentId::new(), AgentId::new(), AgentId::new()];
        for (draw, seconds) in history {
            now = now.plus(Duration::from_secs(seconds.into()));
            let event = event(&draw, &job, &agents);
            let event_name = event.name();
            let stale = event.attempt().is_some_and(|attempt| job.check(attempt).is_err());
            let Ok(Step { job: next, effects }) = step(&job, event, now) else { continue };
            prop_assert!(!stale, "a stale token changed something");
            prop_assert!(!job.state.is_terminal(), "terminal is final");
            prop_assert!(next.attempts >= job.attempts, "attempts only count up");
            for effect in effects {
                match effect {
                    Effect::AttemptOpened { attempt, .. } => {
                        prop_assert_eq!(live.replace(attempt), None, "at most one live attempt");
                        prop_assert!(!job.desired.is_cancel(), "no attempt after a cancel");
                        prop_assert_eq!(attempt.number, job.attempts + 1);
                    }
                    // A late report closes an attempt for the second time, and only while nobody holds the job.
                    Effect::AttemptClosed { attempt, .. } => {
                        prop_assert!(live.take().is_none_or(|open| open == attempt));
                    }
                    Effect::Ended => ended += 1,
                    Effect::Stop { attempt, .. } => prop_assert_eq!(live, Some(attempt)),
                    Effect::Queued => prop_assert_eq!(next.state, JobState::Queued),
                    Effect::AttemptMoved { .. } => prop_assert!(live.is_some()),
                }
            }
            prop_assert_eq!(next.state.is_held(), live.is_some(), "held means: under the live attempt");
            prop_assert_eq!(next.state.is_terminal(), next.ending.is_some());
            let kept = next.not_before.is_some() || next.blocked || next.awaits_turn;
            prop_assert_eq!(next.state == JobState::Waiting, kept, "what waits has something to wait for");
            prop_assert!(next.died_on.is_superset(&job.died_on), "deaths are not forgotten");
            let at_rest = matches!(next.state, JobState::Waiting | JobState::Queued);
            prop_assert!(!at_rest || next.died_on.len() < 2, "two died under it, and it waits for a third");
            prop_assert!(next.handed_back <= next.attempts);
            if job.desired.is_cancel() && next.state.is_terminal() {
                let lost = matches!(event_name, "agent_lost" | "handed_back" | "not_taken");
                prop_assert!(!lost || next.state == JobState::Cancelled, "a cancelled job that was lost");
            }
            // A rule may ask for more than the policy; nobody may ask for more than both.
            let most = job.retry.outcomes.values().filter_map(|rule| rule.attempts).max();
            let most = most.unwrap_or(0).max(job.retry.attempts);
            if next.state == JobState::Waiting && next.attempts > 0 {
                prop_assert!(next.attempts - next.handed_back < most, "tried more often than asked");
            }
            if job.state == JobState::Cancelled {
                prop_assert_eq!(next.state, JobState::Cancelled, "never cancelled and then something else");
            }
            job = next;
        }
        prop_assert!(ended <= 1, "exactly one committed outcome");
        prop_assert_eq!(ended == 1, job.state.is_terminal());
    }
}
