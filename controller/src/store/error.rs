//! Why the database did not do it.

use std::path::PathBuf;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was lost; everything that writes is refused until there is room.
    #[error("the disk under {} is full: free some space; nothing was lost", path.display())]
    Full { path: PathBuf },
    #[error("{} is in use by another controller (process {pid}); stop it first", path.display())]
    Locked { path: PathBuf, pid: String },
    #[error("database busy: {0}; try again")]
    Busy(String),
    #[error("database {}: {message}", path.display())]
    Open { path: PathBuf, message: String },
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
            Self::Full { .. } | Self::Busy(_) => true,
            Self::Locked { .. }
            | Self::Open { .. }
            | Self::Exists { .. }
            | Self::Corrupt { .. }
            | Self::Failed(_) => false,
        }
    }
}
