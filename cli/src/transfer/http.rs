//! PUT and GET at signed addresses, tried again when the other side stumbles.

use super::CHUNK;
use crate::output::Progress;
use longshore_common::retry::Backoff;
use reqwest::{Body, Certificate, Client, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};
use std::{io::SeekFrom, path::Path, time::Duration};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

const TRIES: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the store does not answer: {0}")]
    Unreachable(String),
    #[error("the store answers {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error("{0} bytes came, and their SHA-256 is not that of the artifact")]
    Corrupt(u64),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Corrupt(_) => true,
            Self::Refused { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            Self::Io(_) => false,
        }
    }
}

/// `ca`: an authority to trust beside the machine's.
pub(super) fn client(ca: Option<&str>) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder();
    if let Some(ca) = ca {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(ca.as_bytes())?);
    }
    builder
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(super::AT_ONCE)
        .build()
}

/// A piece of a local file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) path: &'a Path,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Puts a piece at an address and answers its ETag.
pub(super) async fn put(
    http: &Client,
    url: &str,
    piece: Piece<'_>,
    progress: &Progress,
) -> Result<String, Error> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    for _ in 1..TRIES {
        match put_once(http, url, piece).await {
            Ok(etag) => {
                progress.add(piece.length);
                return Ok(etag);
            }
            Err(error) if error.is_transient() => backoff.wait().await,
            Err(error) => return Err(error),
        }
    }
    let etag = put_once(http, url, piece).await?;
    progress.add(piece.length);
    Ok(etag)
}

async fn put_once(http: &Client, url: &str, piece: Piece<'_>) -> Result<String, Error> {
    let mut file = File::open(piece.path).await?;
    file.seek(SeekFrom::Start(piece.offset)).await?;
    let body = Body::wrap_stream(ReaderStream::with_capacity(file.take(piece.length), CHUNK));
    let request = http.put(url).header(header::CONTENT_LENGTH, piece.length).body(body);
    let response = good(request.send().await).await?;
    let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
    Ok(etag.unwrap_or_default().to_owned())
}

/// Begins to get an address, from an offset on if the other side can. Says whether it did.
pub(super) async fn get(http: &Client, url: &str, offset: u64) -> Result<(Response, bool), Error> {
    let mut request = http.get(url);
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
    }
    let response = good(request.send().await).await?;
    let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
    Ok((response, resumed))
}

async fn good(sent: Result<Response, reqwest::Error>) -> Result<Response, Error> {
    let response = sent.map_err(|error| unreachable(&error))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let mut body = response.text().await.unwrap_or_default();
    body.truncate(body.char_indices().nth(300).map_or(body.len(), |(at, _)| at));
    Err(Error::Refused { status, body: body.trim().to_owned() })
}

pub(super) fn unreachable(error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Error::Unreachable(cause.to_string())
}

/// SHA-256 and length of a file's first `limit` bytes.
pub(super) async fn digest(path: &Path, limit: u64) -> Result<(Sha256, u64), std::io::Error> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut file = std::fs::File::open(path)?.take(limit);
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((hash, length)),
                read => {
                    hash.update(&buffer[..read]);
                    length += read as u64;
                }
            }
        }
    });
    hashed.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
}
