//! Who a caller is. Owns tokens: at hand in memory, true in the database. Must never decide what a call
//! needs, which is `api::auth`'s table.

mod caller;
mod error;
mod limits;
mod project;
mod token;

pub use caller::{Caller, Who};
pub use error::{Denied, Error};
pub use limits::{Config, Limits};
pub use project::{ExecPolicy, KleinkramSettings, Project, Quotas, Settings, Weight};
pub use token::Token;

use crate::{jobs::Jobs, store::TokenRow};
use longshore_common::{access::Role, clock::Timestamp, durable, job, shutdown::Shutdown, tasks};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};
use token::Text;

/// What a job belongs to when nobody says otherwise.
pub const DEFAULT_PROJECT: &str = "default";
/// The first token of a cluster, beside its database.
pub const ADMIN_TOKEN: &str = "admin.token";
/// Its name.
const ADMIN: &str = "admin";
/// How exact the last use of a token is.
const USED_EVERY: Duration = Duration::from_secs(60);

/// Tokens and projects. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    jobs: Jobs,
    state: Arc<RwLock<State>>,
    limits: Arc<Limits>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that live, by id.
    tokens: HashMap<String, Arc<TokenRow>>,
    /// Uses that are not in the database yet.
    used: HashMap<String, Timestamp>,
}

impl Identity {
    /// Reads what there is. A cluster without any token gets one for all, in `data_dir`.
    pub async fn start(
        jobs: &Jobs,
        data_dir: &Path,
        config: &Config,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let limits = Arc::new(Limits::new(config));
        let identity = Self { jobs: jobs.clone(), state: Arc::default(), limits };
        let rows = jobs.tokens().await?;
        if rows.is_empty() {
            identity.found(data_dir).await?;
        }
        let live = rows.into_iter().filter(|row| row.revoked_at.is_none());
        identity.write().tokens.extend(live.map(|row| (row.token.id.clone(), Arc::new(row))));
        drop(tasks::spawn("token-uses", identity.clone().note_uses(shutdown)));
        Ok(identity)
    }

    /// In the place of the first token, for whoever has lost it. The file it lies in.
    pub async fn renew_admin(&self, data_dir: &Path) -> Result<PathBuf, Error> {
        match self.revoke_token(ADMIN, None).await {
            Ok(_) | Err(Error::NoToken(_)) => {}
            Err(error) => return Err(error),
        }
        self.found(data_dir).await?;
        Ok(data_dir.join(ADMIN_TOKEN))
    }

    /// The token's text goes to its file first: a crash in between makes another one.
    async fn found(&self, data_dir: &Path) -> Result<(), Error> {
        let (text, row) = token::new(ADMIN.to_owned(), Role::Admin, None, "the first start", None);
        let path = data_dir.join(ADMIN_TOKEN);
        let written = durable::replace_private(&path, format!("{text}\n").as_bytes());
        written.map_err(|error| Error::File { path: path.clone(), message: error.to_string() })?;
        self.keep(row).await?;
        tracing::info!(path = %path.display(), "the first token of this cluster is in this file");
        Ok(())
    }

    /// Whose token this is.
    pub fn authenticate(&self, text: &str) -> Result<Token, Denied> {
        let text = Text::parse(text).ok_or(Denied::NotAToken)?;
        let row = self.read().tokens.get(text.id).cloned();
        // A token that is not there takes as long as a wrong one.
        let digest = row.as_ref().map_or([0; 32], |row| row.digest);
        let same = text.is(&digest);
        let row = row.filter(|_| same).ok_or(Denied::Unknown)?;
        let now = Timestamp::now();
        if row.token.expires_at.is_some_and(|end| end <= now) {
            return Err(Denied::Expired(row.token.name.clone()));
        }
        let last = row.token.used_at;
        if last.is_none_or(|last| now.since(last) >= USED_EVERY) {
            self.write().used.insert(row.token.id.clone(), now);
        }
        Ok(row.token.clone())
    }

