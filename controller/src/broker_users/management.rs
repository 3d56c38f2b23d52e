//! The calls to RabbitMQ's management plugin that users and permissions take. Knows no agent.

use super::Error;
use reqwest::{Client, Method, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// One call: a broker that takes longer is ill.
const CALL: Duration = Duration::from_secs(5);

pub(super) struct Management {
    client: Client,
    base: Url,
    user: String,
    password: Zeroizing<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    #[serde(default)]
    pub(super) password_hash: Option<String>,
    /// A list, or words with commas; it depends on the version.
    #[serde(default)]
    tags: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Permission {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

impl User {
    pub(super) fn has_tags(&self) -> bool {
        match &self.tags {
            Value::String(words) => !words.is_empty(),
            Value::Array(words) => !words.is_empty(),
            _ => false,
        }
    }
}

impl Management {
    /// `url` may bring a user; otherwise it is `login`.
    pub(super) fn new(url: &Url, login: (String, String)) -> Result<Self, Error> {
        let wrong = || {
            Error::Setting(
                "rabbitmq.management_url must look like https://user:password@host:15671".to_owned(),
            )
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong());
        }
        let (user, password) = match super::login(url) {
            Some(own) => own,
            None => login,
        };
        let mut base = url.clone();
        base.set_username("").and_then(|()| base.set_password(None)).map_err(|()| wrong())?;
        base.set_query(None);
        let client = Client::builder().timeout(CALL).build();
        let client = client.map_err(|error| Error::Setting(format!("no HTTP client: {error}")))?;
        Ok(Self { client, base, user, password: Zeroizing::new(password) })
    }

    /// For people: without the password.
    pub(super) fn place(&self) -> &str {
        self.base.as_str()
    }

    pub(super) async fn users(&self) -> Result<Vec<User>, Error> {
        Ok(self.read(&["users"]).await?.unwrap_or_default())
    }

    pub(super) async fn user(&self, name: &str) -> Result<Option<User>, Error> {
        self.read(&["users", name]).await
    }

    pub(super) async fn permissions(&self) -> Result<Vec<Permission>, Error> {
        Ok(self.read(&["permissions"]).await?.unwrap_or_default())
    }

    pub(super) async fn permissions_of(&self, user: &str) -> Result<Vec<Permission>, Error> {
        Ok(self.read(&["users", user, "permissions"]).await?.unwrap_or_default())
    }

    /// May log in, and nothing else until it is permitted.
    pub(super) async fn put_user(&self, name: &str, hash: &str) -> Result<(), Error> {
        let body = json!({
            "password_hash": hash,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        });
        self.call(Method::PUT, &["users", name], Some(&body)).await.map(drop)
    }

    /// May read what matches, and neither make nor write anything.
    pub(super) async fn permit(&self, vhost: &str, user: &str, read: &str) -> Result<(), Error> {
        let body = json!({ "configure": "^$", "write": "^$", "read": read });
        self.call(Method::PUT, &["permissions", vhost, user], Some(&body)).await.map(drop)
    }

    pub(super) async fn forbid(&self, vhost: &str, user: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["permissions", vhost, user], None).await.map(drop)
    }

    /// The broker closes its connections too.
    pub(super) async fn delete_user(&self, name: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["users", name], None).await.map(drop)
    }

    /// `None`: there is no such thing.
    async fn read<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, Error> {
        let Some(text) = self.call(Method::GET, path, None).await? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| self.refused(format!("answers what cannot be read: {error}")))
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Option<String>, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| self.refused("is no address that has a path".to_owned()))?
            .pop_if_empty()
            .push("api")
            .extend(path);
        let mut request =
            self.client.request(method, url).basic_auth(&self.user, Some(self.password.as_str()));
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unreachable(&error))?;
        match status {
            status if status.is_success() => Ok(Some(text)),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.refused(format!("refuses user `{}`: it needs the tag `administrator`", self.user)))
            }
            status if status.is_server_error() => Err(self.away(format!("answered {status}"))),
            status => Err(self.refused(format!("answered {status}: {}", shortened(&text)))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut last: &dyn std::error::Error = error;
        while let Some(deeper) = last.source() {
            last = deeper;
        }
        self.away(last.to_string())
    }

    fn away(&self, why: String) -> Error {
        Error::Unreachable(self.place().to_owned(), why)
    }

    fn refused(&self, why: String) -> Error {
        Error::Refused(self.place().to_owned(), why)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
