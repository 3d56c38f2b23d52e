//! The truth. All SQL lives here; nothing else knows that there is any. Must never decide: what a job may become
//! is the lifecycle's.

mod backup;
#[cfg(test)]
pub(crate) mod crash;
mod dialect;
mod error;
mod lock;
mod read;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use backup::{backup, restore};
pub use error::Error;
pub(crate) use read::{Holdings, ListBounds, Place, StateCount};
pub(crate) use rows::{
    ActionRequestRow, AgentRow, AttemptClose, AttemptRow, AttemptUpdate, AuditRow, BatchRequestRow, BatchRow,
    CredentialRow, DataKeyRow, FiringRow, FiringState, GrantedGpu, JobRow, JoinTokenRow, NewJobRow,
    PutTrigger, Record, RequestRow, RunKeyRow, SecretRow, SeenObject, Standing, TokenRow, TriggerRow,
    ViewRow, pack_list,
};
pub use rows::{AgentEvent, SecretKind};
pub(crate) use write::{
    Arrived, CandidateQuery, ClaimRow, Dependency, Dependents, NewVersion, Position, Source, Tx,
};

use longshore_common::ids::{ClusterId, Epoch};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions as _, Row as _,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Settings of the embedded database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The SQLite file; its lock file and write-ahead log lie beside it.
    pub path: PathBuf,
    /// Connections for reading.
    pub readers: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/longshore/controller.db"),
            // Reads are short; more only cost page caches.
            readers: 4,
        }
    }
}

/// The open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// One connection: one transaction at a time.
    write: SqlitePool,
    read: SqlitePool,
    path: Arc<Path>,
    /// `None` after `close`.
    lock: Arc<Mutex<Option<lock::Lock>>>,
}

/// The database's own row about the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) epoch: Epoch,
    pub(crate) revision: u64,
    pub(crate) token_key: Vec<u8>,
}

impl Store {
    /// Locks, opens, migrates. A second controller on the same file is refused.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let path = &config.path;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        }
        let lock = lock::Lock::take(path)?;
        let write = pool(options(path).pragma("cache_size", "-8192").row_buffer_size(512), 1).await?;
        schema::migrate(&write, path).await?;
        let read = options(path).pragma("query_only", "ON").pragma("cache_size", "-2048");
        let read = pool(read, config.readers.max(1)).await?;
        let store = Self { write, read, path: path.as_path().into(), lock: Arc::new(Mutex::new(Some(lock))) };
        store.found_cluster().await?;
        let mut tx = store.begin().await?;
        tx.audit_left_open().await?;
        tx.commit().await?;
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all connections and lets another controller have the file; what was committed is in it.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether it answers, and what it is.
    pub async fn health(&self) -> Result<String, Error> {
        let row = sqlx::query("SELECT sqlite_version()").fetch_one(&self.read).await?;
        Ok(format!("sqlite {} at {}", row.try_get::<String, _>(0)?, self.path.display()))
    }

    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(self.write.acquire().await?).await
    }

    pub(crate) async fn cluster(&self) -> Result<Cluster, Error> {
        let row =
            sqlx::query("SELECT id, epoch, revision, token_key FROM cluster").fetch_one(&self.write).await?;
        let id: Vec<u8> = row.try_get("id")?;
        Ok(Cluster {
            id: ClusterId::from_slice(&id).map_err(|error| Error::corrupt("a cluster id", error))?,
            epoch: Epoch(rows::unsigned(row.try_get("epoch")?)),
            revision: rows::unsigned(row.try_get("revision")?),
            token_key: row.try_get("token_key")?,
        })
    }

    /// The first start of a cluster writes its id.
    async fn found_cluster(&self) -> Result<(), Error> {
        let key: [u8; 32] = rand::random();
        sqlx::query(
            "INSERT INTO cluster (one, id, epoch, revision, token_key, created_at) VALUES (1, $1, 1, 0, $2, $3) \
             ON CONFLICT (one) DO NOTHING",
        )
        .bind(&ClusterId::new().as_bytes()[..])
        .bind(&key[..])
        .bind(longshore_common::clock::Timestamp::now().as_micros())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Gives pages of removed rows back to the disk, a few at a time.
    pub(crate) async fn shrink(&self) -> Result<(), Error> {
        sqlx::query("PRAGMA incremental_vacuum(2000)").fetch_all(&self.write).await?;
        Ok(())
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        // A backup in another process holds no lock for longer than moments.
        .busy_timeout(Duration::from_secs(10))
        // The log is cut back to this after a burst.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

async fn pool(options: SqliteConnectOptions, size: u32) -> Result<SqlitePool, Error> {
    let path = options.get_filename().to_owned();
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(size)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(Some(Duration::from_secs(60)))
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| Error::file(path, error))
}
