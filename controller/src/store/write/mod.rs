//! The one transaction at a time that writes. One statement per table and batch, one JSON bind each.

mod artifacts;
mod claims;
mod inputs;
mod jobs;
mod others;
mod remove;

pub(crate) use artifacts::Arrived;
#[cfg(test)]
pub(super) use claims::CANDIDATES;
pub(crate) use claims::{CandidateQuery, ClaimRow, Position};

use super::Error;
use sqlx::{Sqlite, SqliteConnection, Transaction};

/// Rolled back when dropped.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: Transaction<'static, Sqlite>,
}

impl Tx {
    pub(super) const fn new(inner: Transaction<'static, Sqlite>) -> Self {
        Self { inner }
    }

    /// On disk when this returns.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }

    /// Runs a statement with one JSON bind and answers how many rows it touched.
    async fn run(&mut self, sql: &'static str, bind: String) -> Result<u64, Error> {
        Ok(sqlx::query(sql).bind(bind).execute(self.connection()).await?.rows_affected())
    }
}
