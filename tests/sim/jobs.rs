//! The jobs of a simulation: what each does, and how it may end.

use crate::dice::Dice;
use longshore_proto::v1;
use std::{collections::HashMap, time::Duration};

/// A job whose attempts are all lost may end so. Far more than happen to one.
pub(crate) const ATTEMPTS: u32 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Succeeds,
    Fails(u8),
    PassesItsMemory,
    PassesItsDeadline,
    /// Until it is cancelled, with SIGKILL if it must be.
    NeverEnds,
    HasNoEntrypoint,
    HasNoImage,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) script: Script,
    runs: Duration,
    lines: usize,
    slow_image: bool,
}

impl Task {
    pub(crate) fn throw(dice: &mut Dice) -> Self {
        let script = match dice.below(20) {
            0..9 => Script::Succeeds,
            9..12 => Script::Fails(3),
            12 => Script::PassesItsMemory,
            13..15 => Script::PassesItsDeadline,
            15..18 => Script::NeverEnds,
            18 => Script::HasNoEntrypoint,
            _ => Script::HasNoImage,
        };
        let instant = dice.chance(0.2);
        let runs = dice.length(Duration::from_millis(100), Duration::from_secs(300));
        Self {
            script,
            runs: if instant { Duration::ZERO } else { runs },
            lines: dice.below(60),
            slow_image: dice.chance(0.2),
        }
    }

    pub(crate) fn spec(&self, number: usize) -> v1::JobSpec {
        let mut env = HashMap::from([("FAKE_STDOUT".to_owned(), self.stdout())]);
        let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
        set("FAKE_RUN", format!("{}ms", self.runs.as_millis()));
        let mut image = if self.slow_image { "fake.slow/app:1" } else { "app:1" };
        let mut run = Duration::from_secs(3600);
        match self.script {
            Script::Succeeds => {}
            Script::Fails(code) => set("FAKE_EXIT", code.to_string()),
            Script::PassesItsMemory => set("FAKE_OOM", "1".to_owned()),
            Script::PassesItsDeadline => {
                set("FAKE_RUN", "forever".to_owned());
                run = self.runs + Duration::from_secs(5);
            }
            Script::NeverEnds => {
                set("FAKE_RUN", "forever".to_owned());
                run = Duration::from_secs(24 * 3600);
                if number.is_multiple_of(2) {
                    set("FAKE_IGNORE_TERM", "1".to_owned());
                }
            }
            Script::HasNoEntrypoint => set("FAKE_START_ERROR", "entrypoint_not_found".to_owned()),
            Script::HasNoImage => image = "fake.missing/app:1",
        }
        v1::JobSpec {
            name: format!("job-{number}"),
            image: image.to_owned(),
            env,
            deadlines: Some(v1::Deadlines { run: Some(duration(run)), ..v1::Deadlines::default() }),
            retry: Some(v1::RetryPolicy {
                attempts: ATTEMPTS,
                max_backoff: Some(duration(Duration::from_secs(30))),
                ..v1::RetryPolicy::default()
            }),
            ..v1::JobSpec::default()
        }
    }

    pub(crate) fn stdout(&self) -> String {
        (1..=self.lines).map(|line| format!("{line} of {}\n", self.lines)).collect()
    }

    /// Whether it may end so.
    pub(crate) fn may_end(&self, outcome: &v1::Outcome, cancel_asked: bool) -> bool {
        let own = match self.script {
            Script::Succeeds => "succeeded",
            Script::Fails(code) => {
                return self.others(outcome, cancel_asked)
                    || (outcome.name == "exit_code" && outcome.exit_code == i32::from(code));
            }
            Script::PassesItsMemory => "oom_killed",
            Script::PassesItsDeadline => "run_timeout",
            Script::NeverEnds => "cancelled",
            Script::HasNoEntrypoint => "entrypoint_not_found",
            Script::HasNoImage => "image_not_found",
        };
        outcome.name == own || self.others(outcome, cancel_asked)
    }

    /// A cancelled job gets the end that was reached; a job that machines died of is not tried for ever.
    fn others(&self, outcome: &v1::Outcome, cancel_asked: bool) -> bool {
        let asked = ["cancelled", "engine_restart"];
        outcome.name == "lost_too_often" || (cancel_asked && asked.contains(&outcome.name.as_str()))
    }

    /// Whether its container came to its own end, so that its log must be whole.
    pub(crate) fn ended_by_itself(&self, outcome: &v1::Outcome) -> bool {
        matches!(outcome.name.as_str(), "succeeded" | "exit_code" | "oom_killed")
    }
}

fn duration(length: Duration) -> prost_types::Duration {
    length.try_into().expect("a short length")
}
