//! The connection that all calls share: made anew when the agent's credential is, and with its key in every call where
//! there is no TLS.

use super::{
    endpoint,
    tls::{self, AS_AGENT},
};
use crate::{
    credential::{Shown, Wallet},
    link::Error,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Uri, header::AUTHORIZATION, uri::Scheme};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::net::TcpStream;
use tonic::{body::Body, transport::Channel};
use tower::{Service, ServiceExt as _, service_fn};

/// Clones are the same.
#[derive(Clone)]
pub(super) struct Line(Arc<Inner>);

struct Inner {
    wallet: Wallet,
    channel: Mutex<Channel>,
    /// `None`: somebody else made the channel.
    address: Option<Address>,
}

impl Line {
    /// Connects when it is first used.
    pub(super) fn new(address: Address, wallet: Wallet) -> Result<Self, Error> {
        let channel = Mutex::new(address.channel(&wallet)?);
        Ok(Self(Arc::new(Inner { wallet, channel, address: Some(address) })))
    }

    pub(super) fn over(channel: Channel, wallet: Wallet) -> Self {
        Self(Arc::new(Inner { wallet, channel: Mutex::new(channel), address: None }))
    }

    /// Calls from now on go over a new connection, which shows what the wallet has now.
    pub(super) fn anew(&self) -> Result<(), Error> {
        if let Some(address) = &self.0.address {
            let channel = address.channel(&self.0.wallet)?;
            *self.0.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
        }
        Ok(())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("address", &self.0.address).finish_non_exhaustive()
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Each call waits for the connection by itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(credential) = self.0.wallet.now()
            && let Shown::Key(key) = &credential.shown
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {key}"))
        {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let channel = self.0.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        channel.oneshot(request).boxed()
    }
}

/// Where the controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
    pub(super) secure: bool,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Refused(format!("`{url}` is not an address of a controller: {why}"));
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("it begins with https:// or http://")),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { host: host.to_owned(), port, secure })
    }

    fn channel(&self, wallet: &Wallet) -> Result<Channel, Error> {
        let endpoint = endpoint(&self.plain())?;
        if !self.secure {
            return Ok(endpoint.connect_lazy());
        }
        let (address, wallet) = (self.clone(), wallet.clone());
        let connect = move |_: Uri| {
            let (address, wallet) = (address.clone(), wallet.clone());
            async move {
                let credential =
                    wallet.now().ok_or_else(|| io::Error::other("the agent has not joined yet"))?;
                let config = tls::as_agent(&credential).map_err(io::Error::other)?;
                address.tls(config, AS_AGENT).await
            }
        };
        Ok(endpoint.connect_with_connector_lazy(service_fn(connect)))
    }

    /// For one call of somebody who is no agent yet.
    pub(super) async fn once(&self, config: Option<ClientConfig>) -> Result<Channel, Error> {
        let endpoint = endpoint(&self.plain())?;
        let lost = |error: tonic::transport::Error| match causes(&error) {
            why if why.contains(tls::NOT_THE_ONE) => Error::Refused(why),
            why => Error::Unreachable(why),
        };
        let Some(config) = config else { return endpoint.connect().await.map_err(lost) };
        let address = self.clone();
        let connect = move |_: Uri| {
            let (address, config) = (address.clone(), config.clone());
            async move { address.tls(config, tls::AS_NEWCOMER).await }
        };
        endpoint.connect_with_connector(service_fn(connect)).await.map_err(lost)
    }

    async fn tls(
        &self,
        config: ClientConfig,
        name: &'static str,
    ) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(tls::connect(stream, config, name).await?))
    }

    /// TLS is put under it by the connector.
    fn plain(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }
}

/// The last cause says what happened; the others only that something did.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(deeper) = last.source() {
        last = deeper;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_whether_there_is_tls() {
        for (url, host, port, secure) in [
            ("http://127.0.0.1:7420", "127.0.0.1", 7420, false),
            ("https://ship.example:7420/", "ship.example", 7420, true),
            ("https://ship.example", "ship.example", 443, true),
            ("https://[::1]:7420", "[::1]", 7420, true),
        ] {
            let expected = Address { host: host.to_owned(), port, secure };
            assert_eq!(Address::parse(url).unwrap(), expected, "{url}");
        }
        for url in ["", "ship.example:7420", "ftp://ship.example", "https://"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
