use super::*;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;

/// Serves `content` with ranges; the first `cut` answers stop half way. Answers its address and the ranges asked for.
async fn server(content: Vec<u8>, cut: usize) -> (String, Arc<Mutex<Vec<Option<usize>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    longshore_common::tasks::spawn("test server", async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            let mut range = None;
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                let lower = line.to_ascii_lowercase();
                if let Some(rest) = lower.strip_prefix("range: bytes=") {
                    range = rest.trim().trim_end_matches('-').parse::<usize>().ok();
                }
                line.clear();
            }
            let count = {
                let mut seen = seen.lock().expect("not poisoned");
                seen.push(range);
                seen.len()
            };
            let rest = &content[range.unwrap_or(0)..];
            let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
            stream.get_mut().write_all(head.as_bytes()).await.expect("sent");
            let sent = if count <= cut { &rest[..rest.len() / 2] } else { rest };
            stream.get_mut().write_all(sent).await.expect("sent");
        }
    });
    (url, asked)
}

fn artifact(name: &str, content: &[u8]) -> Artifact {
    let sha256 = Sha256::digest(content).into();
    Artifact { path: name.into(), size: content.len() as u64, sha256, mode: 0o4755, modified_at: None }
}

async fn fetch(artifact: &Artifact, url: &str, target: &Path) -> Result<bool, Failure> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = http::client(None).expect("set up");
    one(&http, artifact, url.to_owned(), target, &Progress::bytes("x", 0)).await
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_was() {
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let (url, asked) = server(content.clone(), 1).await;
    let target = tempfile::tempdir().expect("a folder");
    let artifact = artifact("a/b.bin", &content);
    assert_eq!(fetch(&artifact, &url, target.path()).await, Ok(false));
    assert_eq!(fs::read(target.path().join("a/b.bin")).expect("there"), content);
    let asked_first = asked.lock().expect("not poisoned").clone();
    assert_eq!(asked_first, [None, Some(content.len() / 2)]);
    assert_eq!(fetch(&artifact, &url, target.path()).await, Ok(true), "it is here already");
    assert_eq!(asked.lock().expect("not poisoned").len(), 2);
    assert_eq!(names(&target.path().join("a")), ["b.bin"]);
    let mode = fs::metadata(target.path().join("a/b.bin")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "set-uid stays behind");
}

#[tokio::test]
async fn wrong_bytes_are_never_kept() {
    let (url, _) = server(b"something else".to_vec(), 0).await;
    let target = tempfile::tempdir().expect("a folder");
    let failure =
        fetch(&artifact("x", b"what was stored"), &url, target.path()).await.expect_err("wrong digest");
    assert!(failure.message.contains("SHA-256"), "{failure}");
    assert_eq!(names(target.path()), Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let (url, _) = server(Vec::new(), 0).await;
    let target = tempfile::tempdir().expect("a folder");
    assert_eq!(fetch(&artifact("empty", b""), &url, target.path()).await, Ok(false));
    assert_eq!(fs::read(target.path().join("empty")).expect("there"), b"");
}
