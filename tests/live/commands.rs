//! The commands around a job, from its file to its removal, on the embedded cluster.

use longshore_tests::env::{Cli, image};
use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

fn cli() -> Cli {
    crate::shared::embedded().cli()
}

/// A job file that prints, leaves a file and exits with 3.
fn job_file(name: &str) -> String {
    format!(
        "kind: job\nname: {name}\nimage: {}\nentrypoint: [/bin/sh, -c]\n\
         command: [\"echo one; echo two; echo data >/out/f; exit 3\"]\n\
         resources: {{cpu: 100m, memory: 64MiB, scratch: 256MiB}}\nlabels: {{story: {name}}}\n",
        image()
    )
}

fn submit(cli: &Cli, name: &str) -> String {
    fs::write(cli.folder().join("job.yaml"), job_file(name)).expect("write a job file");
    cli.call(&["submit", "-f", "job.yaml"]).expect(0).text().trim().to_owned()
}

#[test]
fn a_job_goes_from_its_file_to_its_removal() {
    let cli = cli();
    let id = submit(&cli, "whole-life");
    assert_eq!(id.len(), 8, "submit prints the id alone: {id}");
    cli.call(&["wait", &id]).expect(3);
    assert_eq!(cli.call(&["logs", &id]).expect(0).text(), "one\ntwo\n");
    assert_eq!(cli.call(&["logs", "-n", "1", &id]).expect(0).text(), "two\n");
    assert_eq!(cli.call(&["logs", "-f", &id]).expect(3).text(), "one\ntwo\n");
    let shown = cli.call(&["show", &id]).expect(0).text();
    assert!(shown.contains("exit_code") && shown.contains("(default)"), "{shown}");
    assert!(cli.call(&["artifacts", "ls", &id]).expect(0).text().contains('f'));
    let listed = cli.call(&["ls", "-a", "-o", "json", "--label", "story=whole-life"]).expect(0).text();
    assert!(listed.contains(&id), "{listed}");
    cli.call(&["rm", &id]).expect(0);
    cli.call(&["show", &id]).expect(1);
}

#[test]
fn a_job_is_named_by_prefix_and_by_name() {
    let cli = cli();
    let id = submit(&cli, "many-names");
    for name in [&id[..7], "many-names"] {
        assert!(cli.call(&["show", name]).expect(0).text().contains(&id), "{name}");
    }
    let newer = submit(&cli, "many-names");
    assert!(cli.call(&["show", "many-names"]).expect(0).text().contains(&newer), "the newest of that name");
    cli.call(&["wait", &id, &newer]);
}

#[test]
fn a_retry_is_a_new_job_that_names_the_old_one() {
    let cli = cli();
    let id = submit(&cli, "retried");
    cli.call(&["wait", &id]).expect(3);
    let retried = cli.call(&["retry", &id]).expect(0).text();
    let retried = retried.split_whitespace().find(|word| word.len() == 8).expect("an id").to_owned();
    assert_ne!(retried, id);
    cli.call(&["wait", &retried]).expect(3);
    assert!(
        cli.call(&["show", "-o", "json", &retried]).expect(0).text().contains(&id),
        "it names the old one"
    );
}

#[test]
fn the_same_file_on_stdin_with_one_request_id_is_one_job() {
    let cli = cli();
    let submit = || {
        let arguments = ["submit", "-f", "-", "--request-id", "stdin-story"];
        let mut child = cli.command(&arguments);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run longshore");
        let text = job_file("stdin");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("write to longshore");
        String::from_utf8(child.wait_with_output().expect("wait").stdout).expect("text")
    };
    let (first, second) = (submit(), submit());
    assert_eq!(first, second);
    cli.call(&["wait", first.trim()]).expect(3);
}

#[test]
fn the_state_of_the_cluster_is_told() {
    let cli = cli();
    cli.call(&["status"]).expect(0);
    let agents = cli.call(&["agents", "ls"]).expect(0).text();
    assert!(agents.contains("agent-0") && agents.contains("online"), "{agents}");
    let schema = cli.call(&["schema", "job"]).expect(0).text();
    assert!(schema.contains("\"$schema\""), "{schema}");
}

#[test]
fn a_backup_taken_under_way_can_be_restored() {
    let data = longshore_tests::env::fresh_dir("backed-up");
    let cluster = longshore_tests::env::embedded().data(data.clone()).start();
    let cli = cluster.cli();
    let id = submit(&cli, "backed-up");
    cli.call(&["wait", &id]).expect(3);
    let [data, copy, restored] = [data.clone(), data.join("copy.db"), data.join("restored")]
        .map(|path| path.to_str().expect("test folders have plain names").to_owned());
    cli.call(&["controller", "backup", "--data-dir", &data, "--to", &copy]).expect(0);
    let said = cli.call(&["controller", "restore", "--data-dir", &restored, "--from", &copy]).expect(0);
    assert!(said.stderr.contains("epoch 2"), "{}", said.stderr);
    let refused = cli.call(&["controller", "restore", "--data-dir", &data, "--from", &copy, "--force"]);
    assert_ne!(refused.code, 0, "a database in use must not be replaced");
    let second = longshore_tests::env::embedded().data(restored.into()).agents(0).start();
    assert!(second.cli().call(&["show", &id]).expect(0).text().contains("exit_code"));
}

#[test]
fn every_command_explains_itself() {
    let binary = longshore_tests::env::binary();
    for command in ["run", "submit", "wait", "ls", "show", "logs", "cancel", "retry", "rm", "agents", "dev"] {
        let output = Command::new(binary).args([command, "--help"]).output().expect("run longshore");
        assert!(output.status.success() && output.stdout.len() > 100, "{command}: {output:?}");
    }
}
