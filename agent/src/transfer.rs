//! The HTTP client for the bytes of artifacts and inputs, and how an answer that is no success reads. Knows nothing
//! of attempts; `artifacts` and `inputs` decide what to try again.

pub(crate) mod wall;

use crate::credential::Authorities;
use reqwest::{Certificate, Client, Response, StatusCode, redirect};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
pub(crate) use wall::Wall;

/// Longer than any healthy store takes to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// A peer that does not take bytes for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How much of an answer's body can help to understand it.
const BODY_SHOWN: usize = 2048;

/// A client that trusts the controller's authorities too, made anew when they change. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// Around what jobs name; `None`: the controller signs every address.
    wall: Option<Wall>,
    authorities: Authorities,
    made: Arc<Mutex<(String, Client)>>,
}

impl Clients {
    pub(crate) fn new(wall: Option<Wall>, authorities: &Authorities) -> Result<Self, reqwest::Error> {
        let pem = authorities.now();
        let client = client(wall.as_ref(), &pem)?;
        let made = Arc::new(Mutex::new((pem, client)));
        Ok(Self { wall, authorities: authorities.clone(), made })
    }

    pub(crate) fn now(&self) -> Client {
        let pem = self.authorities.now();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != pem {
            match client(self.wall.as_ref(), &pem) {
                Ok(client) => *made = (pem, client),
                Err(err) => tracing::error!(error = text(&err), "the new authorities are not trusted"),
            }
        }
        made.1.clone()
    }
}

/// Keeps connections. On a machine without root certificates it still speaks plain `http`, and to the controller.
fn client(wall: Option<&Wall>, authorities: &str) -> Result<Client, reqwest::Error> {
    let own = Certificate::from_pem_bundle(authorities.as_bytes())?;
    let builder = || {
        let builder = match wall {
            Some(wall) => Client::builder().redirect(wall.redirects()).dns_resolver(wall.clone()),
            None => Client::builder().redirect(redirect::Policy::none()),
        };
        builder
            .tls_certs_merge(own.clone())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .tcp_user_timeout(SILENCE)
            .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
    };
    builder().build().or_else(|err| {
        tracing::warn!(error = text(&err), "no root certificates: transfers over https will fail");
        builder().tls_certs_only(own.clone()).build()
    })
}

/// What the other side said: status, and the code and message of an S3 error or the beginning of the body.
pub(crate) async fn refusal(mut response: Response) -> (StatusCode, String) {
    let status = response.status();
    let mut body = Vec::new();
    while body.len() < BODY_SHOWN {
        match tokio::time::timeout(CONNECT, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(BODY_SHOWN);
    let said = explain(&String::from_utf8_lossy(&body));
    (
        status,
        if said.is_empty() { format!("answered {status}") } else { format!("answered {status}: {said}") },
    )
}

/// An error of the client with its causes and without the address, which carries a signature.
pub(crate) fn text(err: &reqwest::Error) -> String {
    let mut text = if err.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(err);
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { "the request failed".to_owned() } else { text }
}

fn explain(body: &str) -> String {
    let element = |name: &str| {
        let (_, after) = body.split_once(&format!("<{name}>"))?;
        after.split_once(&format!("</{name}>")).map(|(text, _)| text.trim().to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => body.split_whitespace().take(30).collect::<Vec<_>>().join(" ").chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_s3_reads_as_code_and_message() {
        let body = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The bucket does not \
                    exist</Message><Key>k</Key></Error>";
        assert_eq!(explain(body), "NoSuchBucket: The bucket does not exist");
        assert_eq!(explain("no space left\non device\n"), "no space left on device");
    }
}
