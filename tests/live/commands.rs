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

/// What a command printed, as JSON.
fn json(finished: &longshore_tests::env::Finished) -> serde_json::Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.text()))
}

#[test]
fn scripts_read_every_result() {
    let cli = cli();
    let id = submit(&cli, "for-scripts");
    assert_eq!(json(&cli.call(&["wait", &id, "-o", "json"]).expect(3))[0]["outcome"]["exit_code"], 3);
    let logs = cli.call(&["logs", &id, "-o", "json"]).expect(0).text();
    let texts: Vec<_> = logs
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
        .filter(|record| record["stream"] == "stdout")
        .map(|record| record["text"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(texts.concat(), "one\ntwo\n");
    let fetched = json(&cli.call(&["artifacts", "get", &id, "--out", "result", "-o", "json"]).expect(0));
    assert_eq!((fetched["files"].as_u64(), fetched["attempt"].as_u64()), (Some(1), Some(1)));
    let small = ["--cpus", "0.1", "-m", "64m", "--scratch", "256m", "--entrypoint", "/bin/sh"];
    let image = image();
    let run = [&["run", "-o", "json"], &small[..], &[&image, "-c", "echo ahoy; exit 4"]].concat();
    let ran = cli.call(&run).expect(4).text();
    let last: serde_json::Value =
        serde_json::from_str(ran.lines().last().unwrap_or_default()).expect("a line of JSON");
    assert_eq!(last["job"]["outcome"]["exit_code"], 4);
    assert!(ran.contains("\"text\":\"ahoy\\n\""), "{ran}");
    let retried = json(&cli.call(&["retry", &id, "-o", "json"]).expect(0));
    let retried = retried[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(json(&cli.call(&["cancel", &retried, "-o", "json"]).expect(0))[0]["id"], retried);
    cli.call(&["wait", &retried]);
    assert_eq!(json(&cli.call(&["rm", &retried, "-o", "json"]).expect(0))[0]["removed"], true);
}

#[test]
fn one_unknown_job_hinders_no_other() {
    let cli = cli();
    let id = submit(&cli, "in-bulk");
    let waited = cli.call(&["wait", "no-such-job", &id]).expect(125);
    assert!(waited.text().contains(&id) && waited.stderr.contains("no-such-job"), "{waited:?}");
    let cancelled = cli.call(&["cancel", "no-such-job", &id]).expect(1);
    assert!(cancelled.text().contains(&id) && cancelled.stderr.contains("no-such-job"), "{cancelled:?}");
    let removed = cli.call(&["rm", "no-such-job", &id]).expect(1);
    assert!(removed.text().contains(&id) && removed.stderr.contains("no-such-job"), "{removed:?}");
    cli.call(&["show", &id]).expect(1);
}

#[test]
fn what_is_not_there_is_refused_and_named() {
    let cli = cli();
    let file = job_file("unfinished").replace("echo one;", "sleep 600;");
    fs::write(cli.folder().join("job.yaml"), file).expect("write a job file");
    let id = cli.call(&["submit", "-f", "job.yaml"]).expect(0).text().trim().to_owned();
    let early = cli.call(&["artifacts", "get", &id]).expect(1);
    assert!(early.stderr.contains("has not ended"), "{}", early.stderr);
    cli.call(&["cancel", &id]).expect(0);
    cli.call(&["wait", &id]).expect(130);
    let refused = cli.call(&["run", "--input", &format!("a=job:{id}/nothere"), &image()]).expect(2);
    assert!(refused.stderr.contains("`nothere`"), "{}", refused.stderr);
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
    cli.call(&["controller", "admin-token", "--data-dir", &restored]).expect(0);
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

/// An action that greets, with a version for each word.
fn action_file(word: &str) -> String {
    format!(
        "kind: action\nname: greet\ndescription: Says a word to somebody.\nimage: {}\nentrypoint: [/bin/sh, -c]\n\
         command: [\"echo {word} $WHO; echo $WHO >/out/who; cat /in/list/* || true\"]\n\
         env: {{WHO: {{required: true, pattern: \"[a-z]+\"}}, TIMES: {{type: int, default: 1, max: 3}}}}\n\
         inputs: {{list: {{description: whom else}}}}\nadjustable: [resources.memory]\n\
         resources: {{cpu: 100m, memory: 64MiB, scratch: 256MiB}}\n",
        image()
    )
}

#[test]
fn an_action_goes_from_its_file_to_its_runs_and_back() {
    let cli = cli();
    let write = |word: &str| fs::write(cli.folder().join("greet.yaml"), action_file(word)).expect("write");
    let apply = |more: &[&str]| {
        let line = [&["actions", "apply", "-f", "greet.yaml"], more].concat();
        cli.call(&line).expect(0).text()
    };
    write("ahoy");
    let dry = apply(&["--dry-run"]);
    assert!(
        dry.starts_with("greet@1 would be made\n") && dry.contains("  name: (not said) → greet\n"),
        "{dry}"
    );
    assert_eq!(apply(&[]), "greet@1 made\n");
    assert_eq!(apply(&[]), "greet@1 unchanged\n");
    fs::create_dir(cli.folder().join("list")).expect("a folder");
    fs::write(cli.folder().join("list/a"), "anna\n").expect("a file");
    let run = ["run", "--set", "WHO=bob", "--input", "list=./list", "-m", "80m", "--out", "result", "@greet"];
    let ran = cli.call(&run).expect(0);
    assert_eq!(ran.text(), "ahoy bob\nanna\n");
    assert!(ran.stderr.contains("greet@1"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(cli.folder().join("result/who")).expect("fetched"), "bob\n");

    write("hello");
    assert!(apply(&["--if-version", "1"]).contains("greet@2 made\n  command: "));
    let stale = cli.call(&["actions", "apply", "-f", "greet.yaml", "--if-version", "1"]).expect(1);
    assert!(stale.stderr.contains("the latest version of greet is 2, not 1"), "{}", stale.stderr);
    assert_eq!(
        cli.call(&["actions", "run", "--set", "WHO=bob", "greet@1"]).expect(0).text().lines().next(),
        Some("ahoy bob")
    );
    let listed = json(&cli.call(&["ls", "-a", "--action", "greet@1", "-o", "json"]).expect(0));
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let shown = cli.call(&["show", "greet"]).expect(0).text();
    assert!(shown.contains("action      greet@1"), "{shown}");
    assert!(cli.call(&["actions", "diff", "greet"]).expect(0).text().contains("command: "));

    let wrong =
        cli.call(&["run", "--set", "WOH=bob", "--set", "TIMES=9", "--cpus", "2", "@greet"]).expect(2).stderr;
    for says in
        ["did you mean `WHO`?", "9 is not 3 or less", "set.WHO: is missing", "resources.cpu: is fixed"]
    {
        assert!(wrong.contains(says), "{says}: {wrong}");
    }
    let slip = cli.call(&["run", "--set", "WHO=bob", "@gret"]).expect(2).stderr;
    assert!(slip.contains("did you mean `greet`?"), "{slip}");

    let document = cli.call(&["actions", "show", "greet", "-o", "yaml"]).expect(0).text();
    fs::write(cli.folder().join("greet.yaml"), document).expect("write");
    assert_eq!(apply(&[]), "greet@2 unchanged\n", "what is shown is what was applied");
    let about = cli.call(&["actions", "show", "greet"]).expect(0).text();
    assert!(about.contains("WHO") && about.contains("(required)") && about.contains("whom else"), "{about}");
    cli.call(&["actions", "archive", "greet"]).expect(0);
    assert!(!cli.call(&["actions", "ls"]).expect(0).text().contains("greet"));
    let refused = cli.call(&["run", "--set", "WHO=bob", "@greet"]).expect(125).stderr;
    assert!(refused.contains("longshore actions restore greet"), "{refused}");
    let restored = cli.call(&["actions", "restore", "greet@1"]).expect(0).stderr;
    assert!(restored.contains("greet@3 is the latest now"), "{restored}");
    let versions = cli.call(&["actions", "versions", "greet"]).expect(0).text();
    assert!(versions.contains("latest, as 1 was"), "{versions}");
    let file = "kind: job\naction: greet\nset: {WHO: carl}\nname: from-file\n";
    fs::write(cli.folder().join("job.yaml"), file).expect("write");
    let id = cli.call(&["submit", "-f", "job.yaml"]).expect(0).text().trim().to_owned();
    cli.call(&["wait", &id]).expect(0);
    assert_eq!(cli.call(&["logs", "from-file"]).expect(0).text().lines().next(), Some("ahoy carl"));
    let advice = cli.call(&["actions", "advise", "greet"]).expect(0).text();
    assert!(advice.contains("greet@3") || advice.contains("nothing is known yet"), "{advice}");
}
