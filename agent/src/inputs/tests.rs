//! Whole inputs from a source that fails, lies and breaks off.

use super::*;
use crate::link::{
    Claimed, CompletedUpload, Error as LinkError, InputFile, InputPage, LogAppend, WantedUpload,
};
use async_trait::async_trait;
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};
use longshore_common::{
    agent::{FinishReport, Offer},
    artifact::{ManifestEntry, UploadTarget},
    ids::{ClaimId, Epoch, JobId},
    logs::Position,
    queue::Lane,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::VecDeque,
    fs, io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    sync::Mutex,
};
use tokio::{net::TcpListener, sync::mpsc};

/// What the source does with the next request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Status(u16),
    /// Breaks off after so many bytes.
    CutAfter(usize),
    /// The address has expired.
    Expired,
}

#[derive(Debug)]
struct Inner {
    files: Vec<(InputFile, Bytes)>,
    page: usize,
    faults: Mutex<VecDeque<Fault>>,
    link_faults: Mutex<VecDeque<LinkError>>,
    ranges: Mutex<Vec<Option<String>>>,
    asked: Mutex<usize>,
    /// What the fetches told.
    said: Mutex<Vec<String>>,
    /// What comes instead of a file's bytes.
    forged: Option<Bytes>,
}

/// Source and controller in one.
#[derive(Clone, Debug)]
struct Source {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Source {
    async fn start(files: Vec<(InputFile, Bytes)>, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::forging(files, faults, None).await
    }

    async fn forging(
        files: Vec<(InputFile, Bytes)>,
        faults: impl IntoIterator<Item = Fault>,
        forged: Option<Bytes>,
    ) -> Self {
        // Already installed by another test of this process: fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Inner {
            files,
            page: 50,
            faults: Mutex::new(faults.into_iter().collect()),
            link_faults: Mutex::default(),
            ranges: Mutex::default(),
            asked: Mutex::default(),
            said: Mutex::default(),
            forged,
        };
        let source = Self { address: listener.local_addr().unwrap(), inner: Arc::new(inner) };
        let routes = axum::Router::new().fallback(give).with_state(source.clone());
        longshore_common::tasks::spawn("test source", async move { axum::serve(listener, routes).await });
        source
    }

    fn fetcher(&self, config: Config) -> Fetcher {
        let network = NetworkConfig::default();
        Fetcher::new(Arc::new(self.clone()), config, &network, &Authorities::default()).unwrap()
    }

    async fn fetch_into(&self, dir: &Path, limit: u64) -> Result<BTreeMap<String, PathBuf>, Error> {
        self.fetch_as(Input::Uploaded { id: "files".into() }, dir, limit).await
    }

    async fn fetch_as(
        &self,
        input: Input,
        dir: &Path,
        limit: u64,
    ) -> Result<BTreeMap<String, PathBuf>, Error> {
        let config = Config { patience_seconds: 1, ..Config::default() };
        let fetcher = self.fetcher(config);
        let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
        let inputs = BTreeMap::from([("bags".to_owned(), input)]);
        let (lines, mut said) = mpsc::channel(10);
        let fetched = fetcher.fetch(attempt, &inputs, dir, limit, &Progress::new(lines)).await;
        while let Some(line) = said.recv().await {
            self.inner.said.lock().unwrap().push(line);
        }
        fetched
    }
}

async fn give(State(source): State<Source>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    source.inner.ranges.lock().unwrap().push(range.clone());
    let plain = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        Response::builder().status(status).body("said by the test".into()).unwrap()
    };
    let fault = source.inner.faults.lock().unwrap().pop_front();
    match fault {
        Some(Fault::Status(status)) => return plain(status),
        Some(Fault::Expired) => return plain(403),
        _ => {}
    }
    let number: usize = uri.path().trim_start_matches('/').parse().unwrap();
    let bytes = source.inner.forged.clone().unwrap_or_else(|| source.inner.files[number].1.clone());
    let from = range.map_or(0, |range| {
        range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
    });
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let rest = bytes.slice(from..);
    let response = Response::builder()
        .status(status)
        .header(
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{}", bytes.len().saturating_sub(1), bytes.len()),
        )
        .header(header::CONTENT_LENGTH, rest.len());
    let Some(Fault::CutAfter(length)) = fault else { return response.body(rest.into()).unwrap() };
    let pieces = vec![Ok(rest.slice(..length)), Err(io::Error::other("cut by the test"))];
    // The pause lets the first piece out before the connection breaks.
    let stream = futures::StreamExt::then(futures::stream::iter(pieces), async |piece| {
        tokio::task::yield_now().await;
        piece
    });
    response.body(Body::from_stream(stream)).unwrap()
}

