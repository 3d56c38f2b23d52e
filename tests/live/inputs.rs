//! Inputs: a local folder, and another job's outputs. Whole, read-only, and uploaded once.

use longshore_proto::v1::{Input, JobInput, Stream, input::Source};
use longshore_tests::env::{Client, Cluster, image, outcome, shell};
use std::fs;

on_both! {
    a_local_folder_arrives_whole_and_read_only
    what_is_stored_is_not_uploaded_again
    another_jobs_outputs_are_an_input
}

async fn a_local_folder_arrives_whole_and_read_only(cluster: &Cluster) {
    let cli = cluster.cli();
    let data = cli.folder().join("data");
    fs::create_dir_all(data.join("deep/er")).expect("make a folder");
    fs::write(data.join("a.txt"), "one").expect("write a file");
    fs::write(data.join("deep/er/empty"), "").expect("write a file");
    fs::write(data.join("deep/large"), vec![7; 20 << 20]).expect("write a file");
    let script =
        "cd /in/data; find . -type f | sort | xargs sha256sum; touch new 2>/dev/null && echo writable";
    let image = image();
    let arguments = [
        "run",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--input",
        "data=data",
        "--entrypoint",
        "/bin/sh",
        &image,
        "-c",
        script,
    ];
    let inside = cli.call(&arguments).text();
    let mut command = std::process::Command::new("sh");
    let outside = command.args(["-c", "find . -type f | sort | xargs sha256sum"]).current_dir(&data).output();
    assert_eq!(inside, String::from_utf8_lossy(&outside.expect("run sha256sum").stdout));
}

async fn what_is_stored_is_not_uploaded_again(cluster: &Cluster) {
    let cli = cluster.cli();
    fs::create_dir(cli.folder().join("data")).expect("make a folder");
    fs::write(cli.folder().join("data/f"), cli.folder().display().to_string()).expect("write a file");
    let image = image();
    let arguments = [
        "run",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--input",
        "data=data",
        "--entrypoint",
        "/bin/true",
        &image,
    ];
    cli.call(&arguments).expect(0);
    let again = cli.call(&arguments).expect(0);
    assert!(again.stderr.contains("1 already stored"), "{}", again.stderr);
}

async fn another_jobs_outputs_are_an_input(cluster: &Cluster) {
    let client = Client::connect(cluster).await;
    let first = client.run(shell(&image(), "mkdir /out/d; echo one >/out/d/a; echo two >/out/b")).await;
    let mut spec = shell(&image(), "cd /in/before; find . -type f | sort | xargs cat");
    let from = JobInput { job: first.id.clone(), path: String::new() };
    spec.inputs.insert("before".to_owned(), Input { source: Some(Source::Job(from)) });
    let second = client.run(spec).await;
    assert_eq!(outcome(&second), "succeeded", "{second:?}");
    assert_eq!(client.printed(&second.id, Stream::Stdout).await, b"two\none\n");
}
