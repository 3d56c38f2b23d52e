//! `longshore run` as people type it: output, exit codes, and the files that come back.

use longshore_tests::env::{Cluster, image, image_with};
use std::fs;

on_both! {
    a_run_brings_its_output_and_its_files
    exit_3_is_the_exit_code_and_keeps_the_files
    stderr_stays_out_of_stdout
    flags_reach_the_container
    programs_that_cannot_start_have_codes_of_their_own
}

/// Small enough that many fit beside each other.
const SMALL: [&str; 6] = ["--cpus", "0.1", "-m", "64m", "--scratch", "256m"];

fn run<'a>(before: &[&'a str], image: &'a str, script: &'a str) -> Vec<&'a str> {
    [&["run"], &SMALL[..], before, &["--entrypoint", "/bin/sh", image, "-c", script]].concat()
}

async fn a_run_brings_its_output_and_its_files(cluster: &Cluster) {
    let cli = cluster.cli();
    let image = image();
    let script = "echo ahoy; mkdir /out/deep; printf one >/out/a.txt; printf two >/out/deep/b.txt";
    let done = cli.call(&run(&["--out", "result"], &image, script)).expect(0);
    assert_eq!(done.text(), "ahoy\n");
    let result = cli.folder().join("result");
    assert_eq!(fs::read_to_string(result.join("a.txt")).expect("a.txt came back"), "one");
    assert_eq!(fs::read_to_string(result.join("deep/b.txt")).expect("deep/b.txt came back"), "two");
}

async fn exit_3_is_the_exit_code_and_keeps_the_files(cluster: &Cluster) {
    let cli = cluster.cli();
    let image = image();
    let done = cli.call(&run(&["--out", "result"], &image, "echo kept >/out/a.txt; exit 3")).expect(3);
    assert!(done.stderr.contains("exit_code"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(cli.folder().join("result/a.txt")).expect("a.txt came back"), "kept\n");
}

async fn stderr_stays_out_of_stdout(cluster: &Cluster) {
    let image = image();
    let done = cluster.cli().call(&run(&[], &image, "echo out; echo err >&2")).expect(0);
    assert_eq!(done.text(), "out\n");
    assert!(done.stderr.contains("err\n"), "{}", done.stderr);
}

async fn flags_reach_the_container(cluster: &Cluster) {
    let image = image();
    let script = "echo $A-$(id -u)-$(pwd); cat /sys/fs/cgroup/memory/memory.limit_in_bytes \
                  /sys/fs/cgroup/memory.max 2>/dev/null";
    let done = cluster.cli().call(&run(&["-e", "A=b", "-u", "1000", "-w", "/etc"], &image, script));
    let text = done.text();
    assert!(text.starts_with(&format!("b-1000-/etc\n{}\n", 64 << 20)), "{text}{}", done.stderr);
}

async fn programs_that_cannot_start_have_codes_of_their_own(cluster: &Cluster) {
    let cli = cluster.cli();
    let image = image();
    for (program, code, outcome) in
        [("/no/such", 127, "entrypoint_not_found"), ("/etc/passwd", 126, "entrypoint_not_executable")]
    {
        let done =
            cli.call(&[&["run"], &SMALL[..], &["--entrypoint", program, &image]].concat()).expect(code);
        assert!(done.stderr.contains(outcome), "{program}: {}", done.stderr);
    }
    let fails = image_with("fails", "ENTRYPOINT [\"/bin/false\"]");
    cli.call(&[&["run"], &SMALL[..], &[&fails]].concat()).expect(1);
}
