//! The connection to the engine: where it is, which API it speaks, what it is. Connects again after the engine
//! went away, for it may come back as another version. Must never know containers or images.

use super::{gpus::Way, tether::Tether};
use crate::runtime::{EngineInfo, Error, docker_arch};
use longshore_common::{clock::Moment, job::Outcome};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// A dead engine breaks the connection at once, and whoever waits for one that hangs has less patience than this.
const REQUEST_TIMEOUT_SECONDS: u64 = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(10);
/// Podman's Docker API stops at 1.41, Debian's engine too; nothing here needs more.
const OLDEST: (usize, usize) = (1, 40);

pub(super) struct Engine {
    host: String,
    /// Containers are run by this one of the engine's OCI runtimes; `None`: by the engine's own choice.
    oci_runtime: Option<String>,
    client: Mutex<Option<Client>>,
    /// When an earlier process of this agent was there last.
    pub(super) watched_until: OnceLock<Moment>,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) api: bollard::Docker,
    pub(super) facts: Arc<Facts>,
    /// To the process that these facts are of.
    pub(super) tether: Arc<Tether>,
}

/// What does not change while the engine runs.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) api: String,
    pub(super) arch: String,
    pub(super) data_root: PathBuf,
    /// Containers outlive the engine.
    pub(super) live_restore: bool,
    /// The data root has project quotas, so a writable layer can be given a size.
    pub(super) layer_quota: bool,
    pub(super) gpus: Way,
    /// OCI runtimes, by name.
    pub(super) runtimes: Vec<String>,
}

