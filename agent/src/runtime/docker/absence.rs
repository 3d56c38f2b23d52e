//! Whether an engine that went away took a container along. The exit code says little: a stopping engine makes a trap
//! exit 0, and one that comes back ends what it finds running. Must never ask the engine anything.

use longshore_common::clock::Timestamp;
use std::time::Duration;

/// What the engine says of an end that it did not see.
const UNSEEN: i32 = 255;
/// By when an engine that is back has found out which of its containers are gone.
const SETTLED: Duration = Duration::from_secs(30);

/// What is known of the engine between its last answer and the one that told the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    /// Another process answers than the one the container was last seen under.
    pub(super) changed: bool,
    /// Containers outlive the process, before and after.
    pub(super) live_restore: bool,
    /// Of the process the container was last seen under.
    pub(super) last_contact: Timestamp,
    /// The start of the process that answers now, if it can be known.
    pub(super) began_at: Option<Timestamp>,
    /// When an earlier process of this agent was there last.
    pub(super) watched_until: Option<Timestamp>,
    pub(super) returned_at: Timestamp,
}

/// What the engine says of the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
}

impl Absence {
    pub(super) fn explains(&self, end: &End) -> bool {
        let meanwhile = self.last_contact <= end.finished_at && end.finished_at <= self.returned_at;
        if self.changed && meanwhile && (!self.live_restore || end.code == UNSEEN) {
            return true;
        }
        match self.began_at {
            Some(began_at) if end.started_at < began_at => self.explains_before(end, began_at),
            _ => false,
        }
    }

    /// The container is older than the engine: a process of ours, or a look of this one, came after the exchange.
    fn explains_before(&self, end: &End, began_at: Timestamp) -> bool {
        let after = end.finished_at >= began_at;
        if self.live_restore {
            return after && end.code == UNSEEN && end.finished_at.since(began_at) < SETTLED;
        }
        // Nothing outlives its return; and what ended before, unseen, may be what it ended when it stopped.
        after || (!self.changed && self.watched_until.is_some_and(|until| until <= end.finished_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    const fn end(code: i32, finished: i64) -> End {
        End { code, started_at: at(1), finished_at: at(finished) }
    }

    /// Seen last at 10; back at 20.
    const fn absence(changed: bool, live_restore: bool) -> Absence {
        Absence {
            changed,
            live_restore,
            last_contact: at(10),
            began_at: None,
            watched_until: None,
            returned_at: at(20),
        }
    }

    #[test]
    fn only_an_end_in_the_absence_of_the_engine_is_its_restart() {
        let table = [
            // (another process, live-restore, code, finished at) -> restart
            ((true, false, 0, 15), true),
            ((true, false, 0, 10), true),
            ((true, false, 0, 20), true),
            // It had ended before, and the engine was still well.
            ((true, false, 0, 9), false),
            ((true, false, 0, 21), false),
            // Containers outlive it, unless it lost them.
            ((true, true, 0, 15), false),
            ((true, true, UNSEEN, 15), true),
            ((true, true, UNSEEN, 9), false),
            // Slow, or answering errors, but the same.
            ((false, false, 0, 15), false),
            ((false, true, UNSEEN, 15), false),
        ];
        for ((changed, live_restore, code, finished), restart) in table {
            let seen = absence(changed, live_restore).explains(&end(code, finished));
            assert_eq!(seen, restart, "{changed} {live_restore} {code} {finished}");
        }
    }

    #[test]
    fn an_agent_that_was_away_too_finds_what_the_engine_took_along() {
        let table = [
            // (live-restore, code, finished at), the agent having been there until 30 and the engine since 50 -> restart
            ((false, 143, 51), true),
            ((false, 0, 51), true),
            // A stopping engine makes a trap exit 0.
            ((false, 0, 40), true),
            ((false, 143, 30), true),
            ((false, 0, 29), false),
            ((true, UNSEEN, 51), true),
            ((true, UNSEEN, 81), false),
            ((true, UNSEEN, 40), false),
            ((true, 143, 51), false),
            ((true, 0, 51), false),
        ];
        let found = |live_restore| Absence {
            last_contact: at(90),
            began_at: Some(at(50)),
            watched_until: Some(at(30)),
            returned_at: at(100),
            ..absence(false, live_restore)
        };
        for ((live_restore, code, finished), restart) in table {
            let seen = found(live_restore).explains(&end(code, finished));
            assert_eq!(seen, restart, "{live_restore} {code} {finished}");
        }
        let younger = End { started_at: at(60), ..end(143, 70) };
        assert!(!found(false).explains(&younger), "it was started by this very engine");
    }
}
