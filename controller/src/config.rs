//! Every setting of the controller, in one tree. The modules own their parts.

use crate::{
    api,
    blobs::s3,
    enrolment, http, identity, jobs, log_store,
    pki::{self, Policy},
    reconcile, run_keys, secrets, triggers,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};
use url::Url;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// For gRPC and HTTP alike.
    pub listen: SocketAddr,
    /// The one name that agents and clients reach this controller by; it goes into signed addresses. `None`: the
    /// listener's own, which must then be loopback.
    pub public_url: Option<Url>,
    /// Database, logs, and artifacts unless they are in S3.
    pub data_dir: PathBuf,
    /// Less free space than this under `data_dir` stops submits and claims.
    pub disk_floor_bytes: u64,
    pub tls: pki::Config,
    /// Artifacts and inputs in a bucket instead of `data_dir`.
    pub s3: Option<s3::Config>,
    /// Agents pull over AMQP instead of being rung over their link.
    pub rabbitmq: Option<RabbitConfig>,
    pub jobs: jobs::Config,
    pub reconcile: reconcile::Config,
    pub logs: log_store::Config,
    pub api: api::Config,
    pub limits: identity::Config,
    pub secrets: secrets::Config,
    pub http: http::Config,
    pub enrolment: enrolment::Config,
    pub triggers: triggers::Config,
    /// Where triggers may look for new objects.
    pub object_sources: Vec<triggers::SourceConfig>,
    /// What makes run keys, by the name that projects choose one by.
    pub minters: BTreeMap<String, run_keys::Config>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitConfig {
    /// `amqp://user:password@host:5672/vhost`, for the controller.
    pub url: String,
    /// For the agents; `None`: the same.
    #[serde(default)]
    pub agent_url: Option<String>,
    /// `https://user:password@host:15671` of the broker's management plugin, for a user with the tag `administrator`;
    /// without a user, that of `url`. Every agent gets a broker user of its own then. `None`: all share `agent_url`'s.
    #[serde(default)]
    pub management_url: Option<Url>,
    /// Of the queues' names, so that several clusters can share a broker.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            public_url: None,
            data_dir: PathBuf::from("/var/lib/longshore/controller"),
            // The ends of a hundred running jobs and the database's own log, with room to spare.
            disk_floor_bytes: 256 << 20,
            tls: pki::Config::default(),
            s3: None,
            rabbitmq: None,
            jobs: jobs::Config::default(),
            reconcile: reconcile::Config::default(),
            logs: log_store::Config::default(),
            api: api::Config::default(),
            limits: identity::Config::default(),
            secrets: secrets::Config::default(),
            http: http::Config::default(),
            enrolment: enrolment::Config::default(),
            triggers: triggers::Config::default(),
            object_sources: Vec::new(),
            minters: BTreeMap::new(),
        }
    }
}

/// One port for everything.
pub const DEFAULT_PORT: u16 = 7420;

fn default_prefix() -> String {
    "longshore".to_owned()
}

/// Settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "listen is {0}, which others can reach: set public_url to the address they reach it by, such as https://HOST:{port}",
        port = .0.port()
    )]
    PublicUrlMissing(SocketAddr),
    #[error("public_url is `{0}`: it must be http:// or https:// with a host and no path")]
    PublicUrlWrong(Url),
    #[error(transparent)]
    Tls(#[from] pki::Refusal),
}

impl ControllerConfig {
    /// Whether this one speaks TLS.
    pub fn policy(&self, local: SocketAddr) -> Result<Policy, ConfigError> {
        Ok(Policy::of(&self.tls, local, self.public_url.as_ref())?)
    }

    /// Where others reach a controller that listens on `local`, without a slash at the end.
    pub fn base_url(&self, local: SocketAddr) -> Result<String, ConfigError> {
        let Some(url) = &self.public_url else {
            if !local.ip().is_loopback() {
                return Err(ConfigError::PublicUrlMissing(local));
            }
            return Ok(format!("{}://{local}", self.policy(local)?.scheme()));
        };
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        if plain {
            Ok(url.as_str().trim_end_matches('/').to_owned())
        } else {
            Err(ConfigError::PublicUrlWrong(url.clone()))
        }
    }
}

impl RabbitConfig {
    /// Where agents reach the broker.
    pub fn for_agents(&self) -> &str {
        self.agent_url.as_ref().unwrap_or(&self.url)
    }
}

impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The addresses hold passwords.
        f.debug_struct("RabbitConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(public: Option<&str>, local: &str) -> Result<String, ConfigError> {
        let public_url = public.map(|url| url.parse().expect("an address"));
        ControllerConfig { public_url, ..ControllerConfig::default() }
            .base_url(local.parse().expect("a socket address"))
    }

    #[test]
    fn others_are_let_in_only_by_a_name() {
        assert_eq!(base(None, "127.0.0.1:9"), Ok("http://127.0.0.1:9".to_owned()));
        assert_eq!(base(None, "[::1]:9"), Ok("http://[::1]:9".to_owned()));
        let error = base(None, "0.0.0.0:7420").expect_err("reachable by others");
        assert!(error.to_string().contains("https://HOST:7420"), "{error}");
        assert_eq!(base(Some("https://jobs.example"), "0.0.0.0:1"), Ok("https://jobs.example".to_owned()));
        assert!(base(Some("https://jobs.example/x"), "127.0.0.1:1").is_err());
        assert!(base(Some("amqp://jobs.example"), "127.0.0.1:1").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let rabbit = RabbitConfig {
            url: "amqp://u:hunter2@h".into(),
            agent_url: None,
            management_url: "https://u:hunter2@h".parse().ok(),
            prefix: "p".into(),
        };
        let config = ControllerConfig { rabbitmq: Some(rabbit), ..ControllerConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
