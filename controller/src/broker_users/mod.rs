//! A broker user for every agent, which may read the lanes of its pool and nothing else: made when the agent links,
//! another one when it joins anew, gone when it is removed. Passwords are derived with the key of the secrets, so that
//! nothing stored tells them and every controller of the cluster says the same. Must never show one to anybody but its
//! agent.

mod management;
#[cfg(test)]
mod tests;

use crate::{
    config::RabbitConfig,
    jobs::Jobs,
    secrets::{self, Secrets},
    store::{self, Store},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use longshore_common::{
    ids::AgentId,
    queue::{self, Lane, rabbit::Broker},
};
use management::{Management, Permission, User};
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use url::Url;
use zeroize::Zeroizing;

/// An agent is welcomed after this, whether its user is there or not: it tries on until it is.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Setting(String),
    #[error("the broker's management API at {0} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("the broker's management API at {0} {1}")]
    Refused(String, String),
    #[error(transparent)]
    Queue(#[from] queue::Error),
    #[error(transparent)]
    Secrets(#[from] secrets::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Setting(_) | Self::Refused(..) => false,
            Self::Unreachable(..) => true,
            Self::Queue(error) => error.is_transient(),
            Self::Secrets(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct BrokerUsers(Arc<Inner>);

struct Inner {
    management: Management,
    broker: Broker,
    /// The agents' address of the broker; its user is replaced.
    url: Url,
    /// Before every user's name.
    prefix: String,
    store: Store,
    jobs: Jobs,
    secrets: Secrets,
    /// What the broker was last seen to have.
    settled: Mutex<HashMap<AgentId, Account>>,
    /// Why the last look at the broker failed.
    ill: Mutex<Option<String>>,
    /// One change of the broker at a time: an old list must not undo a newer wish.
    turn: tokio::sync::Mutex<()>,
    nudge: Notify,
}

/// What an agent's user should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    hash: String,
    read: String,
}

impl fmt::Debug for BrokerUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerUsers").field("place", &self.0.management.place()).finish_non_exhaustive()
    }
}

impl BrokerUsers {
    /// `None`: the operator did not give the management API. Makes no call.
    pub(crate) fn open(
        config: &RabbitConfig,
        store: &Store,
        jobs: &Jobs,
        secrets: &Secrets,
    ) -> Result<Option<Self>, Error> {
        let Some(management) = &config.management_url else { return Ok(None) };
        let broker = Broker::new(config.for_agents(), &config.prefix)?;
        let address = |text: &str| {
            Url::parse(text).map_err(|_| Error::Setting("rabbitmq.url is no address".to_owned()))
        };
        let (own, url) = (address(&config.url)?, address(config.for_agents())?);
        let guest = || ("guest".to_owned(), "guest".to_owned());
        let management = Management::new(management, login(&own).unwrap_or_else(guest))?;
        let (cluster, _) = jobs.cluster();
        Ok(Some(Self(Arc::new(Inner {
            management,
            broker,
            url,
            prefix: format!("longshore.{cluster}."),
            store: store.clone(),
            jobs: jobs.clone(),
            secrets: secrets.clone(),
            settled: Mutex::default(),
            ill: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            nudge: Notify::new(),
        }))))
    }

    /// The agent's own address of the broker. Its user is there, or soon will be: a broker whose management does not
    /// answer keeps no agent away.
    pub(crate) async fn access(&self, agent: AgentId, lanes: &[Lane]) -> Result<String, Error> {
        let mut tx = self.0.store.begin().await?;
        let salt = tx.broker_salt(agent, rand::random()).await?;
        tx.commit().await?;
        let password = self.password(agent, &salt).await?;
        let account = self.account(agent, &password, lanes);
        if !matches!(tokio::time::timeout(PATIENCE, self.settle(agent, &account)).await, Ok(Ok(()))) {
            // It tells why.
            self.0.nudge.notify_one();
        }
        let mut url = self.0.url.clone();
        let wrong = |()| Error::Setting("the agents' address of the broker takes no user".to_owned());
        url.set_username(&account.name).map_err(wrong)?;
        url.set_password(Some(&password)).map_err(wrong)?;
        Ok(url.into())
    }

    /// It cannot log in any more, and its connections end. What fails now is done by the next look.
    pub(crate) async fn remove(&self, agent: AgentId) {
        let removing = async {
            let _turn = self.0.turn.lock().await;
            self.settled().remove(&agent);
            self.0.management.delete_user(&self.name(agent)).await
        };
        match tokio::time::timeout(PATIENCE, removing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(agent.id = %agent, %error, "a removed agent has its broker user still; trying on");
                self.0.nudge.notify_one();
            }
            Err(_) => self.0.nudge.notify_one(),
        }
    }

    /// Brings the broker to what should be.
    pub async fn sweep(&self) -> Result<(), Error> {
        let result = self.look().await;
        let told = result.as_ref().err().map(ToString::to_string);
        *self.0.ill.lock().unwrap_or_else(PoisonError::into_inner) = told;
        result
    }

    /// Returns when looking again is worth it. Cancel-safe.
    pub(crate) async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// As the last look found it.
    pub fn health(&self) -> Result<String, String> {
        match self.0.ill.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(error) => Err(error),
            None => Ok(format!("{} at {}", self.settled().len(), self.0.management.place())),
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let _turn = self.0.turn.lock().await;
        let mine = |name: &str| name.starts_with(&self.0.prefix);
        let mut users: HashMap<String, User> = HashMap::new();
        for user in self.0.management.users().await?.into_iter().filter(|user| mine(&user.name)) {
            users.insert(user.name.clone(), user);
        }
        let mut permissions: HashMap<String, Vec<Permission>> = HashMap::new();
        for permission in self.0.management.permissions().await?.into_iter().filter(|p| mine(&p.user)) {
            permissions.entry(permission.user.clone()).or_default().push(permission);
        }
        let wanted = self.wanted().await?;
        let names: Vec<&str> = wanted.values().map(|account| account.name.as_str()).collect();
        for name in users.keys().filter(|name| !names.contains(&name.as_str())) {
            self.0.management.delete_user(name).await?;
            tracing::info!(user = name, "broker user of an agent that is none removed");
        }
        for (agent, account) in &wanted {
            let (user, may) = (users.get(&account.name), permissions.get(&account.name));
            self.mend(account, user, may.map_or(&[][..], Vec::as_slice)).await?;
            self.settled().insert(*agent, account.clone());
        }
        self.settled().retain(|agent, _| wanted.contains_key(agent));
        Ok(())
    }

    /// Of all agents that have linked since they joined.
    async fn wanted(&self) -> Result<HashMap<AgentId, Account>, Error> {
        let salts = self.0.store.broker_salts().await?;
        let mut wanted = HashMap::new();
        for view in self.0.jobs.agents() {
            let agent = view.identity.id;
            if let Some(salt) = salts.get(&agent) {
                let password = self.password(agent, salt).await?;
                let lanes = Lane::of_pool(&view.identity.pool);
                wanted.insert(agent, self.account(agent, &password, &lanes));
            }
        }
        Ok(wanted)
    }

    async fn settle(&self, agent: AgentId, account: &Account) -> Result<(), Error> {
        if self.settled().get(&agent) == Some(account) {
            return Ok(());
        }
        let _turn = self.0.turn.lock().await;
        let user = self.0.management.user(&account.name).await?;
        let may = match user {
            Some(_) => self.0.management.permissions_of(&account.name).await?,
            None => Vec::new(),
        };
        self.mend(account, user.as_ref(), &may).await?;
        self.settled().insert(agent, account.clone());
        Ok(())
    }

    async fn mend(&self, account: &Account, user: Option<&User>, may: &[Permission]) -> Result<(), Error> {
        let (management, vhost) = (&self.0.management, self.0.broker.vhost());
        let as_is = user.is_some_and(|user| account.is(user));
        if !as_is {
            if user.is_some() {
                // Not changed but made anew: connections under the old password end.
                management.delete_user(&account.name).await?;
            }
            management.put_user(&account.name, &account.hash).await?;
        }
        let mut permitted = false;
        for permission in may.iter().filter(|_| as_is) {
            if permission.vhost == vhost {
                permitted = account.may(permission);
            } else {
                management.forbid(&permission.vhost, &account.name).await?;
            }
        }
        if !permitted {
            management.permit(vhost, &account.name, &account.read).await?;
        }
        Ok(())
    }

    async fn password(&self, agent: AgentId, salt: &[u8]) -> Result<Zeroizing<String>, Error> {
        let purpose = [b"broker user\0".as_slice(), agent.as_bytes(), salt].concat();
        Ok(self.0.secrets.derive(&purpose).await?)
    }

    fn account(&self, agent: AgentId, password: &str, lanes: &[Lane]) -> Account {
        Account { name: self.name(agent), hash: hash(password), read: self.0.broker.pattern(lanes) }
    }

    fn name(&self, agent: AgentId) -> String {
        format!("{}{agent}", self.0.prefix)
    }

    fn settled(&self) -> MutexGuard<'_, HashMap<AgentId, Account>> {
        self.0.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// A version that does not tell the hash is believed.
    fn is(&self, user: &User) -> bool {
        user.password_hash.as_ref().is_none_or(|hash| *hash == self.hash) && !user.has_tags()
    }

    fn may(&self, permission: &Permission) -> bool {
        permission.read == self.read && permission.write == "^$" && permission.configure == "^$"
    }
}

/// The salt comes of the password, which is random already, so that equal ones are seen as such.
fn hash(password: &str) -> String {
    salted(&Sha256::digest(password)[..4], password)
}

/// As RabbitMQ keeps it.
fn salted(salt: &[u8], password: &str) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    STANDARD.encode([salt, &digest[..]].concat())
}

/// User and password of an address, as they are meant.
fn login(url: &Url) -> Option<(String, String)> {
    if url.username().is_empty() {
        return None;
    }
    let text = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    Some((text(url.username()), text(url.password().unwrap_or_default())))
}
