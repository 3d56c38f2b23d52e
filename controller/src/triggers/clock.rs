//! Clocks: which instants are due. The cursor of a trigger is the last instant that was dealt with, and only moves
//! ahead, so a clock that is set back fires nothing twice.

use super::{Error, Triggers, fire};
use crate::store::{FiringRow, FiringState, Record, TriggerRow};
use longshore_common::{
    clock::Timestamp,
    ids::{FiringId, TriggerId},
    trigger::{Cron, Kind, MOST_MISSED, Missed, Schedule, When},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

/// One that is noticed so late at most is on time.
const ON_TIME: Duration = Duration::from_secs(90);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Triggers {
    /// Notes what is due at `now`. Answers when something is due next.
    pub(crate) async fn tick(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let _one = self.inner.changing.lock().await;
        let (mut record, mut moved, mut due) = (Record::default(), Vec::new(), None::<Timestamp>);
        for row in self.live() {
            let When::Cron(cron) = &row.spec.when else { continue };
            self.note_problem(row.id, ahead(&row, now));
            if let Some(cursor) = look(&row, cron, now, &mut record) {
                record.cursors.push((row.id, cursor, row.cursor_revision));
                moved.push(TriggerRow { cursor_at: cursor, ..(*row).clone() });
            }
            let row = moved.last().filter(|moved| moved.id == row.id).unwrap_or(&row);
            if let Some(next) = next(row, cron) {
                due = Some(due.map_or(next, |due| due.min(next)));
            }
        }
        if !moved.is_empty() {
            self.inner.jobs.record_firings(record).await?;
            let mut state = self.write();
            state.rows.extend(moved.into_iter().map(|row| (row.id, Arc::new(row))));
            drop(state);
            self.inner.noted.notify_one();
        }
        Ok(due)
    }
}

/// A machine whose clock was wrong for a while leaves this behind.
fn ahead(row: &TriggerRow, now: Timestamp) -> Option<String> {
    (row.cursor_at > now.plus(DAY)).then(|| {
        let (until, name) = (row.cursor_at.to_rfc3339(), &row.spec.name);
        format!(
            "it has fired until {until}, which is to come: the controller's clock was ahead. \
             `longshore triggers disable {name}` and `enable {name}` make it go on from now"
        )
    })
}

/// When it fires next.
pub(super) fn next(row: &TriggerRow, cron: &Cron) -> Option<Timestamp> {
    let schedule = Schedule::parse(&cron.schedule, &cron.time_zone).ok()?;
    Some(schedule.next(row.cursor_at)?.plus(jitter(row.id, cron.jitter)))
}

/// Notes what is due, and answers how far the cursor goes.
fn look(row: &TriggerRow, cron: &Cron, now: Timestamp, record: &mut Record) -> Option<Timestamp> {
    let schedule = Schedule::parse(&cron.schedule, &cron.time_zone).ok()?;
    let until = now.minus(jitter(row.id, cron.jitter));
    if until <= row.cursor_at {
        return None;
    }
    let dues = schedule.between(row.cursor_at, until, MOST_MISSED);
    let last = *dues.last()?;
    let (missed, on_time): (Vec<_>, Vec<_>) = dues.into_iter().partition(|due| until.since(*due) > ON_TIME);
    let mut fire = |due: Timestamp, missed: usize| {
        let payload =
            json!({ "due": due.to_rfc3339(), "time_zone": cron.time_zone, "missed": missed }).to_string();
        record.firings.push((noted(row, due, now), payload));
    };
    match cron.missed {
        Missed::All => missed.iter().chain(&on_time).for_each(|due| fire(*due, 0)),
        // What is on time does the work of what was missed.
        Missed::Once if on_time.is_empty() => fire(last, missed.len() - 1),
        Missed::Once => on_time.iter().for_each(|due| fire(*due, missed.len())),
        Missed::Skip => {
            on_time.iter().for_each(|due| fire(*due, missed.len()));
            if let Some(latest) = missed.last() {
                let many = if missed.len() >= MOST_MISSED { "at least " } else { "" };
                let reason = format!("{many}{} missed while the controller was away", missed.len());
                let skipped = FiringRow {
                    state: FiringState::Skipped,
                    reason,
                    next_try: None,
                    ..noted(row, *latest, now)
                };
                record.firings.push((skipped, "{}".to_owned()));
            }
        }
    }
    Some(last)
}

fn noted(row: &TriggerRow, due: Timestamp, now: Timestamp) -> FiringRow {
    let event = format!("cron {}", due.as_micros());
    let firing = fire::new(row, FiringId::new(), event, Kind::Cron, due.to_rfc3339(), 1);
    FiringRow { at: now, next_try: Some(now), ..firing }
}

/// Of one trigger always the same, and of many evenly spread.
fn jitter(id: TriggerId, most: Duration) -> Duration {
    let digest = Sha256::digest(id.as_bytes());
    let share = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    most.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_bounds_and_is_the_same_each_time() {
        let most = Duration::from_secs(600);
        let ids: Vec<_> = (0..200).map(|_| TriggerId::new()).collect();
        let all: Vec<_> = ids.iter().map(|id| jitter(*id, most)).collect();
        assert!(all.iter().all(|late| *late <= most));
        assert!(all.iter().any(|late| *late > most / 2) && all.iter().any(|late| *late < most / 2));
        assert_eq!(all, ids.iter().map(|id| jitter(*id, most)).collect::<Vec<_>>());
        assert_eq!(jitter(ids[0], Duration::ZERO), Duration::ZERO);
    }
}
