//! A store and a controller in the test: signed addresses without signatures, and faults on demand.

use crate::link::{
    Claimed, CompletedUpload, Controller, Error as LinkError, InputPage, LogAppend, WantedUpload,
};
use async_trait::async_trait;
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{Response, StatusCode, Uri, header},
};
use futures::StreamExt as _;
use longshore_common::{
    agent::{FinishReport, Offer},
    artifact::{ManifestEntry, UploadTarget},
    ids::{AttemptRef, ClaimId},
    logs::Position,
    queue::Lane,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

/// Files above this go in parts of this size.
const PART: u64 = 1_000_000;

/// What the next PUT is answered with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Status(u16),
}

#[derive(Debug, Default)]
struct Inner {
    faults: Mutex<VecDeque<Fault>>,
    link_faults: Mutex<VecDeque<LinkError>>,
    objects: Mutex<HashMap<String, Bytes>>,
    /// Ordinal to joined bytes.
    whole: Mutex<HashMap<u64, Vec<u8>>>,
    pages: Mutex<BTreeMap<u32, Vec<ManifestEntry>>>,
    requests: Mutex<usize>,
    opens: Mutex<usize>,
    given_up: Mutex<Vec<String>>,
    forgets: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Store {
    address: SocketAddr,
    inner: Arc<Inner>,
}

impl Store {
    pub(super) async fn start(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::start_cutting(faults, 0).await
    }

    /// The first `cuts` connections break after their first bytes.
    pub(super) async fn start_cutting(faults: impl IntoIterator<Item = Fault>, cuts: usize) -> Self {
        let faults = Mutex::new(faults.into_iter().collect());
        Self::serve(Inner { faults, ..Inner::default() }, cuts).await
    }

    /// Keeps no bytes.
    pub(super) async fn start_forgetting() -> Self {
        Self::serve(Inner { forgets: true, ..Inner::default() }, 0).await
    }

    async fn serve(inner: Inner, cuts: usize) -> Self {
        // Already installed by another test of this process: fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self { address: listener.local_addr().unwrap(), inner: Arc::new(inner) };
        let routes = axum::Router::new().fallback(receive).with_state(store.clone());
        let listener = Cutting { listener, cuts };
        longshore_common::tasks::spawn("test store", async move { axum::serve(listener, routes).await });
        store
    }

    pub(super) fn controller(&self) -> Arc<dyn Controller> {
        Arc::new(self.clone())
    }

    pub(super) fn fail_controller(&self, faults: impl IntoIterator<Item = LinkError>) {
        self.inner.link_faults.lock().unwrap().extend(faults);
    }

    pub(super) fn requests(&self) -> usize {
        *self.inner.requests.lock().unwrap()
    }

    pub(super) fn opens(&self) -> usize {
        *self.inner.opens.lock().unwrap()
    }

    pub(super) fn given_up(&self) -> Vec<String> {
        self.inner.given_up.lock().unwrap().clone()
    }

    pub(super) fn entries(&self) -> Vec<ManifestEntry> {
        self.inner.pages.lock().unwrap().values().flatten().cloned().collect()
    }

    /// What the manifest lists, after checking size and digest of each.
    pub(super) fn files(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let whole = self.inner.whole.lock().unwrap();
        let checked = |entry: ManifestEntry| {
            let bytes = whole[&entry.ordinal].clone();
            assert_eq!(bytes.len() as u64, entry.artifact.size);
            assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), entry.artifact.sha256);
            (entry.artifact.path, bytes)
        };
        self.entries().into_iter().map(checked).collect()
    }

    pub(super) async fn put_plainly(&self, count: usize) {
        let client = reqwest::Client::new();
        let put = |n: usize| {
            let request = client.put(format!("http://{}/{n}/0/single", self.address)).body("small artifact");
            async move { request.send().await.unwrap().bytes().await.unwrap() }
        };
        let puts = futures::stream::iter(0..count).map(put).buffer_unordered(8);
        assert_eq!(puts.count().await, count);
    }

    fn link_fault(&self) -> Result<(), LinkError> {
        self.inner.link_faults.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }

    fn target(&self, file: WantedUpload, opening: usize) -> UploadTarget {
        let WantedUpload { ordinal, size, .. } = file;
        let url = |part: String| format!("http://{}/{ordinal}/{opening}/{part}?signature=s", self.address);
        if size <= PART {
            return UploadTarget { upload_id: None, part_size: size, urls: vec![url("single".into())] };
        }
        let urls = (0..size.div_ceil(PART)).map(|part| url(part.to_string())).collect();
        UploadTarget { upload_id: Some(opening.to_string()), part_size: PART, urls }
    }
}

