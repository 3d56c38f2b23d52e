//! One file from its address, gone on with where it broke off, checked against what was promised.

use super::landing::Landing;
use crate::transfer::{self, wall};
use longshore_common::retry::Backoff;
use reqwest::{Client, Response, StatusCode, header};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// A source that gives nothing for this long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// What the list says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<[u8; 32]>,
}

/// Why a try ended without the file.
#[derive(Debug)]
pub(super) enum Fault {
    /// Trying again does not help.
    Final(String),
    /// It may: the way to the source, or its health.
    Passing(String),
    /// The address is not taken (any more).
    Denied(String),
}

/// Bytes that all inputs of an attempt may still take.
#[derive(Debug)]
pub(super) struct Room {
    left: AtomicU64,
    limit: u64,
}

impl Room {
    pub(super) const fn new(limit: u64) -> Self {
        Self { left: AtomicU64::new(limit), limit }
    }

    fn take(&self, bytes: u64) -> Result<(), Fault> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        let limit = longshore_common::units::ByteSize(self.limit).rounded();
        taken
            .map(drop)
            .map_err(|_| Fault::Final(format!("the inputs do not fit into the scratch limit of {limit}")))
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Download<'a> {
    pub(super) client: Client,
    pub(super) room: &'a Room,
    pub(super) promise: Promise,
    pub(super) landing: Landing,
    /// What a failure's body says is told: not of sources that a job names, whose answers would be read that way.
    quotes: bool,
    /// Says whether the source still has what it began to give.
    etag: Option<header::HeaderValue>,
}

impl<'a> Download<'a> {
    pub(super) const fn new(
        client: Client,
        room: &'a Room,
        promise: Promise,
        landing: Landing,
        quotes: bool,
    ) -> Self {
        Self { client, room, promise, landing, quotes, etag: None }
    }

    /// One try, from where the last one ended if the source can do that.
    pub(super) async fn try_once(&mut self, url: &str) -> Result<(), Fault> {
        let mut request = self.client.get(url).header(header::ACCEPT_ENCODING, "identity");
        let from = self.landing.length();
        if from > 0 {
            if self.etag.is_none() && self.promise.sha256.is_none() {
                self.restart()?;
            } else {
                request = request.header(header::RANGE, format!("bytes={from}-"));
                if let Some(etag) = &self.etag {
                    request = request.header(header::IF_RANGE, etag);
                }
            }
        }
        let response = answer_in_time(request.send()).await?;
        self.place(&response)?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => self.receive(response).await,
            _ => Err(refused(response, self.quotes).await),
        }
    }

    /// Makes the landing fit what the source is about to give.
    fn place(&mut self, response: &Response) -> Result<(), Fault> {
        let from = self.landing.length();
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT && starts_at(response) == Some(from);
        if !goes_on
            && (response.status().is_success() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE)
        {
            self.restart()?;
            if response.status() != StatusCode::OK {
                return Err(Fault::Passing(format!("the source answered {} to a range", response.status())));
            }
            let strong = |etag: &&header::HeaderValue| !etag.as_bytes().starts_with(b"W/");
            self.etag = response.headers().get(header::ETAG).filter(strong).cloned();
        }
        match (self.promise.size, response.content_length()) {
            (Some(size), Some(length))
                if response.status().is_success() && self.landing.length() + length != size =>
            {
                let has = self.landing.length() + length;
                Err(Fault::Final(format!("the source has {has} bytes where {size} were promised")))
            }
            _ => Ok(()),
        }
    }

    async fn receive(&mut self, mut response: Response) -> Result<(), Fault> {
        while let Some(piece) = answer_in_time(response.chunk()).await? {
            let length = self.landing.length() + piece.len() as u64;
            if let Some(size) = self.promise.size.filter(|size| length > *size) {
                return Err(Fault::Final(format!(
                    "the source gives more than the {size} bytes that were promised"
                )));
            }
            self.room.take(piece.len() as u64)?;
            self.landing.take(piece).await.map_err(disk)?;
        }
        match self.promise.size {
            Some(size) if self.landing.length() < size => Err(Fault::Passing(format!(
                "the source ended after {} of {size} bytes",
                self.landing.length()
            ))),
            _ => self.check().await,
        }
    }

    async fn check(&mut self) -> Result<(), Fault> {
        let sha256 = self.landing.finish().await.map_err(disk)?;
        match self.promise.sha256 {
            Some(promised) if promised != sha256 => {
                let (is, was) = (hex::encode(sha256), hex::encode(promised));
                Err(Fault::Final(format!("the source gave bytes with SHA-256 {is} where {was} was promised")))
            }
            _ => Ok(()),
        }
    }

    fn restart(&mut self) -> Result<(), Fault> {
        self.room.give_back(self.landing.length());
        self.etag = None;
        self.landing.restart().map_err(disk)
    }
}

/// How long a source may fail: counted from the last time it gave something.
#[derive(Debug)]
pub(super) struct Patience {
    length: Duration,
    since: Instant,
    reached: u64,
    backoff: Backoff,
}

impl Patience {
    pub(super) fn new(length: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        Self { length, since: Instant::now(), reached: 0, backoff }
    }

    /// Waits before the next try; `false`: there should be none.
    pub(super) async fn wait(&mut self, reached: u64) -> bool {
        if reached > self.reached {
            self.backoff.reset();
            self.since = Instant::now();
            self.reached = reached;
        }
        let lasts = self.since.elapsed() < self.length;
        if lasts {
            self.backoff.wait().await;
        }
        lasts
    }
}

async fn answer_in_time<T>(answer: impl Future<Output = Result<T, reqwest::Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(SILENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(err)) if let Some(refused) = wall::refused(&err) => Err(Fault::Final(refused.to_string())),
        Ok(Err(err)) if err.is_redirect() || err.is_builder() => {
            Err(Fault::Final(format!("the source {}", transfer::text(&err))))
        }
        Ok(Err(err)) => {
            let how = if err.is_connect() { "cannot be reached" } else { "broke off" };
            Err(Fault::Passing(format!("the source {how}: {}", transfer::text(&err))))
        }
        Err(_) => Err(Fault::Passing("the source fell silent".to_owned())),
    }
}

async fn refused(response: Response, quotes: bool) -> Fault {
    let (status, said) = if quotes {
        transfer::refusal(response).await
    } else {
        (response.status(), format!("answered {}", response.status()))
    };
    let said = format!("the source {said}");
    match status {
        // Garage says 400 to an address that has expired.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Fault::Denied(said),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Fault::Passing(said),
        status if status.is_server_error() => Fault::Passing(said),
        _ => Fault::Final(said),
    }
}

/// Where a partial answer begins: `bytes 1000-1999/2000`.
fn starts_at(response: &Response) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

fn disk(err: std::io::Error) -> Fault {
    match err.kind() {
        std::io::ErrorKind::AlreadyExists => Fault::Final("is listed twice".to_owned()),
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
            Fault::Final("is listed as a file and as a folder".to_owned())
        }
        _ => Fault::Final(format!("cannot be written on the agent: {err}")),
    }
}