impl Engine {
    pub(super) fn new(host: Option<String>) -> Self {
        let host = host
            .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()))
            .unwrap_or_else(|| DEFAULT_HOST.to_owned());
        Self { host, oci_runtime: None, client: Mutex::new(None), watched_until: OnceLock::new() }
    }

    /// Without this OCI runtime it cannot be used.
    pub(super) fn with_oci_runtime(mut self, name: Option<String>) -> Self {
        self.oci_runtime = name;
        self
    }

    /// Where its socket is.
    pub(super) fn socket(&self) -> &str {
        self.host.strip_prefix("unix://").unwrap_or(&self.host)
    }

    /// The negotiated client. `Unreachable` says how to mend it.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.cached() {
            return Ok(client);
        }
        let client = match tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => {
                return Err(Error::Unreachable(format!(
                    "Docker at {} takes connections and does not answer: see its log (journalctl -u docker)",
                    self.host
                )));
            }
        };
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// The client of before, if the engine is the same process still.
    fn cached(&self) -> Option<Client> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.filter(|client| client.tether.is_whole())
    }

    /// What a failed call means. A broken connection makes the next call connect anew.
    pub(super) fn failed(&self, doing: &str, error: &bollard::errors::Error) -> Error {
        if is_unreachable(error) {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
            Error::Unreachable(self.unreachable(error))
        } else {
            Error::ends(Outcome::RuntimeError, format!("{doing}: {}", message(error)))
        }
    }

    /// The answer to a question about one container, with little patience: the engine may be busy with that one.
    pub(super) async fn look<T>(
        &self,
        question: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<Result<T, bollard::errors::Error>, Error> {
        tokio::time::timeout(LOOK, question).await.map_err(|_| {
            Error::Unreachable(format!("Docker at {} does not say how the container is", self.host))
        })
    }

    pub(super) async fn describe(&self) -> Result<EngineInfo, Error> {
        // Asked anew, so that an engine that is gone is not described from memory.
        let client = self.client().await?;
        if let Some(wanted) = self.oci_runtime.as_ref().filter(|name| !client.facts.runtimes.contains(name)) {
            return Err(Error::Unreachable(format!(
                "Docker at {} has no OCI runtime `{wanted}`, only {}: add it to the engine, or change runtime.oci_runtime",
                self.host,
                client.facts.runtimes.join(", ")
            )));
        }
        match tokio::time::timeout(CONNECT_TIMEOUT, client.api.ping()).await {
            Ok(Ok(_)) => client.tether.note_contact(),
            Ok(Err(error)) => return Err(self.failed("ask the engine", &error)),
            Err(_) => {
                return Err(Error::Unreachable(format!("Docker at {} does not answer a ping", self.host)));
            }
        }
        let facts = &client.facts;
        Ok(EngineInfo {
            name: format!("docker {}, API {}", facts.version, facts.api),
            arch: facts.arch.clone(),
            data_root: facts.data_root.clone(),
            disk_limit: String::new(),
            warning: None,
        })
    }

    /// Whether an engine of this kind can give writable layers a size.
    pub(super) fn has_layer_quota(driver: &str, data_root: &Path) -> bool {
        driver == "overlay2" && has_project_quota(data_root)
    }

    fn unreachable(&self, error: &bollard::errors::Error) -> String {
        let cause = innermost(error);
        if cause.contains("ermission denied") {
            return format!(
                "no permission for {}: run the agent as root, or add its user to the group docker",
                self.host
            );
        }
        format!(
            "Docker does not answer at {}: start it (systemctl start docker), or name its socket in \
             runtime.host ({cause})",
            self.host
        )
    }

    async fn connect(&self) -> Result<Client, Error> {
        let Some(socket) = self.host.strip_prefix("unix://") else {
            return Err(Error::Unreachable(format!(
                "the engine must be on this machine: runtime.host or DOCKER_HOST is {}, and must be \
                 unix:///path/to/docker.sock",
                self.host
            )));
        };
        let failed = |error: bollard::errors::Error| match self.failed("ask the engine what it is", &error) {
            // Whatever it answers: as long as it does not say what it is, it cannot be used.
            Error::Ends { detail, .. } => Error::Unreachable(detail),
            other => other,
        };
        let api = bollard::Docker::connect_with_unix(
            &self.host,
            REQUEST_TIMEOUT_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(failed)?;
        // Before the questions: whoever answers those has this connection too, or it is broken.
        let tether = Tether::tie(socket).await.map_err(|err| failed(err.into()))?;
        let api = api.negotiate_version().await.map_err(failed)?;
        let version = api.client_version();
        if (version.major_version, version.minor_version) < OLDEST {
            return Err(Error::Unreachable(format!(
                "Docker at {} speaks API {version}, older than {}.{}: upgrade it",
                self.host, OLDEST.0, OLDEST.1
            )));
        }
        let info = api.info().await.map_err(failed)?;
        let gpus = Way::of_engine(&info);
        let data_root = PathBuf::from(info.docker_root_dir.unwrap_or_default());
        let facts = Facts {
            version: info.server_version.unwrap_or_default(),
            api: version.to_string(),
            arch: docker_arch(info.architecture.as_deref().unwrap_or_default()).to_owned(),
            layer_quota: Self::has_layer_quota(info.driver.as_deref().unwrap_or_default(), &data_root),
            data_root,
            gpus,
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
            live_restore: info.live_restore_enabled.unwrap_or(false),
        };
        tether.note_contact();
        Ok(Client { api, facts: Arc::new(facts), tether: Arc::new(tether) })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The status the engine answered with, if it answered.
pub(super) const fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The engine's own words.
pub(super) fn message(error: &bollard::errors::Error) -> String {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => message.clone(),
        bollard::errors::Error::DockerStreamError { error } => error.clone(),
        other => innermost(other),
    }
}

/// No answer, as opposed to an answer that says no.
pub(super) const fn is_unreachable(error: &bollard::errors::Error) -> bool {
    use bollard::errors::Error as E;
    matches!(
        error,
        E::SocketNotFoundError(_)
            | E::HyperLegacyError { .. }
            | E::HyperResponseError { .. }
            | E::IOError { .. }
            | E::RequestTimeoutError
    )
}

fn innermost(error: &bollard::errors::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn has_project_quota(data_root: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    project_quota_in(&mounts, data_root)
}

/// Whether the mount that holds `data_root` is XFS with project quotas.
fn project_quota_in(mountinfo: &str, data_root: &Path) -> bool {
    let holds = |line: &&str| line.split(' ').nth(4).is_some_and(|point| data_root.starts_with(point));
    let length = |line: &&str| line.split(' ').nth(4).map_or(0, str::len);
    // Of equal mount points the last one is on top.
    let Some(mount) = mountinfo.lines().filter(holds).max_by_key(length) else { return false };
    let Some((_, filesystem)) = mount.split_once(" - ") else { return false };
    filesystem.starts_with("xfs ")
        && filesystem.split([',', ' ']).any(|option| option == "prjquota" || option == "pquota")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_quota_is_read_from_the_mount_that_holds_the_data_root() {
        let mounts = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
                      30 21 8:2 / /var/lib/docker rw - xfs /dev/sdb1 rw,attr2,prjquota\n";
        assert!(project_quota_in(mounts, "/var/lib/docker".as_ref()));
        assert!(!project_quota_in(mounts, "/srv/docker".as_ref()));
        let plain = mounts.replace(",prjquota", ",noquota");
        assert!(!project_quota_in(&plain, "/var/lib/docker".as_ref()));
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named_with_what_to_do() {
        let engine = Engine::new(Some("unix:///nowhere/docker.sock".to_owned()));
        let error = engine.describe().await.expect_err("there is none");
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(text.contains("unix:///nowhere/docker.sock") && text.contains("start"), "{text}");
    }

    #[tokio::test]
    async fn a_remote_engine_is_refused() {
        let engine = Engine::new(Some("tcp://10.0.0.1:2375".to_owned()));
        let text = engine.describe().await.expect_err("not on this machine").to_string();
        assert!(text.contains("unix:///"), "{text}");
    }
}