async fn receive(State(store): State<Store>, uri: Uri, body: Body) -> Response<Body> {
    *store.inner.requests.lock().unwrap() += 1;
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(Ok(piece)) = stream.next().await {
        if !store.inner.forgets {
            bytes.extend_from_slice(&piece);
        }
    }
    if let Some(Fault::Status(status)) = store.inner.faults.lock().unwrap().pop_front() {
        let status = StatusCode::from_u16(status).unwrap();
        return Response::builder().status(status).body("said by the test".into()).unwrap();
    }
    let path = uri.path().trim_start_matches('/').to_owned();
    let etag = format!("\"{path}\"");
    if let Some((ordinal, _)) = path.split_once('/').filter(|_| path.ends_with("single")) {
        store.inner.whole.lock().unwrap().insert(ordinal.parse().unwrap(), bytes);
    } else {
        store.inner.objects.lock().unwrap().insert(path, bytes.into());
    }
    Response::builder().header(header::ETAG, etag).body(Body::empty()).unwrap()
}

#[async_trait]
impl Controller for Store {
    async fn open_uploads(
        &self,
        _: AttemptRef,
        files: Vec<WantedUpload>,
    ) -> Result<Vec<UploadTarget>, LinkError> {
        self.link_fault()?;
        self.inner.given_up.lock().unwrap().extend(files.iter().filter_map(|file| file.given_up.clone()));
        let mut opens = self.inner.opens.lock().unwrap();
        *opens += 1;
        Ok(files.into_iter().map(|file| self.target(file, *opens)).collect())
    }

    async fn complete_uploads(&self, _: AttemptRef, uploads: Vec<CompletedUpload>) -> Result<(), LinkError> {
        self.link_fault()?;
        for upload in uploads {
            let mut joined = Vec::new();
            for (part, etag) in upload.etags.iter().enumerate() {
                let path = format!("{}/{}/{part}", upload.ordinal, upload.upload_id);
                assert_eq!(*etag, format!("\"{path}\""), "etags come in the order of parts");
                joined.extend_from_slice(&self.inner.objects.lock().unwrap()[&path]);
            }
            self.inner.whole.lock().unwrap().insert(upload.ordinal, joined);
        }
        Ok(())
    }

    async fn put_manifest(
        &self,
        _: AttemptRef,
        page: u32,
        entries: Vec<ManifestEntry>,
    ) -> Result<(), LinkError> {
        self.link_fault()?;
        assert!(entries.len() <= 5_000);
        self.inner.pages.lock().unwrap().insert(page, entries);
        Ok(())
    }

    async fn append_logs(&self, _: Vec<LogAppend>) -> Result<Vec<Result<u64, LinkError>>, LinkError> {
        Err(LinkError::Refused("uploads only".into()))
    }
    async fn claim(&self, _: ClaimId, _: Offer, _: BTreeMap<Lane, u32>) -> Result<Claimed, LinkError> {
        Err(LinkError::Refused("uploads only".into()))
    }
    async fn resume_log(&self, _: AttemptRef) -> Result<Position, LinkError> {
        Err(LinkError::Refused("uploads only".into()))
    }
    async fn fetch_input(&self, _: AttemptRef, _: &str, _: Option<String>) -> Result<InputPage, LinkError> {
        Err(LinkError::Refused("uploads only".into()))
    }
    async fn finish(&self, _: FinishReport) -> Result<(), LinkError> {
        Err(LinkError::Refused("uploads only".into()))
    }
}

struct Cutting {
    listener: TcpListener,
    cuts: usize,
}

impl axum::serve::Listener for Cutting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let (mut stream, peer) = self.listener.accept().await.unwrap();
            if self.cuts == 0 {
                return (stream, peer);
            }
            self.cuts -= 1;
            let mut some = [0; 500];
            assert!(stream.read(&mut some).await.unwrap() > 0);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