#[async_trait]
impl Controller for Source {
    async fn resume_log(&self, _: AttemptRef) -> Result<Position, LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }

    async fn fetch_input(
        &self,
        _: AttemptRef,
        name: &str,
        page: Option<String>,
    ) -> Result<InputPage, LinkError> {
        assert_eq!(name, "bags");
        *self.inner.asked.lock().unwrap() += 1;
        self.inner.link_faults.lock().unwrap().pop_front().map_or(Ok(()), Err)?;
        let from = page.map_or(0, |page| page.parse().unwrap());
        let to = (from + self.inner.page).min(self.inner.files.len());
        let file = |n: usize| {
            let url = match &self.inner.files[n].0.url[..] {
                "" => format!("http://{}/{n}?signature=s", self.address),
                url => url.to_owned(),
            };
            InputFile { url, ..self.inner.files[n].0.clone() }
        };
        let next = (to < self.inner.files.len()).then(|| to.to_string());
        Ok(InputPage { files: (from..to).map(file).collect(), next })
    }

    async fn append_logs(&self, _: Vec<LogAppend>) -> Result<Vec<Result<u64, LinkError>>, LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
    async fn claim(&self, _: ClaimId, _: Offer, _: BTreeMap<Lane, u32>) -> Result<Claimed, LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
    async fn open_uploads(
        &self,
        _: AttemptRef,
        _: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
    async fn complete_uploads(&self, _: AttemptRef, _: Vec<CompletedUpload>) -> Result<(), LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
    async fn put_manifest(&self, _: AttemptRef, _: u32, _: Vec<ManifestEntry>) -> Result<(), LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
    async fn finish(&self, _: FinishReport) -> Result<(), LinkError> {
        Err(LinkError::Refused("inputs only".into()))
    }
}

