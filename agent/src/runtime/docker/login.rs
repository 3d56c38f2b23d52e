//! Credentials for registries: the agent's own, then those that `docker login` left for its user. Credential
//! helpers are not run.

use super::reference::HUB;
use crate::{runtime::config::Login, secrets::RegistryLogin};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// The key under which `docker login` keeps Docker Hub's.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The project's, if it has some: then the node's own are not shown.
pub(super) fn of(
    registry: &str,
    project: Option<&RegistryLogin>,
    logins: &[Login],
) -> Option<DockerCredentials> {
    let own = project.filter(|login| login.host == registry).map(|login| DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(String::from_utf8_lossy(login.password.bytes()).into_owned()),
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    });
    own.or_else(|| credentials(registry, logins))
}

/// Read at every pull, so that a login takes effect without a restart.
fn credentials(registry: &str, logins: &[Login]) -> Option<DockerCredentials> {
    let own = logins.iter().find(|login| login.registry == registry).map(|login| DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    });
    own.or_else(|| from_file(registry, &std::fs::read_to_string(config_file()?).ok()?))
}

fn config_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    Some(folder.or_else(home)?.join("config.json"))
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

fn from_file(registry: &str, text: &str) -> Option<DockerCredentials> {
    let mut file: File = serde_json::from_str(text).ok()?;
    let keys = [registry.to_owned(), format!("https://{registry}"), HUB_KEY.to_owned()];
    let keys = if registry == HUB { &keys[..] } else { &keys[..2] };
    let auth = keys.iter().find_map(|key| file.auths.remove(key))?;
    if auth.auth.is_none() && auth.identitytoken.is_none() {
        return None;
    }
    let decoded = auth.auth.as_deref().and_then(decode);
    let (username, password) = decoded.unzip();
    Some(DockerCredentials {
        username,
        // A token stands in for the password.
        password: password.filter(|_| auth.identitytoken.is_none()),
        identitytoken: auth.identitytoken,
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    })
}

fn decode(auth: &str) -> Option<(String, String)> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths": {
        "registry.example:5000": {"auth": "YW5uYTpzZTpjcmV0"},
        "https://index.docker.io/v1/": {"auth": "YW5uYTpodWI="},
        "empty.example": {}
    }, "credsStore": "pass"}"#;

    #[test]
    fn a_docker_login_serves() {
        let found = from_file("registry.example:5000", FILE).expect("there");
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("anna"), Some("se:cret")));
        assert_eq!(from_file(HUB, FILE).expect("there").password.as_deref(), Some("hub"));
        assert_eq!(from_file("empty.example", FILE), None);
        assert_eq!(from_file("other.example", FILE), None);
    }

    #[test]
    fn the_agents_own_comes_first() {
        let logins =
            [Login { registry: "r".to_owned(), username: "bot".to_owned(), password: "x".to_owned() }];
        assert_eq!(credentials("r", &logins).expect("there").username.as_deref(), Some("bot"));
    }
}
