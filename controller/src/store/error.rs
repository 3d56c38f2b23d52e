//! Why the database did not do it.

use std::path::PathBuf;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Everything that writes is refused until there is room.
    #[error("the disk under the data directory is full: free some space; nothing was lost")]
    Full,
    #[error("{} is in use by another controller (process {pid}); stop it first", path.display())]
    Locked { path: PathBuf, pid: String },
    #[error("database busy: {0}; try again")]
    Busy(String),
    #[error("{}: {message}", path.display())]
    File { path: PathBuf, message: String },
    #[error("{} exists; move it away or use --force", path.display())]
    Exists { path: PathBuf },
    /// A row this program did not write.
    #[error("database holds {what} that this version cannot read: {message}")]
    Corrupt { what: &'static str, message: String },
    #[error("database failed: {0}")]
    Failed(String),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Full | Self::Busy(_) => true,
            Self::Locked { .. }
            | Self::File { .. }
            | Self::Exists { .. }
            | Self::Corrupt { .. }
            | Self::Failed(_) => false,
        }
    }

    pub(super) fn corrupt(what: &'static str, message: impl ToString) -> Self {
        Self::Corrupt { what, message: message.to_string() }
    }

    pub(super) fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy("no connection came free".to_owned()),
            sqlx::Error::Database(database) => {
                match database.code().and_then(|code| code.parse().ok()).map(super::dialect::class) {
                    Some(super::dialect::Class::Full) => Self::Full,
                    Some(super::dialect::Class::Busy) => Self::Busy(database.message().to_owned()),
                    Some(super::dialect::Class::Other) | None => Self::Failed(error.to_string()),
                }
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}