    /// Whether a token that was let in would be still.
    pub fn check(&self, token: &Token) -> Result<(), Denied> {
        let row = self.read().tokens.get(&token.id).cloned().ok_or(Denied::Unknown)?;
        if row.token.expires_at.is_some_and(|end| end <= Timestamp::now()) {
            return Err(Denied::Expired(token.name.clone()));
        }
        Ok(())
    }

    /// The token with this id, if it still lets anybody in.
    pub fn standing(&self, id: &str) -> Option<Token> {
        let row = self.read().tokens.get(id).cloned()?;
        row.token.is_live(Timestamp::now()).then(|| row.token.clone())
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A new token and its text, which is nowhere else.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        project: Option<&str>,
        lifetime: Option<Duration>,
        by: &str,
    ) -> Result<(String, Token), Error> {
        job::check_name("name", name).map_err(|error| Error::Invalid(error.to_string()))?;
        if let Some(project) = project {
            self.project(project)?;
        }
        let now = Timestamp::now();
        if self.read().tokens.values().any(|row| row.token.name == name && row.token.is_live(now)) {
            return Err(Error::Taken(name.to_owned()));
        }
        let expires_at = lifetime.map(|lifetime| now.plus(lifetime));
        let (text, row) = token::new(name.to_owned(), role, project.map(str::to_owned), by, expires_at);
        let token = row.token.clone();
        self.keep(row).await?;
        Ok((text, token))
    }

    /// By id or name; `scope`: only those of this project are there.
    pub async fn revoke_token(&self, text: &str, scope: Option<&str>) -> Result<Token, Error> {
        let tokens = self.tokens(scope);
        // Whatever others are called, an id means that one.
        let found = tokens.iter().find(|token| token.id == text);
        let found = found.or_else(|| tokens.iter().find(|token| token.name == text)).cloned();
        let token = found.ok_or_else(|| Error::NoToken(text.to_owned()))?;
        // It ends here at once, whatever the database does next: a revoked token must not be let in.
        let row = self.write().tokens.remove(&token.id);
        let revoked = self.jobs.revoke_token(token.id.clone()).await;
        if let (Err(_), Some(row)) = (&revoked, row) {
            self.write().tokens.insert(token.id.clone(), row);
        }
        revoked?;
        Ok(token)
    }

    /// Those that live, by name.
    pub fn tokens(&self, scope: Option<&str>) -> Vec<Token> {
        let (state, now) = (self.read(), Timestamp::now());
        let live = state.tokens.values().filter(|row| row.token.is_live(now));
        let mine = live.filter(|row| scope.is_none() || row.token.project.as_deref() == scope);
        let mut tokens: Vec<_> = mine
            .map(|row| {
                let used = state.used.get(&row.token.id).copied();
                Token { used_at: used.or(row.token.used_at), ..row.token.clone() }
            })
            .collect();
        tokens.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        tokens
    }

    pub fn project(&self, name: &str) -> Result<Arc<Project>, Error> {
        self.jobs.project(name).ok_or_else(|| Error::NoProject(name.to_owned()))
    }

    /// Makes it, or changes its settings.
    pub async fn put_project(&self, project: Project) -> Result<Arc<Project>, Error> {
        job::check_name("name", &project.name).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(self.jobs.put_project(project).await?)
    }

    async fn keep(&self, row: TokenRow) -> Result<(), Error> {
        self.jobs.put_token(row.clone()).await?;
        self.write().tokens.insert(row.token.id.clone(), Arc::new(row));
        Ok(())
    }

    /// Last uses go to the database now and then: a write per call would cost more than the call.
    async fn note_uses(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(USED_EVERY) => {}
                () = shutdown.triggered() => return,
            }
            self.limits.sweep();
            let used: Vec<_> = self.write().used.drain().collect();
            if used.is_empty() {
                continue;
            }
            if let Err(error) = self.jobs.tokens_used(used.clone()).await {
                tracing::warn!(%error, "last uses of tokens are not noted");
            }
            let mut state = self.write();
            for (id, at) in used {
                if let Some(row) = state.tokens.get_mut(&id) {
                    Arc::make_mut(row).token.used_at = Some(at);
                }
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
