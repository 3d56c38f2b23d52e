//! The one transaction at a time that writes. One statement per table and batch, one JSON bind each.

mod actions;
mod artifacts;
mod batches;
mod claims;
mod enrolment;
mod fleet;
mod identity;
mod inputs;
mod jobs;
mod others;
mod remove;
mod run_keys;
mod secrets;
mod sources;
mod triggers;

pub(crate) use actions::NewVersion;
pub(crate) use artifacts::Arrived;
pub(super) use batches::GOING;
#[cfg(test)]
pub(super) use batches::NEXT;
#[cfg(test)]
pub(super) use claims::CANDIDATES;
pub(super) use claims::PROJECTS_IN;
pub(crate) use claims::{CandidateQuery, ClaimRow, Position};
pub(super) use sources::dependencies;
pub(crate) use sources::{Dependency, Dependents, Source};

use super::Error;
use sqlx::{Sqlite, SqliteConnection, pool::PoolConnection};

/// Undone when dropped without a commit.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: PoolConnection<Sqlite>,
    committed: bool,
}

impl Tx {
    /// A caller that goes away meanwhile takes the connection along: nobody knows whether it is within a transaction.
    pub(super) async fn begin(inner: PoolConnection<Sqlite>) -> Result<Self, Error> {
        #[cfg(test)]
        super::crash::point();
        let mut tx = Self { inner, committed: false };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *tx.inner).await?;
        Ok(tx)
    }

    /// On disk when this returns.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        #[cfg(test)]
        super::crash::point();
        sqlx::query("COMMIT").execute(&mut *self.inner).await?;
        #[cfg(test)]
        super::crash::point();
        self.committed = true;
        Ok(())
    }

    pub(in crate::store) fn connection(&mut self) -> &mut SqliteConnection {
        #[cfg(test)]
        super::crash::point();
        &mut self.inner
    }

    /// Runs a statement with one JSON bind and answers how many rows it touched.
    async fn run(&mut self, sql: &'static str, bind: String) -> Result<u64, Error> {
        Ok(sqlx::query(sql).bind(bind).execute(self.connection()).await?.rows_affected())
    }
}

impl Drop for Tx {
    /// After a full disk SQLite may have rolled back by itself or not, so the connection goes, and with it
    /// whatever is left of the transaction.
    fn drop(&mut self) {
        if !self.committed {
            self.inner.close_on_drop();
        }
    }
}
