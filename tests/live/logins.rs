//! People and their tokens, as typed: login, what a role may, what is left of a revoked one.

use longshore_tests::env::{Cli, Finished, image};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

fn cli() -> Cli {
    crate::shared::embedded().cli()
}

/// As somebody who has nothing but what `login` kept.
fn bare(cli: &Cli, arguments: &[&str]) -> Finished {
    typed(cli, arguments, "")
}

/// The same with something on stdin.
fn typed(cli: &Cli, arguments: &[&str], stdin: &str) -> Finished {
    let file = cli.folder().join("stdin");
    fs::write(&file, stdin).expect("write what is typed");
    let mut command = cli.command(arguments);
    command.env_remove("LONGSHORE_TOKEN").env_remove("LONGSHORE_URL").env_remove("XDG_CONFIG_HOME");
    let output = command.stdin(Stdio::from(fs::File::open(file).expect("open it"))).output();
    output.expect("run longshore").into()
}

#[test]
fn nobody_else_on_the_machine_reads_what_the_controller_keeps() {
    let data = crate::shared::embedded().data();
    for file in ["longshore.db", "longshore.db-wal", "admin.token", "logs"] {
        let mode = fs::metadata(data.join(file)).expect(file).permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{file}");
    }
}

#[test]
fn a_person_logs_in_works_and_is_shut_out() {
    let cli = cli();
    let url = crate::shared::embedded().url();
    let refused = bare(&cli, &["ls", "--url", &url]).expect(1);
    assert!(refused.stderr.contains("longshore login"), "{}", refused.stderr);
    cli.call(&["projects", "create", "story", "--running", "3"]).expect(0);
    cli.call(&["projects", "create", "story"]).expect(2);
    let made = cli.call(&["tokens", "create", "anna", "--role", "submitter", "--project", "story"]).expect(0);
    let token = made.text();
    assert!(token.starts_with("lst_") && token.lines().count() == 1, "the text alone: {token}");
    let wrong = typed(&cli, &["login", &url], "lst_aaaaaaaa_nonsense\n").expect(1);
    assert!(wrong.stderr.contains("not known"), "{}", wrong.stderr);
    assert!(!cli.folder().join(".config/longshore/contexts.toml").exists(), "nothing is kept of a wrong one");
    let welcome = typed(&cli, &["login", &url, "--name", "lab"], &token).expect(0);
    assert!(welcome.stderr.contains("anna (submitter, story)"), "{}", welcome.stderr);
    let kept = cli.folder().join(".config/longshore/contexts.toml");
    assert_eq!(fs::metadata(&kept).expect("kept").permissions().mode() & 0o777, 0o600);
    assert!(bare(&cli, &["whoami"]).expect(0).text().contains("anna (submitter, story)"));
    let file = format!(
        "kind: job\nimage: {}\nentrypoint: [/bin/true]\ncommand: []\nresources: {{cpu: 100m}}\n",
        image()
    );
    fs::write(cli.folder().join("job.yaml"), file).expect("write a job file");
    let job = bare(&cli, &["submit", "-f", "job.yaml"]).expect(0).text().trim().to_owned();
    bare(&cli, &["wait", &job]).expect(0);
    let shown = cli.call(&["ls", "-a", "-o", "json", "--project", "story"]).expect(0).text();
    assert!(shown.contains(&job), "{shown}");
    let denied = bare(&cli, &["tokens", "ls"]).expect(1);
    assert!(denied.stderr.contains("takes at least admin"), "{}", denied.stderr);
    let elsewhere = bare(&cli, &["ls", "--project", "default"]).expect(1);
    assert!(elsewhere.stderr.contains("bound to project `story`"), "{}", elsewhere.stderr);
    cli.call(&["tokens", "revoke", "anna"]).expect(0);
    bare(&cli, &["ls"]).expect(1);
    let audit = cli.call(&["audit", "--actor", "token anna", "-o", "json"]).expect(0).text();
    assert!(
        audit.contains("Jobs/Submit") && audit.contains(&job) && audit.contains("PERMISSION_DENIED"),
        "{audit}"
    );
    assert!(!audit.contains(token.trim()), "no token is in the audit log");
    assert!(bare(&cli, &["contexts"]).expect(0).text().contains("lab"));
    bare(&cli, &["logout"]).expect(0);
    assert!(!bare(&cli, &["contexts"]).expect(0).text().contains("lab"));
}
