//! Engines of other ages than this machine's, played by a proxy in front of it: it says which versions of the API it
//! speaks, refuses the others as an engine does, and passes on what is left under the real engine's version.

use super::Node;
use longshore_agent::runtime::{Config, Runtime as _};
use longshore_common::tasks;
use longshore_tests::env::fresh_dir;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{UnixListener, UnixStream},
};

const REAL: &str = "/var/run/docker.sock";
const REAL_VERSION: &str = "v1.41";

/// An engine's newest and oldest version.
#[derive(Clone, Copy, Debug)]
struct Age {
    newest: (u32, u32),
    oldest: (u32, u32),
}

struct Played {
    socket: PathBuf,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Played {
    fn start(age: Age) -> Self {
        let socket = fresh_dir("engine").join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("bind a socket");
        let refused = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&refused);
        tasks::spawn("test.engine", async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that goes away in between is its own affair.
                let serve = serve(client, age, Arc::clone(&seen));
                drop(tasks::spawn("test.engine.call", async move { drop(serve.await) }));
            }
        });
        Self { socket, refused }
    }

    fn config(&self) -> Config {
        Config { host: Some(format!("unix://{}", self.socket.display())), ..Config::default() }
    }
}

/// One call: clients of the engine here do not use a connection twice.
async fn serve(mut client: UnixStream, age: Age, refused: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let asked = path.strip_prefix("/v").and_then(|rest| version(rest.split('/').next()?));
    let Age { newest, oldest } = age;
    if let Some(asked) = asked.filter(|asked| !(oldest..=newest).contains(asked)) {
        refused.lock().expect("no panic holds it").push(path.to_owned());
        let (asked, end) = (shown(asked), if asked < oldest { oldest } else { newest });
        let how = if end == oldest { "old. Minimum" } else { "new. Maximum" };
        let body = format!(
            r#"{{"message":"client version {asked} is too {how} supported API version is {}"}}"#,
            shown(end)
        );
        return answer(&mut client, "400 Bad Request", age, &body).await;
    }
    if path.ends_with("/_ping") {
        return answer(&mut client, "200 OK", age, "OK").await;
    }
    if path.ends_with("/version") {
        let body = format!(
            r#"{{"Version":"29.0.0","ApiVersion":"{}","MinAPIVersion":"{}","Os":"linux"}}"#,
            shown(newest),
            shown(oldest)
        );
        return answer(&mut client, "200 OK", age, &body).await;
    }
    let mut engine = UnixStream::connect(Path::new(REAL)).await?;
    let head = match asked {
        Some(asked) => head.replacen(&format!("v{}", shown(asked)), REAL_VERSION, 1),
        None => head,
    };
    engine.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut engine).await.map(drop)
}

async fn answer(client: &mut UnixStream, status: &str, age: Age, body: &str) -> std::io::Result<()> {
    let (version, length) = (shown(age.newest), body.len());
    let head = format!(
        "HTTP/1.1 {status}\r\nApi-Version: {version}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all((head + body).as_bytes()).await?;
    client.shutdown().await
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn shown((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_refuses_what_debians_speaks_runs_containers_all_the_same() {
    let engine = Played::start(Age { newest: (1, 52), oldest: (1, 44) });
    let mut bare = UnixStream::connect(&engine.socket).await.expect("connected");
    let request = "GET /v1.41/info HTTP/1.1\r\nHost: docker\r\n\r\n";
    bare.write_all(request.as_bytes()).await.expect("asked");
    let mut refusal = String::new();
    bare.read_to_string(&mut refusal).await.expect("answered");
    assert!(refusal.starts_with("HTTP/1.1 400") && refusal.contains("1.41 is too old"), "{refusal}");

    let node = Node::with(engine.config());
    let info = node.docker.describe().await.expect("it answers");
    let spoken = info.name.rsplit_once("API ").and_then(|(_, text)| version(text)).expect("a version");
    assert!(((1, 44)..=(1, 52)).contains(&spoken), "{info:?}");
    let ran = node.run(&node.shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!((ran.exit.code, &ran.stdout[..], &ran.stderr[..]), (3, &b"out\n"[..], &b"err\n"[..]));
    let refused = engine.refused.lock().expect("no panic holds it").clone();
    let after: Vec<_> = refused.iter().filter(|path| !path.ends_with("/version")).collect();
    assert_eq!(after, ["/v1.41/info"], "only our own try");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_too_old_for_us_is_named_with_its_version() {
    let engine = Played::start(Age { newest: (1, 38), oldest: (1, 12) });
    let error = Node::with(engine.config()).docker.describe().await.expect_err("it is too old");
    let text = error.to_string();
    assert!(error.is_transient(), "it may be upgraded under us: {text}");
    assert!(text.contains("API 1.38, older than 1.40: upgrade it"), "{text}");
}
