//! What this agent shows to the controller, kept in its data directory for its owner alone. The private half is made
//! here and never leaves the machine. Must never be logged.

use crate::home;
use longshore_common::{clock::Timestamp, durable};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

const FILE: &str = "credential.json";
/// The private half of a join whose answer has not come yet.
const JOINING: &str = "joining.json";

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The id of the join token that it began with.
    pub token: String,
    pub shown: Shown,
    /// PEM; empty: no TLS.
    pub authorities: String,
    pub obtained_at: Timestamp,
    pub valid: Duration,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    Certificate {
        /// DER in hexadecimal.
        certificate: String,
        /// PEM.
        key: String,
    },
    /// The text of a bearer key.
    Key(String),
}

/// The private half of what is being asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joining {
    token: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// PEM.
    PrivateKey(String),
    Random([u8; 32]),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Key(_) => "Key",
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrivateKey(_) => "PrivateKey",
            Self::Random(_) => "Random",
        })
    }
}

impl Credential {
    pub fn ends_at(&self) -> Timestamp {
        self.obtained_at.plus(self.valid)
    }

    /// Time enough is left for a controller that is away for long.
    pub fn renew_at(&self) -> Timestamp {
        self.obtained_at.plus(self.valid * 2 / 3)
    }
}

/// The authorities that transfers trust besides the public ones, as PEM. Clones follow.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<watch::Sender<String>>);

impl Default for Authorities {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(String::new())))
    }
}

impl Authorities {
    pub fn now(&self) -> String {
        self.0.borrow().clone()
    }

    fn set(&self, pem: &str) {
        self.0.send_if_modified(|now| {
            let changed = now != pem;
            if changed {
                pem.clone_into(now);
            }
            changed
        });
    }
}

/// The agent's credential on disk and in use. Clones are the same.
#[derive(Clone)]
pub struct Wallet(Arc<Inner>);

struct Inner {
    /// `None`: nothing is kept.
    dir: Option<PathBuf>,
    now: Mutex<Option<Arc<Credential>>>,
    authorities: Authorities,
}

impl Wallet {
    /// What the data directory has.
    pub fn open(home: &home::Home, authorities: Authorities) -> Result<Self, home::Error> {
        let dir = home.file("");
        let found: Option<Credential> = read(&dir.join(FILE))?;
        if let Some(found) = &found {
            authorities.set(&found.authorities);
        }
        let now = Mutex::new(found.map(Arc::new));
        Ok(Self(Arc::new(Inner { dir: Some(dir), now, authorities })))
    }

    /// One credential for ever, for agents that are only played.
    pub fn fixed(key: String) -> Self {
        let credential = Credential {
            token: String::new(),
            shown: Shown::Key(key),
            authorities: String::new(),
            obtained_at: Timestamp::now(),
            valid: Duration::MAX,
        };
        let now = Mutex::new(Some(Arc::new(credential)));
        Self(Arc::new(Inner { dir: None, now, authorities: Authorities::default() }))
    }

    pub fn now(&self) -> Option<Arc<Credential>> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// On disk when this returns.
    pub fn put(&self, credential: Credential) -> Result<(), home::Error> {
        if let Some(dir) = &self.0.dir {
            write(&dir.join(FILE), &credential)?;
            remove(&dir.join(JOINING))?;
        }
        self.0.authorities.set(&credential.authorities);
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(credential));
        Ok(())
    }

    /// The private half to join with: the same one for the same token until it has worked.
    pub fn joining(&self, token: &str, fresh: impl FnOnce() -> Secret) -> Result<Secret, home::Error> {
        let Some(dir) = &self.0.dir else { return Ok(fresh()) };
        let path = dir.join(JOINING);
        if let Some(joining) = read::<Joining>(&path)?.filter(|joining| joining.token == token) {
            return Ok(joining.secret);
        }
        let joining = Joining { token: token.to_owned(), secret: fresh() };
        write(&path, &joining)?;
        Ok(joining.secret)
    }
}

/// Without what is secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("ends_at", &self.ends_at()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, home::Error> {
    let failed = |source| home::Error::Io { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), home::Error> {
    let failed = |source| home::Error::Io { path: path.to_owned(), source };
    let text = serde_json::to_vec(value).expect("texts and numbers");
    durable::replace_private(path, &text).map_err(failed)
}

fn remove(path: &Path) -> Result<(), home::Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(home::Error::Io { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_kept_is_for_its_owner_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let home = home::Home::open(dir.path()).unwrap();
        let wallet = Wallet::open(&home, Authorities::default()).unwrap();
        assert!(wallet.now().is_none());
        let secret = wallet.joining("a", || Secret::Random([1; 32])).unwrap();
        let again = Wallet::open(&home, Authorities::default()).unwrap();
        assert!(
            again.joining("a", || Secret::Random([2; 32])).unwrap() == secret,
            "a lost answer is asked for again"
        );
        assert!(again.joining("b", || Secret::Random([3; 32])).unwrap() == Secret::Random([3; 32]));
        let credential = Credential {
            token: "b".to_owned(),
            shown: Shown::Key("lsk_x".to_owned()),
            authorities: "pem".to_owned(),
            obtained_at: Timestamp::now(),
            valid: Duration::from_secs(90),
        };
        again.put(credential.clone()).unwrap();
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join(JOINING).exists());
        let authorities = Authorities::default();
        let last = Wallet::open(&home, authorities.clone()).unwrap();
        assert!(*last.now().unwrap() == credential && authorities.now() == "pem");
        assert_eq!(credential.renew_at().since(credential.obtained_at), Duration::from_secs(60));
    }
}
