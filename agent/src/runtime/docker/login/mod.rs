//! Credentials for registries: the project's, then the agent's own settings, then what Docker on this node has for
//! them. Knows where each came from, for messages, and shows none of them.

mod file;
mod helper;
#[cfg(test)]
mod tests;

use super::reference::HUB;
use crate::{runtime::config::Config, secrets::RegistryLogin};
use bollard::auth::DockerCredentials;
use std::{fmt, path::PathBuf};

/// What a registry is shown.
#[derive(Default)]
pub(super) struct Found {
    pub(super) credentials: Option<DockerCredentials>,
    /// `the credentials of …`, or that there were none.
    from: String,
    /// Why some that should be there are not.
    trouble: Option<String>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Found {
    fn of(registry: &str, username: &str, password: &str, from: &str) -> Self {
        let credentials = DockerCredentials {
            username: Some(username.to_owned()),
            password: Some(password.to_owned()),
            serveraddress: Some(registry.to_owned()),
            ..Default::default()
        };
        Self { credentials: Some(credentials), from: from.to_owned(), trouble: None }
    }

    /// What was shown, for whom the registry refused it.
    pub(super) fn story(&self) -> String {
        let trouble = self.trouble.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        format!("{}{trouble}", self.from)
    }
}

/// The project's, if it has some: then the node's own are not shown. Read at every pull, so that a login takes effect
/// without a restart.
pub(super) async fn of(registry: &str, project: Option<&RegistryLogin>, config: &Config) -> Found {
    if let Some(login) = project.filter(|login| login.host == registry) {
        let password = String::from_utf8_lossy(login.password.bytes());
        return Found::of(registry, &login.username, &password, "the project's credentials");
    }
    if let Some(login) = config.registries.iter().find(|login| login.registry == registry) {
        let from = "the credentials of runtime.registries on this node";
        return Found::of(registry, &login.username, &login.password, from);
    }
    docker(registry, config.docker_config.clone().unwrap_or_else(usual_file)).await
}

/// What Docker's own configuration has: the registry's helper, the helper of all, then the file itself.
async fn docker(registry: &str, path: PathBuf) -> Found {
    let nothing = Found { from: format!("no credentials (none in {})", path.display()), ..Found::default() };
    let text = match tokio::fs::read_to_string(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return nothing,
        Err(error) => return Found { trouble: Some(format!("{}: {error}", path.display())), ..nothing },
    };
    let file = match file::read(&text) {
        Ok(file) => file,
        Err(error) => return Found { trouble: Some(format!("{}: {error}", path.display())), ..nothing },
    };
    let mut trouble = None;
    if let Some(name) = file.helper(registry) {
        match helper::ask(name, file::key(registry), helper::PATIENCE).await {
            Ok(Some(credentials)) => {
                let from = format!("the credentials of docker-credential-{name}");
                let credentials = Some(credentials.into_docker(registry));
                return Found { credentials, from, trouble: None };
            }
            Ok(None) => {}
            Err(why) => trouble = Some(why.to_string()),
        }
    }
    match file.login(registry) {
        Some(credentials) => {
            let from = format!("the credentials of {}", path.display());
            Found { credentials: Some(credentials), from, trouble }
        }
        None => Found { trouble, ..nothing },
    }
}

/// As the docker command finds it; a service of systemd has no home.
fn usual_file() -> PathBuf {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker");
    folder.unwrap_or_else(home).join("config.json")
}
