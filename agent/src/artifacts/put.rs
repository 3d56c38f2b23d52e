//! Bytes of one file to its signed addresses, once: a single PUT or parts side by side. Says what went wrong; when
//! to try again is `upload`'s to decide, except that a part is tried again alone.

use super::source::{Sha, Source};
use crate::{
    credential::Authorities,
    transfer::{self, Clients},
};
use futures::{StreamExt as _, TryStreamExt as _};
use longshore_common::{artifact::UploadTarget, retry::Backoff};
use reqwest::{Body, StatusCode, header};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

/// What an answer may take beside the bytes.
const ANSWER: Duration = Duration::from_secs(60);
/// A connection slower than this is dead.
const LEAST_RATE: u64 = 32 << 10;
/// Tries of one part before the whole file starts over with new addresses.
const PART_TRIES: u32 = 8;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It refused: new addresses may help.
    #[error("the store {0}")]
    Refused(String),
    /// The way to it, or its health: the same request may pass later.
    #[error("the store {0}")]
    Passing(String),
    #[error("the file changed while it was read")]
    Changed,
    #[error("the file cannot be read: {0}")]
    Read(std::io::Error),
}

/// Stored bytes, and what completes a multipart upload.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) sha256: Sha,
    pub(super) etags: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Putter {
    clients: Clients,
    connections: Arc<Semaphore>,
    parts_at_once: usize,
}

impl Putter {
    pub(super) fn new(config: &super::Config, authorities: &Authorities) -> Result<Self, reqwest::Error> {
        Ok(Self {
            // A signature is for one address: a store that redirects is misconfigured, and says so.
            clients: Clients::new(None, authorities)?,
            connections: Arc::new(Semaphore::new(config.connections.max(1))),
            parts_at_once: config.parts_at_once.max(1),
        })
    }

    pub(super) async fn put(&self, source: &Source, target: &UploadTarget) -> Result<Stored, Error> {
        if target.upload_id.is_some() {
            return self.put_parts(source, target).await;
        }
        let url = target.urls.first().ok_or_else(|| no_address(0))?;
        if let Some((bytes, sha256)) = &source.whole {
            let _permit = self.permit().await;
            self.send(url, source.size, Body::from(bytes.clone())).await?;
            return Ok(Stored { sha256: *sha256, etags: Vec::new() });
        }
        let (_, sha256) = self.put_range(source, url, 0, source.size).await?;
        Ok(Stored { sha256, etags: Vec::new() })
    }

    async fn put_parts(&self, source: &Source, target: &UploadTarget) -> Result<Stored, Error> {
        let digest = source.digest();
        let size = target.part_size.max(1);
        let parts = source.size.div_ceil(size).max(1);
        let part = |number: u64| async move {
            let url = usize::try_from(number).ok().and_then(|at| target.urls.get(at));
            let from = number * size;
            let url = url.ok_or_else(|| no_address(number))?;
            self.put_part(source, url, from, size.min(source.size - from)).await
        };
        let etags = futures::stream::iter(0..parts)
            .map(part)
            .buffered(self.parts_at_once)
            .try_collect::<Vec<_>>()
            .await?;
        let sha256 = digest.await.map_err(|_| Error::Changed)?.map_err(read_error)?;
        if source.is_unchanged() { Ok(Stored { sha256, etags }) } else { Err(Error::Changed) }
    }

    async fn put_part(&self, source: &Source, url: &str, from: u64, length: u64) -> Result<String, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut tries = 1;
        loop {
            match self.put_range(source, url, from, length).await {
                Ok((Some(etag), _)) => return Ok(etag),
                Ok((None, _)) => return Err(Error::Refused("stored a part and gave no ETag".to_owned())),
                Err(Error::Passing(_)) if tries < PART_TRIES => {
                    tries += 1;
                    backoff.wait().await;
                }
                Err(err) => return Err(err),
            }
        }
    }

    async fn put_range(
        &self,
        source: &Source,
        url: &str,
        from: u64,
        length: u64,
    ) -> Result<(Option<String>, Sha), Error> {
        // Before the reading starts: readers that wait for a connection would keep threads from those that have one.
        let _permit = self.permit().await;
        let (pieces, reading) = source.stream(from, length);
        match self.send(url, length, Body::wrap_stream(ReceiverStream::new(pieces))).await {
            Ok(etag) => Ok((etag, reading.digest().await.map_err(read_error)?)),
            // A body that breaks off looks like a broken connection.
            Err(err) => Err(reading.failure().map_or(err, read_error)),
        }
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.connections.acquire().await.expect("the semaphore is never closed")
    }

    async fn send(&self, url: &str, length: u64, body: Body) -> Result<Option<String>, Error> {
        let request = self.clients.now().put(url).header(header::CONTENT_LENGTH, length).body(body).send();
        let until = Instant::now() + ANSWER + Duration::from_secs(length / LEAST_RATE);
        let response = tokio::time::timeout_at(until, request)
            .await
            .map_err(|_| Error::Passing("did not answer in time".to_owned()))?
            .map_err(|err| Error::Passing(format!("cannot be reached: {}", transfer::text(&err))))?;
        if response.status().is_success() {
            let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.map(str::to_owned);
            // Read to the end, so that the connection serves again.
            drop(tokio::time::timeout_at(until, response.bytes()).await);
            return Ok(etag);
        }
        let (status, said) = transfer::refusal(response).await;
        let passing = status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE;
        let passing =
            passing || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(if passing { Error::Passing(said) } else { Error::Refused(said) })
    }
}

fn no_address(number: u64) -> Error {
    Error::Refused(format!("was given no address for part {}", number + 1))
}

fn read_error(err: std::io::Error) -> Error {
    if err.kind() == std::io::ErrorKind::UnexpectedEof { Error::Changed } else { Error::Read(err) }
}