fn file(path: &[u8], bytes: &[u8]) -> (InputFile, Bytes) {
    let file = InputFile {
        path: path.to_vec(),
        size: Some(bytes.len() as u64),
        sha256: Some(Sha256::digest(bytes).into()),
        mode: 0o600,
        url: String::new(),
    };
    (file, Bytes::copy_from_slice(bytes))
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

const ROOM: u64 = 1 << 30;

async fn failure(source: &Source) -> String {
    let dir = tempfile::tempdir().unwrap();
    match source.fetch_into(dir.path(), ROOM).await {
        Err(Error::Failed(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn names_bytes_and_programs_arrive_over_several_pages() {
    let mut files: Vec<_> =
        (0..120).map(|n| file(format!("d{}/{n}", n % 7).as_bytes(), &noise(n * 10))).collect();
    files.push(file(b"new\nline \xff", &noise(900_000)));
    let mut program = file(b"bin/run", b"#!/bin/sh\n");
    program.0.mode = 0o4755;
    files.push(program);
    let source = Source::start(files.clone(), []).await;
    let dir = tempfile::tempdir().unwrap();
    let folders = source.fetch_into(dir.path(), ROOM).await.unwrap();
    let folder = &folders["bags"];
    assert_eq!(*folder, dir.path().join("bags"));
    for (listed, bytes) in files {
        let path = folder.join(std::ffi::OsStr::from_bytes(&listed.path));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if listed.path == b"bin/run" { 0o755 } else { 0o644 });
    }
    assert_eq!(fs::metadata(folder.join("bin")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn what_an_earlier_try_left_is_gone() {
    let source = Source::start(vec![file(b"a", b"new")], []).await;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("bags")).unwrap();
    fs::write(dir.path().join("bags/a"), b"old and longer").unwrap();
    fs::write(dir.path().join("bags/b"), b"old").unwrap();
    let folders = source.fetch_into(dir.path(), ROOM).await.unwrap();
    assert_eq!(fs::read(folders["bags"].join("a")).unwrap(), b"new");
    assert!(!folders["bags"].join("b").exists());
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke_off() {
    let bytes = noise(2_000_000);
    let faults = [Fault::CutAfter(700_000), Fault::Status(503), Fault::CutAfter(500_000)];
    let source = Source::start(vec![file(b"large", &bytes)], faults).await;
    let dir = tempfile::tempdir().unwrap();
    let folders = source.fetch_into(dir.path(), ROOM).await.unwrap();
    assert_eq!(fs::read(folders["bags"].join("large")).unwrap(), bytes);
    let ranges = source.inner.ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert!(ranges[1..].iter().all(|range| range.is_some()), "{ranges:?}");
    let said = source.inner.said.lock().unwrap().clone();
    let troubles: Vec<_> = said.iter().filter(|line| line.ends_with("; trying again")).collect();
    assert!(matches!(troubles[..], [line] if line.starts_with("fetch    bags  `large`: ")), "{said:?}");
}

#[tokio::test]
async fn without_digest_or_tag_a_broken_transfer_starts_over() {
    let bytes = noise(1_000_000);
    let mut listed = file(b"web", &bytes);
    (listed.0.size, listed.0.sha256) = (None, None);
    let source = Source::start(vec![listed], [Fault::CutAfter(600_000)]).await;
    let dir = tempfile::tempdir().unwrap();
    let folders = source.fetch_into(dir.path(), 1_000_000).await.unwrap();
    assert_eq!(fs::read(folders["bags"].join("web")).unwrap(), bytes);
    assert_eq!(*source.inner.ranges.lock().unwrap(), [None, None]);
}

#[tokio::test]
async fn an_expired_address_is_asked_for_again() {
    let source = Source::start(vec![file(b"a", b"bytes")], [Fault::Expired]).await;
    let dir = tempfile::tempdir().unwrap();
    source.inner.link_faults.lock().unwrap().push_back(LinkError::Unreachable("away".into()));
    source.fetch_into(dir.path(), ROOM).await.unwrap();
    assert_eq!(*source.inner.asked.lock().unwrap(), 3);
}

#[tokio::test]
async fn wrong_bytes_are_refused_by_name() {
    let forged = Some(Bytes::from_static(b"forged bytes"));
    let source = Source::forging(vec![file(b"a", b"promised one")], [], forged.clone()).await;
    let told = failure(&source).await;
    assert!(told.starts_with("input `bags`: `a`: the source gave bytes with SHA-256 "), "{told}");
    let source = Source::forging(vec![file(b"a", b"short")], [], forged).await;
    assert_eq!(failure(&source).await, "input `bags`: `a`: the source has 12 bytes where 5 were promised");
}

#[tokio::test]
async fn a_source_that_says_no_is_quoted() {
    let source = Source::start(vec![file(b"a", b"x")], [Fault::Status(404)]).await;
    let told = "input `bags`: `a`: the source answered 404 Not Found: said by the test";
    assert_eq!(failure(&source).await, told);
    let source = Source::start(vec![file(b"a", b"x")], (0..100).map(|_| Fault::Status(500))).await;
    let told = "input `bags`: `a`: the source answered 500 Internal Server Error: said by the test";
    assert_eq!(failure(&source).await, told);
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused() {
    for name in [&b"../outside"[..], b"/etc/cron.d/x", b"a/../../x", b""] {
        let source = Source::start(vec![file(name, b"x")], []).await;
        let told = failure(&source).await;
        assert!(told.ends_with("the name leads out of the input's folder"), "{told}");
    }
    let source = Source::start(vec![file(b"a", b"x"), file(b"a/b", b"x")], []).await;
    assert!(failure(&source).await.contains("is listed "));
}

#[tokio::test]
async fn the_scratch_limit_holds_for_all_files_together() {
    let source = Source::start((0..10).map(|n| file(&[b'a' + n], &noise(200))).collect(), []).await;
    let dir = tempfile::tempdir().unwrap();
    let told = source.fetch_into(dir.path(), 1500).await.unwrap_err().to_string();
    assert!(told.ends_with("the inputs do not fit into the scratch limit of 1.5 KiB"), "{told}");
    source.fetch_into(dir.path(), 2000).await.unwrap();
}

#[tokio::test]
async fn addresses_of_the_web_need_https() {
    let source = Source::start(vec![file(b"a", b"x")], []).await;
    let dir = tempfile::tempdir().unwrap();
    let input = Input::Url { url: "https://data.example/a".into() };
    let told = source.fetch_as(input, dir.path(), ROOM).await.unwrap_err().to_string();
    assert_eq!(told, "input `bags`: `a`: only https:// addresses are fetched");
    assert!(source.inner.ranges.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_job_names_leads_neither_to_the_node_nor_to_what_it_says() {
    let mut listed = file(b"a", b"x");
    listed.0.url = "https://127.0.0.1:9/a".into();
    let source = Source::start(vec![listed], []).await;
    let dir = tempfile::tempdir().unwrap();
    let input = Input::Url { url: "https://127.0.0.1:9/a".into() };
    let told = source.fetch_as(input, dir.path(), ROOM).await.unwrap_err().to_string();
    assert!(told.starts_with("input `bags`: `a`: `127.0.0.1` leads to this node"), "{told}");

    let source = Source::start(vec![file(b"a", b"x")], [Fault::Status(404)]).await;
    let landing = landing::Landing::new(dir.path(), dir.path().join("a"), 0o600);
    let (room, promise) = (Room::new(ROOM), download::Promise { size: None, sha256: None });
    let client = source.fetcher(Config::default()).web.now();
    let mut download = download::Download::new(client, &room, promise, landing, false);
    let fault = download.try_once(&format!("http://{}/0", source.address)).await.unwrap_err();
    assert!(
        matches!(&fault, download::Fault::Final(said) if said == "the source answered 404 Not Found"),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_redirect_away_from_https_is_not_followed() {
    let target = Source::start(vec![file(b"a", b"x")], []).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let from = listener.local_addr().unwrap();
    let to = format!("http://{}/0", target.address);
    let routes = axum::Router::new().fallback(async move || axum::response::Redirect::temporary(&to));
    longshore_common::tasks::spawn("test redirect", async move { axum::serve(listener, routes).await });
    let fetcher = target.fetcher(Config::default());
    let err = fetcher.web.now().get(format!("http://{from}/")).send().await.unwrap_err();
    assert!(err.is_redirect() && transfer::text(&err) == "redirects to 127.0.0.1 without https", "{err:?}");
    assert!(target.inner.ranges.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_fence_ends_all() {
    let source = Source::start(vec![file(b"a", b"x")], []).await;
    source.inner.link_faults.lock().unwrap().push_back(LinkError::Fenced("attempt 2 has it".into()));
    let dir = tempfile::tempdir().unwrap();
    let fenced = source.fetch_into(dir.path(), ROOM).await.unwrap_err();
    assert_eq!(fenced.outcome(), None);
}
