//! The controller as the commands see it: one connection, and refusals as sentences.

use crate::contexts::Target;
use crate::failure::Failure;
use longshore_common::{
    retry::Backoff,
    wire::{Credentials, status::Refusal},
};
use longshore_proto::v1::{
    access_client::AccessClient, actions_client::ActionsClient, agents_client::AgentsClient,
    batches_client::BatchesClient, cluster_client::ClusterClient, jobs_client::JobsClient,
    projects_client::ProjectsClient, triggers_client::TriggersClient,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{error::Error as _, future::Future, sync::Arc, time::Duration};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Response, Status};

/// Where a controller listens if nothing else is said.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:7420";
/// A page of a thousand jobs with long specs.
const LARGEST_ANSWER: usize = 64 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// Calls that matter are tried this often before the person is told.
const TRIES: u32 = 3;

/// A connection that shows a token with every call.
pub(crate) type Authorized = InterceptedService<Channel, Credentials>;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Authorized,
    url: String,
    project: String,
    ca: Option<String>,
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
    pub(crate) fn new(target: &Target) -> Result<Self, Failure> {
        let Target { url, token, project, ca, plain_text } = target;
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("`{url}` is not the address of a controller like {DEFAULT_URL}: {why}"))
        };
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error))?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(wrong(&"it begins with http:// or https://"));
        }
        if parsed.scheme() == "http" && !token.is_empty() && !plain_text && !is_this_machine(&parsed) {
            return Err(Failure::usage(format!(
                "{url} is another machine without TLS: everybody on the way could read the token. Write https:// \
                 (--ca-file for a controller's own authority), or add --plain-text (LONGSHORE_PLAIN_TEXT=1) to show it"
            )));
        }
        let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| wrong(&error))?;
        if parsed.scheme() == "https" {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(ca) = ca {
                tls = tls.ca_certificate(Certificate::from_pem(ca));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
        }
        let credentials = Credentials::new(token, project)
            .map_err(|error| Failure::usage(format!("the token or the project {error}")))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        let channel = InterceptedService::new(endpoint.connect_lazy(), credentials);
        let (url, project, ca) = (url.clone(), project.clone(), ca.clone());
        Ok(Self { channel, url, project, ca, link: Arc::default() })
    }

    pub(crate) fn jobs(&self) -> JobsClient<Authorized> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn actions(&self) -> ActionsClient<Authorized> {
        ActionsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn batches(&self) -> BatchesClient<Authorized> {
        BatchesClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn agents(&self) -> AgentsClient<Authorized> {
        AgentsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Authorized> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn access(&self) -> AccessClient<Authorized> {
        AccessClient::new(self.channel.clone())
    }

    pub(crate) fn projects(&self) -> ProjectsClient<Authorized> {
        ProjectsClient::new(self.channel.clone())
    }

    pub(crate) fn triggers(&self) -> TriggersClient<Authorized> {
        TriggersClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// An authority of the controller's own, for bytes that it serves.
    pub(crate) fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
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

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
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

    fn target(url: &str) -> Target {
        Target { url: url.to_owned(), ..Target::default() }
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for url in ["", "localhost:7420", "ftp://x", "https://"] {
            assert_eq!(Client::new(&target(url)).err().map(|failure| failure.code), Some(Some(2)), "{url}");
        }
    }

    #[tokio::test]
    async fn a_token_goes_to_another_machine_under_tls_alone() {
        let refusal = |url: &str, token: &str, plain_text| {
            let target = Target { token: token.to_owned(), plain_text, ..target(url) };
            Client::new(&target).err().map(|failure| failure.message)
        };
        for url in ["http://10.0.0.1:7420", "http://lab:7420", "http://localhost.lab", "http://[fd00::1]"] {
            let said = refusal(url, "t", false).expect("refused");
            assert!(said.contains("--plain-text") && said.contains("https://"), "{said}");
            assert_eq!(refusal(url, "", false), None, "there is nothing to read");
            assert_eq!(refusal(url, "t", true), None, "the person said so");
        }
        for url in [DEFAULT_URL, "http://localhost:7420", "http://127.1.2.3", "http://[::1]:7420"] {
            assert_eq!(refusal(url, "t", false), None, "{url}");
        }
    }

    #[tokio::test]
    async fn a_controller_that_is_not_there_says_what_to_do() {
        let client = Client::new(&target("http://127.0.0.1:1")).expect("an address");
        let call = client.cluster().status(longshore_proto::v1::StatusRequest {}).await.map(drop);
        let failure = client.failure(&call.expect_err("nobody listens on port 1"));
        assert_eq!(failure.code, None);
        assert!(failure.message.contains("http://127.0.0.1:1") && failure.message.contains("longshore dev"));
    }

    #[tokio::test]
    async fn every_wrong_field_is_a_line() {
        let client = Client::new(&target(DEFAULT_URL)).expect("an address");
        let mut fields = longshore_common::fields::FieldErrors::new();
        fields.push("image", "is empty");
        fields.push("pool", "is odd");
        let failure = client.failure(&Refusal::invalid(fields).into());
        assert_eq!(failure, Failure::usage("image: is empty\npool: is odd"));
    }
}
