//! An S3 server that verifies signatures: in this process, over a folder. `LONGSHORE_TEST_S3_ENDPOINT`,
//! `_ACCESS_KEY`, `_SECRET_KEY`, `_BUCKET` and `_REGION` put any other in its place.

use super::fresh_dir;
use async_trait::async_trait;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    host::MultiDomain,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{OnceLock, mpsc},
};
use tokio::{net::TcpListener, task::JoinSet};

/// The object store all tests of this process share.
pub fn s3() -> &'static S3 {
    static SHARED: OnceLock<S3> = OnceLock::new();
    SHARED.get_or_init(|| S3::from_environment().unwrap_or_else(S3::start))
}

/// Where an object store is, and the key to its bucket.
#[derive(Clone, Debug)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub access_key: String,
    pub secret_key: String,
}

impl S3 {
    /// The built-in server, with one bucket.
    pub fn start() -> Self {
        let dir = fresh_dir("s3");
        Self::at(&dir, serve_beside(dir.clone()))
    }

    /// How a built-in server that keeps its objects in `dir` is reached. Makes its bucket.
    pub fn at(dir: &Path, address: SocketAddr) -> Self {
        fs::create_dir_all(dir.join(BUCKET)).expect("make the bucket");
        Self {
            endpoint: format!("http://{address}"),
            region: "us-east-1".to_owned(),
            bucket: BUCKET.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        }
    }

    /// The built-in server in the foreground, for a process of its own: returns never.
    pub fn serve(dir: &Path, port: u16) {
        runtime().block_on(async {
            let listener =
                TcpListener::bind(("127.0.0.1", port)).await.expect("bind the object store's port");
            accept(listener, service(dir, port)).await;
        });
    }

    fn from_environment() -> Option<Self> {
        let endpoint = env::var("LONGSHORE_TEST_S3_ENDPOINT").ok()?;
        let read = |name: &str| {
            let name = format!("LONGSHORE_TEST_S3_{name}");
            env::var(&name).unwrap_or_else(|_| panic!("LONGSHORE_TEST_S3_ENDPOINT is set, {name} is not"))
        };
        let [region, bucket, access_key, secret_key] =
            ["REGION", "BUCKET", "ACCESS_KEY", "SECRET_KEY"].map(read);
        Some(Self { endpoint, region, bucket, access_key, secret_key })
    }
}

/// Lets signed requests in, and only to buckets that are there: the server would make any on the first write.
#[derive(Debug)]
struct Buckets(PathBuf);

#[async_trait]
impl S3Access for Buckets {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        if request.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "a signature is required"));
        }
        match request.s3_path().get_bucket_name() {
            Some(name) if !self.0.join(name).is_dir() => Err(s3_error!(NoSuchBucket)),
            _ => Ok(()),
        }
    }
}

const BUCKET: &str = "longshore-test";
const ACCESS_KEY: &str = "LONGSHORETESTKEY";
const SECRET_KEY: &str = "a-secret-of-the-test-process";

fn service(dir: &Path, port: u16) -> S3Service {
    let mut service = S3ServiceBuilder::new(FileSystem::new(dir).expect("open the object store's folder"));
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    service.set_access(Buckets(dir.to_owned()));
    // `bucket.localhost` is virtual-host style; an address of digits stays path style.
    service.set_host(MultiDomain::new([format!("localhost:{port}")]).expect("a valid domain"));
    service.build()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("build a runtime")
}

/// Serves on a thread of its own, since the runtime of the test that asks first ends with that test.
fn serve_beside(dir: PathBuf) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::Builder::new()
        .name("s3".to_owned())
        .spawn(move || {
            runtime().block_on(async move {
                let listener =
                    TcpListener::bind(("127.0.0.1", 0)).await.expect("bind the object store's port");
                let address = listener.local_addr().expect("a bound socket has an address");
                let service = service(&dir, address.port());
                tell.send(address).expect("the starter waits for the address");
                accept(listener, service).await;
            });
        })
        .expect("start the object store's thread");
    told.recv().expect("the object store's thread tells its address")
}

async fn accept(listener: TcpListener, service: S3Service) {
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let connection = server.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
                connections.spawn(connection);
            }
            // A connection that broke is its client's matter.
            Some(_) = connections.join_next() => {}
        }
    }
}
