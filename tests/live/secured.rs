//! The whole way under TLS: nothing between client, controller and agent in plain text, and nobody in without a token or
//! a certificate.

use longshore_tests::env::{embedded, image};
use std::fs;

#[test]
fn a_job_with_inputs_and_files_goes_its_way_under_tls() {
    let mut cluster = embedded().secured().start();
    assert!(cluster.url().starts_with("https://"));
    let cli = cluster.cli();
    let data = cli.folder().join("data");
    fs::create_dir(&data).expect("make a folder");
    fs::write(data.join("f"), "some bytes\n").expect("write a file");
    let script = "cat /in/data/f; tr a-z A-Z </in/data/f >/out/g; exit 3";
    let image = image();
    let run = [
        "run",
        "--cpus",
        "0.1",
        "-m",
        "64m",
        "--scratch",
        "256MiB",
        "--input",
        "data=data",
        "--out",
        "result",
    ];
    let line = [&run[..], &["--entrypoint", "/bin/sh", &image, "-c", script]].concat();
    assert_eq!(cli.call(&line).expect(3).text(), "some bytes\n");
    assert_eq!(fs::read_to_string(cli.folder().join("result/g")).expect("it came"), "SOME BYTES\n");
    // Its certificate lets the next process of the agent in, without a token.
    cluster.kill_agent(0);
    cluster.start_agent(0);
    cli.call(&line).expect(3);
    let strangers =
        cli.command(&["ls"]).env("LONGSHORE_CA_FILE", "/dev/null").output().expect("run longshore");
    assert_ne!(strangers.status.code(), Some(0), "who does not know the authority trusts nobody");
}
