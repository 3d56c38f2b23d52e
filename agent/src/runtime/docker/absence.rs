//! Whether an engine that went away took a container along. The exit code says little: a stopping engine makes a trap
//! exit 0, and one that comes back ends what it finds running. Must never ask the engine anything.

use longshore_common::clock::{Moment, Timestamp};
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
    /// Of the process the container was last seen under; `None`: it never answered.
    pub(super) last_contact: Option<Moment>,
    /// The start of the process that answers now, if the container is older: a process of ours, or a look of this one,
    /// came after the exchange.
    pub(super) began: Option<Moment>,
    /// When an earlier process of this agent was there last.
    pub(super) watched_until: Option<Moment>,
    pub(super) returned: Moment,
}

/// What the engine says of the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) code: i32,
    pub(super) finished_at: Timestamp,
}

/// Whether the container is older than the engine's process. What the engine says of its start is by the time of day
/// as it was set then.
pub(super) fn is_older(began: Option<Moment>, started_at: Timestamp, engine: Moment) -> bool {
    match (began.and_then(|began| began.up), engine.up) {
        (Some(began), Some(engine)) => began < engine,
        _ => started_at < engine.at,
    }
}

impl Absence {
    pub(super) fn explains(&self, end: &End) -> bool {
        let known = [self.last_contact, self.watched_until];
        let steps = known.into_iter().flatten().map(|known| known.stepped(self.returned));
        // Where the time of day was set meanwhile, the end may have been noted before that or after it.
        steps.chain([0]).any(|step| self.explains_by(end.code, end.finished_at.shifted(step)))
    }

    /// By the time of day as it is set now.
    fn explains_by(&self, code: i32, finished_at: Timestamp) -> bool {
        let by = |moment: Moment| moment.by(self.returned);
        let after_contact = self.last_contact.is_none_or(|contact| by(contact) <= finished_at);
        let meanwhile = after_contact && finished_at <= self.returned.at;
        if self.changed && meanwhile && (!self.live_restore || code == UNSEEN) {
            return true;
        }
        let Some(began_at) = self.began.map(by) else { return false };
        let after = finished_at >= began_at;
        if self.live_restore {
            return after && code == UNSEEN && finished_at.since(began_at) < SETTLED;
        }
        // Nothing outlives its return; and what ended before, unseen, may be what it ended when it stopped.
        after || (!self.changed && self.watched_until.is_some_and(|until| by(until) <= finished_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::clock::Uptime;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    const fn end(code: i32, finished: i64) -> End {
        End { code, finished_at: at(finished) }
    }

    /// On a machine whose clock was set to 0 at its start, and ahead by so much later.
    fn moment(seconds: u64, ahead: i64) -> Moment {
        let day = i64::try_from(seconds).expect("not long");
        Moment { at: at(day + ahead), up: Some(Uptime::of(Duration::from_secs(seconds))) }
    }

    /// Seen last at 10; back at 20.
    fn absence(changed: bool, live_restore: bool) -> Absence {
        Absence {
            changed,
            live_restore,
            last_contact: Some(moment(10, 0)),
            began: None,
            watched_until: None,
            returned: moment(20, 0),
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
            last_contact: Some(moment(90, 0)),
            began: Some(moment(50, 0)),
            watched_until: Some(moment(30, 0)),
            returned: moment(100, 0),
            ..absence(false, live_restore)
        };
        for ((live_restore, code, finished), restart) in table {
            let seen = found(live_restore).explains(&end(code, finished));
            assert_eq!(seen, restart, "{live_restore} {code} {finished}");
        }
    }

    #[test]
    fn a_clock_that_is_set_while_the_engine_is_away_hides_no_restart() {
        for ahead in [600, -600] {
            let away = Absence { returned: moment(20, ahead), ..absence(true, false) };
            assert!(away.explains(&end(0, 15)), "set after the end, by {ahead}");
            assert!(away.explains(&end(0, 15 + ahead)), "set before the end, by {ahead}");
            assert!(!away.explains(&end(0, 9)), "it had ended before");
            let found = Absence {
                last_contact: Some(moment(90, ahead)),
                began: Some(moment(50, ahead)),
                watched_until: Some(moment(30, 0)),
                returned: moment(100, ahead),
                ..absence(false, false)
            };
            assert!(found.explains(&end(143, 40)) && found.explains(&end(143, 40 + ahead)));
        }
    }

    #[test]
    fn a_clock_that_is_set_under_a_container_makes_no_engine_younger_than_it() {
        let began = Some(moment(60, 0));
        // Since 50; ten minutes on the clock were skipped since.
        let engine = moment(50, 600);
        assert!(!is_older(began, at(60), engine) && is_older(None, at(60), engine));
        assert!(is_older(began, at(60), moment(70, -600)), "another engine, and a clock that was set back");
    }
}
