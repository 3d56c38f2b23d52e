//! Links to results: opened by whoever has one, on both stores, and by nobody when it is over. And what is said about a
//! bad end.

use longshore_proto::v1::{LinkResultsRequest, Stream};
use longshore_tests::env::{Client, Cluster, embedded, fresh_dir, image, outcome, program, shell, until};
use reqwest::{Client as Http, StatusCode, Url, redirect};
use std::{collections::BTreeMap, fs, os::unix::ffi::OsStrExt as _, path::Path, process::Command};

on_both! {
    a_link_opens_the_folder_each_file_and_all_of_them_as_one_archive
}

fn http() -> Http {
    // Once for the process; another story may have done it.
    drop(rustls::crypto::ring::default_provider().install_default());
    Http::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("a plain client")
}

pub(crate) async fn get(url: &str) -> (StatusCode, Vec<u8>) {
    let answer = http().get(url).send().await.expect("it answers");
    (answer.status(), answer.bytes().await.expect("all of it").to_vec())
}

/// Hostile names, a long one, one that is no text, an empty file and one of several pieces.
const LEAVES: &str = "cd /out; mkdir dir 'a <b>'; echo one >dir/one; echo two >\"a <b>/<script>&'\\\".txt\"; \
    l=$(printf 'x%.0s' $(seq 200)); mkdir $l; echo long >$l/$l; printf raw >\"$(printf 'bad\\377name')\"; \
    echo rocket >'🚀 ü.txt'; : >empty; dd if=/dev/urandom of=big bs=1M count=3 2>/dev/null; sha256sum big; exit 4";

/// Files of the archive by name, with their contents.
fn unpacked(archive: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let folder = fresh_dir("unpacked");
    let mut tar = Command::new(program(&["tar"], "tar"));
    let done = tar.arg("-xf").arg(archive).arg("-C").arg(&folder).output().expect("run tar");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.clone()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("it is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).expect("it is below").as_os_str().as_bytes().to_vec();
                files.insert(name, fs::read(&path).expect("it reads"));
            }
        }
    }
    files
}

async fn a_link_opens_the_folder_each_file_and_all_of_them_as_one_archive(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), LEAVES)).await;
    assert_eq!(outcome(&job), "exit_code", "what it left counts, however it ended: {job:?}");
    let digest = String::from_utf8(client.printed(&job.id, Stream::Stdout).await).expect("text");
    let link = client.get(&job.id).await.result.expect("it left files");
    assert!(link.folder.starts_with(&format!("{}/results/", cluster.url())), "{link:?}");

    let (status, page) = get(&link.folder).await;
    let page = String::from_utf8(page).expect("text");
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    let base = Url::parse(&link.folder).expect("an address");
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let links: Vec<_> = links.filter(|link| link.starts_with("out/")).collect();
    assert_eq!(links.len(), 7, "{page}");
    let mut bodies = Vec::new();
    for link in links {
        let (status, body) = get(base.join(link).expect("below").as_str()).await;
        assert_eq!(status, StatusCode::OK, "{link}");
        bodies.push(body);
    }
    let archive = fresh_dir("archive").join("out.tar");
    let (status, bytes) = get(&link.archive).await;
    assert_eq!(status, StatusCode::OK);
    fs::write(&archive, bytes).expect("written");
    let files = unpacked(&archive);
    assert_eq!(files.len(), 7, "{:?}", files.keys());
    for name in
        [&b"out/bad\xffname"[..], "out/🚀 ü.txt".as_bytes(), b"out/a <b>/<script>&'\".txt", b"out/empty"]
    {
        assert!(files.contains_key(name), "{}", String::from_utf8_lossy(name));
    }
    let long = "x".repeat(200);
    assert_eq!(files[format!("out/{long}/{long}").as_bytes()], b"long\n");
    assert!(files.values().all(|body| bodies.contains(body)), "each is what its link opens");
    let cli = cluster.cli();
    cli.call(&["artifacts", "get", &job.id, "--archive", "--out", "kept"]).expect(0);
    assert_eq!(unpacked(&cli.folder().join(format!("kept/{}.tar", job.id))), files);
    let told = cli.call(&["artifacts", "link", &job.id, "dir/one", "--expires", "1h"]).expect(0).text();
    assert_eq!(get(told.trim()).await, (StatusCode::OK, b"one\n".to_vec()));
    assert!(digest.contains("big"));
    let shown = cli.call(&["show", &job.id]).expect(0).text();
    assert!(shown.contains("/results/") && shown.contains("out.tar"), "{shown}");
}

