//! Docker's `config.json`, as far as it is about registries.

use super::HUB;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The key under which Docker keeps its own registry's.
const HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The error names a place in the file and nothing of it.
pub(super) fn read(text: &str) -> Result<File, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("cannot be read at line {}, column {}", error.line(), error.column()))
}

/// What helpers know this registry as.
pub(super) fn key(registry: &str) -> &str {
    if registry == HUB { HUB_KEY } else { registry }
}

impl File {
    /// The helper that is asked for this registry: its own, or that of all.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = names(registry).into_iter().find_map(|name| self.helpers.get(&name));
        own.or(self.store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Of the file itself.
    pub(super) fn login(&self, registry: &str) -> Option<DockerCredentials> {
        let auth = names(registry).into_iter().find_map(|name| self.auths.get(&name))?;
        if auth.auth.is_none() && auth.identitytoken.is_none() {
            return None;
        }
        let (username, password) = auth.auth.as_deref().and_then(decode).unzip();
        Some(DockerCredentials {
            username,
            // A token stands in for the password.
            password: password.filter(|_| auth.identitytoken.is_none()),
            identitytoken: auth.identitytoken.clone(),
            serveraddress: Some(registry.to_owned()),
            ..Default::default()
        })
    }
}

/// What a registry may be called in the file.
fn names(registry: &str) -> Vec<String> {
    let mut names = vec![registry.to_owned(), format!("https://{registry}")];
    if registry == HUB {
        names.extend([HUB_KEY, "index.docker.io"].map(str::to_owned));
    }
    names
}

fn decode(auth: &str) -> Option<(String, String)> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth).ok()?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}
