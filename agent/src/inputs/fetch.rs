//! One input: its list comes in pages, its files come side by side into one folder.

use super::{
    Error, Fetcher,
    download::{Download, Fault, Patience, Promise, Room},
    landing::{Landing, make_folder},
};
use crate::{
    link::{Error as LinkError, InputFile, InputPage},
    runtime::Progress,
    tree,
};
use futures::{Stream, TryStreamExt as _};
use longshore_common::{
    artifact::is_contained,
    ids::AttemptRef,
    job::Input,
    retry::Backoff,
    units::{ByteSize, plural},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often a long transfer tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Fetch<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) attempt: AttemptRef,
    pub(super) name: &'a str,
    pub(super) input: &'a Input,
    pub(super) folder: PathBuf,
    pub(super) room: &'a Room,
}

/// A file and the page that listed it, which is asked again when the address has expired.
struct Listed {
    page: Option<String>,
    file: InputFile,
}

impl Fetch<'_> {
    pub(super) async fn run(&self, progress: &Progress) -> Result<(), Error> {
        if !is_contained(self.name.as_bytes()) || self.name.contains('/') {
            return Err(self.failed("its name cannot be a folder's"));
        }
        fresh(self.folder.clone())
            .await
            .map_err(|err| self.failed(&format!("its folder cannot be made: {err}")))?;
        let files = self
            .listed()
            .map_ok(|listed| Box::pin(self.file(listed, progress)))
            .try_buffer_unordered(self.fetcher.config.files_at_once.max(1));
        tokio::pin!(files);
        let mut tick = interval_at(Instant::now() + TELL_EVERY, TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut count, mut bytes) = (0_u64, 0);
        let said = |count: u64, bytes, end| {
            let files = plural(count, "file", "files");
            format!("fetch    {}  {files}  {}{end}", self.name, ByteSize(bytes).rounded())
        };
        loop {
            tokio::select! {
                done = files.try_next() => match done? {
                    Some(length) => {
                        count += 1;
                        bytes += length;
                    }
                    None => break,
                },
                _ = tick.tick() => progress.say(said(count, bytes, " so far")),
            }
        }
        progress.say(said(count, bytes, ""));
        Ok(())
    }

    fn listed(&self) -> impl Stream<Item = Result<Listed, Error>> {
        futures::stream::try_unfold(Some(None), async move |next: Option<Option<String>>| {
            let Some(token) = next else { return Ok(None) };
            let page = self.page(token.clone()).await?;
            let files = page.files.into_iter().map(move |file| Ok(Listed { page: token.clone(), file }));
            Ok(Some((futures::stream::iter(files), page.next.map(Some))))
        })
        .try_flatten()
    }

    async fn page(&self, token: Option<String>) -> Result<InputPage, Error> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            match self.fetcher.controller.fetch_input(self.attempt, self.name, token.clone()).await {
                Ok(page) => return Ok(page),
                Err(LinkError::Unreachable(_) | LinkError::Denied(_)) => backoff.wait().await,
                Err(LinkError::Fenced(detail)) => return Err(Error::Fenced(detail)),
                Err(err @ LinkError::Refused(_)) => return Err(self.failed(&err.to_string())),
            }
        }
    }

    /// Brings one file and returns its length. Tells the first trouble at once: patience may be long.
    async fn file(&self, listed: Listed, progress: &Progress) -> Result<u64, Error> {
        let Listed { page, file } = listed;
        let shown = String::from_utf8_lossy(&file.path).escape_debug().to_string();
        let failed = |detail: String| self.failed(&format!("`{shown}`: {detail}"));
        if !is_contained(&file.path) {
            return Err(failed("the name leads out of the input's folder".to_owned()));
        }
        let path = self.folder.join(OsStr::from_bytes(&file.path));
        let landing = Landing::new(&self.folder, path, file.mode);
        let promise = Promise { size: file.size, sha256: file.sha256 };
        let mut download = Download::new(self.client(), self.room, promise, landing, !self.is_web());
        let mut patience = Patience::new(Duration::from_secs(self.fetcher.config.patience_seconds));
        let mut url = file.url;
        let mut told = false;
        loop {
            self.check_address(&url).map_err(&failed)?;
            let said = match download.try_once(&url).await {
                Ok(()) => return Ok(download.landing.length()),
                Err(Fault::Final(said)) => return Err(failed(said)),
                Err(Fault::Denied(said)) if self.is_web() => {
                    return Err(failed(said));
                }
                Err(Fault::Denied(said)) => {
                    let again = self.page(page.clone()).await?.files;
                    let again = again.into_iter().find(|again| again.path == file.path);
                    url = again.ok_or_else(|| failed("is not listed any more".to_owned()))?.url;
                    said
                }
                Err(Fault::Passing(said)) => said,
            };
            if !std::mem::replace(&mut told, true) {
                progress.say(format!("fetch    {}  `{shown}`: {said}; trying again", self.name));
            }
            if !patience.wait(download.landing.length()).await {
                return Err(failed(said));
            }
        }
    }

    fn client(&self) -> reqwest::Client {
        if self.is_web() { self.fetcher.web.now() } else { self.fetcher.store.now() }
    }

    /// Whether the job says from where it comes; the rest comes from stores of the operator.
    fn is_web(&self) -> bool {
        matches!(self.input, Input::Url { .. }) && !self.input.is_object()
    }

    fn check_address(&self, url: &str) -> Result<(), String> {
        if self.is_web() && !url.starts_with("https://") {
            return Err("only https:// addresses are fetched".to_owned());
        }
        match reqwest::Url::parse(url) {
            Ok(url) if self.is_web() => self.fetcher.wall.check(&url).map_err(|refused| refused.to_string()),
            // The client says what is wrong with it.
            _ => Ok(()),
        }
    }

    fn failed(&self, detail: &str) -> Error {
        Error::Failed(format!("input `{}`: {detail}", self.name))
    }
}

/// The folder of an input, empty: an earlier try of this attempt may have left something.
async fn fresh(folder: PathBuf) -> std::io::Result<()> {
    let make = move || {
        tree::remove(&folder)?;
        std::fs::create_dir_all(folder.parent().unwrap_or(Path::new("/")))?;
        make_folder(&folder)
    };
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|err| Err(std::io::Error::other(err)))
}
