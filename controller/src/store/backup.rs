//! Backup and restore, called by a process of their own. A backup needs no lock and no stop.

use super::{Error, lock::Lock, options, pool};
use sqlx::Row as _;
use std::path::{Path, PathBuf};

/// Writes a whole, consistent copy of `database` to `target` while a controller may go on writing.
pub async fn backup(database: &Path, target: &Path) -> Result<(), Error> {
    if !database.exists() {
        return Err(Error::file(database, "there is no database to back up"));
    }
    if target.exists() {
        return Err(Error::Exists { path: target.to_owned() });
    }
    let text = target.to_str().ok_or_else(|| Error::file(target, "the name is not UTF-8"))?;
    let source = pool(options(database).create_if_missing(false), 1).await?;
    let copied = sqlx::query("VACUUM INTO $1").bind(text).execute(&source).await;
    source.close().await;
    copied.map_err(|error| Error::file(target, error))?;
    sync(target)
}

/// Puts a backup in the place of `database` and starts a new epoch, so that no token granted since the backup is
/// good any more. Answers the new epoch.
pub async fn restore(backup: &Path, database: &Path, force: bool) -> Result<u64, Error> {
    if !backup.exists() {
        return Err(Error::file(backup, "there is no such backup"));
    }
    if let Some(folder) = database.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    }
    let _lock = Lock::take(database)?;
    if database.exists() && !force {
        return Err(Error::Exists { path: database.to_owned() });
    }
    let fresh = beside(database, ".restoring");
    std::fs::copy(backup, &fresh).map_err(|error| Error::file(&fresh, error))?;
    // The epoch goes past the one that is replaced too: its tokens must not come true again.
    let past = if database.exists() { epoch(database).await.unwrap_or(0) } else { 0 };
    let epoch = bump(&fresh, past).await?;
    sync(&fresh)?;
    for suffix in ["-wal", "-shm"] {
        let old = beside(database, suffix);
        if old.exists() {
            std::fs::remove_file(&old).map_err(|error| Error::file(&old, error))?;
        }
    }
    std::fs::rename(&fresh, database).map_err(|error| Error::file(database, error))?;
    sync(database.parent().unwrap_or(Path::new(".")))?;
    Ok(epoch)
}

async fn epoch(database: &Path) -> Result<i64, Error> {
    let pool = pool(options(database).create_if_missing(false), 1).await?;
    let row = sqlx::query("SELECT epoch FROM cluster").fetch_one(&pool).await;
    pool.close().await;
    Ok(row?.try_get(0)?)
}

async fn bump(database: &Path, past: i64) -> Result<u64, Error> {
    let pool = pool(options(database).create_if_missing(false), 1).await?;
    let row = sqlx::query("UPDATE cluster SET epoch = MAX(epoch, $1) + 1 RETURNING epoch")
        .bind(past)
        .fetch_one(&pool)
        .await;
    pool.close().await;
    let row = row.map_err(|error| Error::file(database, format!("not a backup of Longshore: {error}")))?;
    Ok(super::rows::unsigned(row.try_get(0)?))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync(path: &Path) -> Result<(), Error> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::file(path, error))
}
