//! A folder `/out` that wants to harm whoever collects it: nothing outside of it is read, nothing hangs, and what was
//! left out is said.

use longshore_proto::v1::{Artifact, Job};
use longshore_tests::env::{Client, docker, fresh_dir, image, outcome, shell, until};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const SECRET: &[u8] = b"the host's own, and nobody else's";

/// Ends when the test has filled its `/out` from the host.
fn waiting(script: &str) -> String {
    format!("{script}\necho all set; until [ -e /out/go ]; do sleep 0.1; done; rm /out/go")
}

/// The host's folder behind `/out` of a running job.
fn out(id: &str) -> PathBuf {
    let container = docker(&["ps", "-q", "--filter", &format!("name=longshore-{id}-")]);
    let format = "{{range .Mounts}}{{if eq .Destination \"/out\"}}{{.Source}}{{end}}{{end}}";
    docker(&["inspect", "-f", format, &container]).into()
}

/// A folder with a secret file.
fn secrets() -> PathBuf {
    let folder = fresh_dir("secrets");
    fs::write(folder.join("file"), SECRET).expect("write a secret");
    folder
}

fn no_secret(artifacts: &[Artifact]) {
    let secret = Sha256::digest(SECRET).to_vec();
    assert!(artifacts.iter().all(|artifact| artifact.sha256 != secret), "{artifacts:?}");
}

async fn notes(client: &Client, job: &Job) -> String {
    client.get(&job.id).await.attempts.last().expect("it was tried").notes.join("\n")
}

#[tokio::test]
async fn only_regular_files_of_the_folder_itself_are_stored_under_their_own_names() {
    const SCRIPT: &str = r#"cd /out; echo kept >kept; ln kept twin; ln /etc/passwd hard 2>/dev/null
        ln -s /etc/passwd passwd; ln -s / root; ln -s ../../../../../../etc/shadow up; ln -s loop loop
        mkfifo pipe; mkdir d; ln -s /etc d/etc; mkfifo d/pipe
        printf x >"$(printf 'not\377utf8')"; printf x >"$(printf 'two\nlines')"; printf x >"$(printf 'red\033[31m')"
        printf x >-rf; printf x >'a\b'; printf x >...; printf x >"$(seq -s '' 200 | head -c 255)"
        i=0; while [ $i -lt 300 ]; do mkdir n && cd n || exit 9; i=$((i + 1)); done; echo deep >bottom"#;
    let client = Client::connect(crate::shared::embedded()).await;
    let id = client.submit(shell(&image(), &waiting(SCRIPT))).await;
    client.prints(&id, "all set").await;
    let (out, secrets) = (out(&id), secrets());
    symlink(secrets.join("file"), out.join("secret")).expect("link");
    symlink(&secrets, out.join("secrets")).expect("link");
    let _socket = UnixListener::bind(out.join("socket")).expect("a socket");
    // What a container cannot make: endless, or somebody's disk.
    for node in [&["zero", "c", "1", "5"], &["disk", "b", "7", "0"]] {
        let made = Command::new("mknod").arg(out.join(node[0])).args(&node[1..]).status().expect("mknod");
        assert!(made.success());
    }
    fs::write(out.join("go"), "").expect("let it end");
    let job = client.ended(&id).await;
    assert_eq!(outcome(&job), "succeeded", "{job:?}");

    let artifacts = client.artifacts(&id).await;
    no_secret(&artifacts);
    let name =
        |path: &[u8]| artifacts.iter().find(|artifact| artifact.path[..] == *path).map(|found| found.size);
    let deep = [b"n/".repeat(300), b"bottom".to_vec()].concat();
    for (path, size) in [
        (&b"kept"[..], 5),
        (b"twin", 5),
        (b"not\xffutf8", 1),
        (b"two\nlines", 1),
        (b"red\x1b[31m", 1),
        (b"-rf", 1),
        (b"a\\b", 1),
        (b"...", 1),
        (&deep, 5),
    ] {
        assert_eq!(name(path), Some(size), "{}", String::from_utf8_lossy(path));
    }
    assert_eq!(artifacts.len(), 10, "{artifacts:?}");
    let notes = notes(&client, &job).await;
    for (left_out, kind) in [
        ("`passwd`", "a symbolic link"),
        ("`root`", "a symbolic link"),
        ("`secret`", "a symbolic link"),
        ("`secrets`", "a symbolic link"),
        ("`pipe`", "a named pipe"),
        ("`d/pipe`", "a named pipe"),
        ("`socket`", "a socket"),
        ("`zero`", "a device"),
        ("`disk`", "a device"),
    ] {
        assert!(notes.contains(&format!("{left_out}: {kind}, not stored")), "{left_out}: {notes}");
    }
    let cli = crate::shared::embedded().cli();
    cli.call(&["artifacts", "get", &id, "--out", "result"]).expect(0);
    let result = cli.folder().join("result");
    assert!(
        result.join(OsStr::from_bytes(&deep)).is_file()
            && result.join(OsStr::from_bytes(b"two\nlines")).is_file()
    );
}