#[tokio::test]
async fn a_link_that_is_changed_over_or_of_a_removed_job_opens_nothing() {
    let cluster = crate::shared::embedded();
    let client = Client::connect(cluster).await;
    let job = client.run(shell(&image(), "echo x >/out/x")).await;
    let link = client.get(&job.id).await.result.expect("it left a file");
    let at = link.folder.len() - 10;
    let other = if link.folder.as_bytes()[at] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &link.folder[..at], &link.folder[at + 1..]);
    assert_eq!(get(&changed).await.0, StatusCode::FORBIDDEN);
    for (path, status) in
        [("out/y", StatusCode::NOT_FOUND), ("out/../out/x", StatusCode::OK), ("x", StatusCode::NOT_FOUND)]
    {
        assert_eq!(get(&format!("{}{path}", link.folder)).await.0, status, "{path}");
    }
    let bare = link.folder.trim_end_matches('/');
    assert_eq!(get(bare).await.0, StatusCode::PERMANENT_REDIRECT);
    let request = LinkResultsRequest {
        job: job.id.clone(),
        valid: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..LinkResultsRequest::default()
    };
    let brief = client.jobs.clone().link_results(request.clone()).await.expect("made").into_inner();
    let brief = brief.link.expect("a link").folder;
    assert_eq!(get(&brief).await.0, StatusCode::OK);
    until("it is over", || async {
        let status = get(&brief).await.0;
        if status == StatusCode::GONE { Ok(()) } else { Err(status) }
    })
    .await;
    let long = prost_types::Duration { seconds: 8 * 24 * 3600, nanos: 0 };
    let refused = client.jobs.clone().link_results(LinkResultsRequest { valid: Some(long), ..request }).await;
    assert!(refused.expect_err("too long").message().contains("valid"));
    cluster.cli().call(&["rm", &job.id]).expect(0);
    for url in [&link.folder, &link.archive] {
        assert_eq!(get(url).await.0, StatusCode::GONE, "{url}");
    }
    let nothing = client.run(shell(&image(), "true")).await;
    assert_eq!(client.get(&nothing.id).await.result, None);
}

#[tokio::test]
async fn under_tls_links_are_of_the_public_address_and_the_archive_comes_verified() {
    let cluster = embedded().secured().start();
    let cli = cluster.cli();
    let image = image();
    let run = [
        "run",
        "--cpus",
        "0.1",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--name",
        "tls",
        "--entrypoint",
        "/bin/sh",
    ];
    let done = cli.call(&[&run[..], &[&image, "-c", "echo x >/out/x"]].concat()).expect(0);
    assert!(done.stderr.contains("result: https://"), "{}", done.stderr);
    cli.call(&["artifacts", "get", "tls", "--archive"]).expect(0);
    assert_eq!(unpacked(&cli.folder().join("tls.tar"))[&b"out/x"[..]], b"x\n");
}

#[tokio::test]
async fn a_bad_end_is_told_with_what_to_do_and_the_line_it_is_about() {
    let client = Client::connect(crate::shared::embedded()).await;
    let said =
        "echo starting; echo \"PermissionError: [Errno 13] Permission denied: '/out/a/b'\" >&2; exit 1";
    let job = client.run(shell(&image(), said)).await;
    let hints = client.get(&job.id).await.hints;
    assert_eq!(hints.iter().map(|hint| hint.name.as_str()).collect::<Vec<_>>(), ["out_not_writable"]);
    assert!(hints[0].line.contains("/out/a/b") && hints[0].text.contains("every user"), "{hints:?}");
    let cli = crate::shared::embedded().cli();
    let shown = cli.call(&["show", &job.id]).expect(0).text();
    assert!(shown.contains("hint") && shown.contains("open to every user"), "{shown}");
    let small = ["--cpus", "0.1", "-m", "64m", "--scratch", "256m", "--entrypoint", "/bin/sh"];
    let image = image();
    let command = [&image, "-c", "echo 'RuntimeError: Found no NVIDIA driver on your system' >&2; exit 1"];
    let done = cli.call(&[&["run"][..], &small, &command].concat()).expect(1);
    assert!(done.stderr.contains("hint: ") && done.stderr.contains("--gpus 1"), "{}", done.stderr);
}

#[tokio::test]
async fn a_kill_after_reading_more_files_than_its_memory_is_not_called_one_for_memory() {
    let client = Client::connect(crate::shared::embedded()).await;
    let read = "dd if=/dev/zero of=/tmp_disk/big bs=1M count=128 2>/dev/null; cat /tmp_disk/big >/dev/null; sleep 1; exit 137";
    let job = client.run(shell(&image(), read)).await;
    let told = client.get(&job.id).await;
    let usage = told.attempts[0].usage.expect("measured");
    assert!(usage.memory_peak_bytes >= 60 << 20, "page cache fills what it may have: {usage:?}");
    assert_eq!(outcome(&job), "exit_code");
    assert!(told.hints.iter().all(|hint| hint.name != "memory"), "{:?}", told.hints);
}
