//! Keys of attempts that are over, taken back however often that must be tried. No key waits behind others that cannot
//! be: what was tried longest ago comes first. Must never forget a key before its minter has said that it is gone.

use super::{Error, Failed, RunKeys, Told};
use crate::store::RunKeyRow;
use futures::{StreamExt as _, stream};
use longshore_common::clock::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Keys taken back at one time.
const AT_ONCE: usize = 8;
/// Refusals of one minter in one look: it is not asked for ever about what it will not do.
const REFUSALS: usize = 100;
/// What a minter makes after its caller went away is there by then.
pub(super) const LATE: Duration = Duration::from_secs(5 * 60);

/// The last try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    at: Instant,
    /// Taken back; only what a call without an answer may still make is waited for.
    pub(super) done: bool,
}

/// What went wrong in one look, by minter.
#[derive(Default)]
struct Look(Mutex<HashMap<String, usize>>);

impl Look {
    fn has_enough_of(&self, minter: &str) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(minter).is_some_and(|count| *count >= REFUSALS)
    }

    /// One that does not answer is left alone until the next look.
    fn failed(&self, minter: &str, silent: bool) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.entry(minter.to_owned()).or_default() += if silent { REFUSALS } else { 1 };
    }
}

impl RunKeys {
    /// Takes back what no attempt needs any more. What fails is tried again, for ever. Answers when there is more to do.
    pub(crate) async fn sweep(&self) -> Result<Option<Timestamp>, Error> {
        self.forget();
        let (over, _) = self.over();
        let count = over.len();
        let look = Look::default();
        let failures: Vec<Error> = stream::iter(over)
            .map(|row| self.take_back(row, &look))
            .buffer_unordered(AT_ONCE)
            .filter_map(|done| async { done.err() })
            .collect()
            .await;
        let first = failures.into_iter().next();
        let told = first.as_ref().map(|error| format!("{count} run keys are to be taken back: {error}"));
        *self.0.ill.lock().unwrap_or_else(PoisonError::into_inner) = told;
        first.map_or_else(|| Ok(self.over().1), Err)
    }

    /// What to take back now, and when there is more.
    fn over(&self) -> (Vec<Arc<RunKeyRow>>, Option<Timestamp>) {
        let (rows, tried, now) = (self.rows(), self.tried(), Timestamp::now());
        let over = rows.values().filter(|row| !self.0.jobs.holds(row.attempt));
        let due = |row: &RunKeyRow| {
            let done = tried.get(&row.attempt).is_some_and(|tried| tried.done);
            late(row).filter(|until| done && *until > now)
        };
        let (wait, mut over): (Vec<_>, Vec<_>) = over.cloned().partition(|row| due(row).is_some());
        over.sort_by_key(|row| tried.get(&row.attempt).map(|tried| tried.at));
        (over, wait.iter().filter_map(|row| due(row)).min())
    }

    async fn take_back(&self, row: Arc<RunKeyRow>, look: &Look) -> Result<(), Error> {
        let attempt = row.attempt;
        if look.has_enough_of(&row.minter) {
            return Ok(());
        }
        let turn = self.turn(attempt);
        let _turn = turn.lock().await;
        // It may have got its value meanwhile.
        let Some(row) = self.row(attempt) else { return Ok(()) };
        let began = Timestamp::now();
        let done = self.revoke(&row, look).await;
        self.tried().insert(attempt, Tried { at: Instant::now(), done: done.is_ok() });
        done?;
        if late(&row).is_some_and(|until| until > began) {
            return Ok(());
        }
        let mut tx = self.0.store.begin().await?;
        tx.drop_run_key(attempt).await?;
        tx.commit().await?;
        self.rows().remove(&attempt);
        Ok(())
    }

    async fn revoke(&self, row: &RunKeyRow, look: &Look) -> Result<(), Error> {
        let gone = || {
            look.failed(&row.minter, true);
            Error::NoKey(format!("minter `{}` is not in the configuration any more", row.minter))
        };
        let minter = self.0.minters.get(&row.minter).ok_or_else(gone)?;
        let told: Told = serde_json::from_str(&row.told).map_err(|error| {
            Error::NoKey(format!("what minter `{}` was told does not read: {error}", row.minter))
        })?;
        let key = row
            .sealed
            .as_ref()
            .map(|(key_id, sealed)| self.0.secrets.open_run_key(&row.project, &row.attempt, *key_id, sealed));
        // With another key of the secrets it is taken back by its name alone.
        let key = key.and_then(Result::ok);
        let told = minter.revoke(&told, key.as_ref().map(|key| key.as_str())).await;
        let mut complained = self.0.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(Failed { what, complaint, silent }) = told else {
            complained.remove(&row.minter);
            return Ok(());
        };
        look.failed(&row.minter, silent);
        if complained.insert(row.minter.clone()) {
            let complaint =
                key.as_ref().map_or_else(|| complaint.clone(), |key| complaint.replace(key.as_str(), "***"));
            tracing::warn!(minter = row.minter, what, complaint, "run keys are not taken back; trying on");
        }
        Err(Error::NoKey(format!("minter `{}` {what}", row.minter)))
    }

    /// What concerns runs that nothing is to be done about any more.
    fn forget(&self) {
        let rows = self.rows();
        self.tried().retain(|attempt, _| rows.contains_key(attempt));
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|attempt, turn| rows.contains_key(attempt) || Arc::strong_count(turn) > 1);
    }
}

/// Until when its minter may make a key that nobody was told of.
fn late(row: &RunKeyRow) -> Option<Timestamp> {
    row.unanswered_at.map(|asked| asked.plus(LATE))
}