#[tokio::test]
async fn a_sparse_file_is_stored_as_it_reads_or_left_out_when_no_disk_could_hold_it() {
    let client = Client::connect(crate::shared::embedded()).await;
    let script = "truncate -s 100G /out/huge; truncate -s 20M /out/small; echo kept >/out/kept";
    let job = client.run(shell(&image(), script)).await;
    assert_eq!(outcome(&job), "artifact_limit", "{job:?}");
    let detail = job.outcome.clone().expect("it ended").detail;
    assert!(detail.contains("first `huge`"), "{detail}");
    let artifacts = client.artifacts(&job.id).await;
    let small = artifacts.iter().find(|artifact| artifact.path[..] == *b"small").expect("it is stored");
    assert_eq!((small.size, artifacts.len()), (20 << 20, 2));
    assert_eq!(small.sha256, Sha256::digest(vec![0; 20 << 20]).to_vec());
}

/// Grows, removes, and swaps for links what is being stored, as fast as it can.
fn disturb(out: &Path, secrets: &Path, stop: &AtomicBool) {
    let grown = fs::OpenOptions::new().write(true).open(out.join("grow")).expect("it is there");
    let mut length = 8 << 20;
    // The folder goes at the end, so everything may fail then.
    while !stop.load(Ordering::Relaxed) && out.exists() {
        drop(grown.write_all_at(b"more", length));
        length += 4;
        for name in ["swap", "dir"] {
            let (path, link) = (out.join(name), out.join("link"));
            let (target, kept) =
                if name == "dir" { (secrets.to_owned(), "real") } else { (secrets.join("file"), "plain") };
            drop(symlink(target, &link));
            drop(fs::rename(&path, out.join(kept)).and_then(|()| fs::rename(&link, &path)));
            drop(fs::remove_file(&path).and_then(|()| fs::rename(out.join(kept), &path)));
        }
        drop(fs::remove_file(out.join("vanish")));
        drop(fs::write(out.join("vanish"), b"again"));
    }
}

#[tokio::test]
async fn files_that_change_while_they_are_stored_never_lead_outside_and_never_hang() {
    const SCRIPT: &str = "cd /out; mkdir dir; echo mine >dir/file; echo mine >swap; echo mine >vanish
        head -c 8m /dev/zero >grow; for i in $(seq 300); do head -c 20k /dev/urandom >f$i; done";
    let client = Client::connect(crate::shared::embedded()).await;
    let secrets = secrets();
    for _ in 0..5 {
        let id = client.submit(shell(&image(), &waiting(SCRIPT))).await;
        client.prints(&id, "all set").await;
        let (out, stop) = (out(&id), Arc::new(AtomicBool::new(false)));
        let disturber = {
            let (out, secrets, stop) = (out.clone(), secrets.clone(), Arc::clone(&stop));
            std::thread::spawn(move || disturb(&out, &secrets, &stop))
        };
        fs::write(out.join("go"), "").expect("let it end");
        let job = client.ended(&id).await;
        stop.store(true, Ordering::Relaxed);
        disturber.join().expect("it ends");
        assert!(["succeeded", "artifact_upload_failed"].contains(&outcome(&job).as_str()), "{job:?}");
        let artifacts = client.artifacts(&id).await;
        no_secret(&artifacts);
        let plain = artifacts.iter().filter(|artifact| artifact.path.starts_with(b"f")).count();
        assert!(plain <= 300 && (plain == 300 || outcome(&job) != "succeeded"), "{plain} of 300: {job:?}");
        // What could not be stored is kept there.
        if outcome(&job) == "succeeded" {
            until("nothing of it stays on the node", || async {
                if out.exists() { Err(()) } else { Ok(()) }
            })
            .await;
        }
    }
}
