//! The controller as the commands see it: one connection, and refusals as sentences.

use crate::failure::Failure;
use longshore_common::{retry::Backoff, wire::status::Refusal};
use longshore_proto::v1::{
    agents_client::AgentsClient, cluster_client::ClusterClient, jobs_client::JobsClient,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{error::Error as _, future::Future, sync::Arc, time::Duration};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Where a controller listens if nothing else is said.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:7420";
/// A page of a thousand jobs with long specs.
const LARGEST_ANSWER: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// Calls that matter are tried this often before the person is told.
const TRIES: u32 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
    url: String,
    project: String,
    link: Arc<Link>,
}

/// Whether the person was told that the link is lost; several calls find out at once.
#[derive(Debug, Default)]
pub(crate) struct Link {
    lost: AtomicBool,
}

impl Link {
    pub(crate) fn is_newly_lost(&self) -> bool {
        !self.lost.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_back(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}

impl Client {
    /// Connects when it is first used.
    pub(crate) fn new(url: &str, project: &str) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("`{url}` is not the address of a controller like {DEFAULT_URL}: {why}"))
        };
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error))?;
        if parsed.scheme() != "http" {
            return Err(wrong(&"only http:// is available in this version"));
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(&error))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        let (url, project) = (url.to_owned(), project.to_owned());
        Ok(Self { channel: endpoint.connect_lazy(), url, project, link: Arc::default() })
    }

    pub(crate) fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn agents(&self) -> AgentsClient<Channel> {
        AgentsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    /// The answer, or the refusal as a sentence.
    pub(crate) async fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        call.await.map(Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// The same for calls that may be repeated: a link that breaks is tried again, a few times.
    pub(crate) async fn ask_again<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for _ in 1..TRIES {
            match call().await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if is_lost(&status) => backoff.wait().await,
                Err(status) => return Err(self.failure(&status)),
            }
        }
        self.ask(call()).await
    }

    pub(crate) fn failure(&self, status: &Status) -> Failure {
        if is_lost(status) {
            return Failure::new(format!(
                "the controller at {} does not answer ({}). Start one with `longshore dev`, or say where one is \
                 with --url or LONGSHORE_URL",
                self.url,
                root_cause(status)
            ));
        }
        let refusal = Refusal::from(status);
        let lines: Vec<_> = refusal.fields.iter().map(ToString::to_string).collect();
        let message = if lines.is_empty() { refusal.message } else { lines.join("\n") };
        match refusal.code {
            Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange => Failure::usage(message),
            Code::Unimplemented => {
                Failure::new(format!("the controller at {} does not know this call: {message}", self.url))
            }
            _ => Failure::new(message),
        }
    }
}

/// Whether the link broke, as opposed to an answer nobody likes.
pub(crate) fn is_lost(status: &Status) -> bool {
    status.code() == Code::Unavailable || status.source().is_some()
}

fn root_cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| status.message().to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_none_are_refused() {
        for url in ["", "localhost:7420", "ftp://x", "https://x:1"] {
            assert_eq!(Client::new(url, "default").err().map(|failure| failure.code), Some(Some(2)), "{url}");
        }
    }

    #[tokio::test]
    async fn a_controller_that_is_not_there_says_what_to_do() {
        let client = Client::new("http://127.0.0.1:1", "default").expect("an address");
        let call = client.cluster().status(longshore_proto::v1::StatusRequest {}).await.map(drop);
        let failure = client.failure(&call.expect_err("nobody listens on port 1"));
        assert_eq!(failure.code, None);
        assert!(failure.message.contains("http://127.0.0.1:1") && failure.message.contains("longshore dev"));
    }

    #[tokio::test]
    async fn every_wrong_field_is_a_line() {
        let client = Client::new(DEFAULT_URL, "default").expect("an address");
        let mut fields = longshore_common::fields::FieldErrors::new();
        fields.push("image", "is empty");
        fields.push("pool", "is odd");
        let failure = client.failure(&Refusal::invalid(fields).into());
        assert_eq!(failure, Failure::usage("image: is empty\npool: is odd"));
    }
}
