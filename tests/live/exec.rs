//! Another process in a running container: as people type it, on a real engine.

use longshore_proto::v1::JobState;
use longshore_tests::env::{Client, Cluster, docker, embedded, image, shell, until};
use std::{
    io::{Read as _, Write as _},
    process::{Child, Stdio},
};

/// A job that goes on until it is stopped.
async fn running(cluster: &Cluster, client: &Client) -> String {
    let mut spec = shell(&image(), "trap 'exit 0' TERM; echo at-work; while :; do sleep 0.2; done");
    spec.secret_env = [("HF_TOKEN".to_owned(), "hf-token".to_owned())].into();
    let job = client.submit(spec).await;
    client.prints(&job, "at-work").await;
    until("the controller knows that it runs", || async {
        let shown = cluster.cli().call(&["show", &job]);
        if shown.text().contains("running") { Ok(()) } else { Err(shown.text()) }
    })
    .await;
    job
}

fn spawn(cluster: &Cluster, arguments: &[&str]) -> Child {
    let mut command = cluster.cli().command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("run longshore")
}

/// Reads until the child has said this.
fn hears(child: &mut Child, text: &str) {
    let stdout = child.stdout.as_mut().expect("piped");
    let (mut seen, mut piece) = (String::new(), [0; 1024]);
    while !seen.contains(text) {
        let read = stdout.read(&mut piece).expect("it speaks");
        assert!(read > 0, "it ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

/// What the job's container runs, as `ps` in it has it.
fn processes(job: &str) -> String {
    let container = docker(&["ps", "-q", "--filter", &format!("name=longshore-{job}-")]);
    docker(&["top", &container, "-eo", "pid,args"])
}

async fn nothing_is_left(job: &str, of: &str) {
    until("nothing is left in the container", || async {
        let all = processes(job);
        if all.contains(of) { Err(all) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn a_session_is_as_docker_has_it_and_leaves_nothing() {
    let cluster = embedded().start();
    let cli = cluster.cli();
    let mut set = spawn(&cluster, &["secrets", "set", "hf-token"]);
    set.stdin.take().expect("piped").write_all(b"hunter2-and-more\n").expect("it reads");
    assert!(set.wait().expect("it ends").success());
    let client = Client::connect(&cluster).await;
    let job = running(&cluster, &client).await;

    let done = cli.call(&["exec", &job, "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).expect(3);
    assert_eq!((done.text().as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    let script = "echo $A-$(id -u)-$(pwd); printf %s \"$HF_TOKEN\"; echo; printf hunt";
    let done =
        cli.call(&["exec", "-e", "A=b", "-u", "1000", "-w", "/etc", &job, "sh", "-c", script]).expect(0);
    assert_eq!(done.text(), "b-1000-/etc\n***\nhunt");
    assert_eq!(cli.call(&["exec", &job, "cat"]).expect(0).text(), "", "no stdin without -i");
    let missing = cli.call(&["exec", &job, "/no/such"]);
    assert!(matches!(missing.code, 126 | 127), "{missing:?}");

    // More than what any buffer holds, both ways.
    let mut cat = spawn(&cluster, &["exec", "-i", &job, "cat"]);
    let (mut stdin, mut stdout) = (cat.stdin.take().expect("piped"), cat.stdout.take().expect("piped"));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let expected = sent.clone();
    let feeding = std::thread::spawn(move || stdin.write_all(&sent).expect("it reads"));
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).expect("it ends");
    feeding.join().expect("fed");
    assert!(cat.wait().expect("it ends").success());
    assert!(back == expected, "{} bytes came back of {}", back.len(), expected.len());

    // A caller that dies takes its process along, and what that has started.
    let script = "echo begun; (setsid sleep 4321 &); sleep 4321";
    let mut killed = spawn(&cluster, &["exec", &job, "sh", "-c", script]);
    hears(&mut killed, "begun");
    assert!(processes(&job).contains("sleep 4321"));
    killed.kill().expect("killed");
    killed.wait().expect("it ends");
    nothing_is_left(&job, "sleep 4321").await;
    // What a command leaves behind goes with it.
    cli.call(&["exec", &job, "sh", "-c", "sleep 1234 >/dev/null 2>&1 & echo ok"]).expect(0);
    nothing_is_left(&job, "sleep 1234").await;

    // A terminal, of a size that is told.
    let done = cli.call(&["exec", "-t", &job, "sh", "-c", "test -t 1 && echo terminal"]).expect(0);
    assert_eq!(done.text(), "terminal\r\n");

    // The job itself has seen none of it.
    let log = cli.call(&["logs", &job]).text();
    assert_eq!(log, "at-work\n");
    let log = cli.call(&["logs", &job]).stderr;
    assert!(log.contains("exec by admin: sh -c 'echo out; echo err >&2; exit 3'"), "{log}");
    let audit = cli.call(&["audit"]).text();
    assert!(audit.contains("Jobs/Exec"), "{audit}");

    // Its end is the session's.
    let mut session = spawn(&cluster, &["exec", &job, "sh", "-c", "echo begun; sleep 4321"]);
    hears(&mut session, "begun");
    cli.call(&["cancel", &job]).expect(0);
    let ended = session.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
    client.reaches(&job, JobState::Cancelled).await;
    let refused = cli.call(&["exec", &job, "true"]).expect(125);
    assert!(
        refused.stderr.contains("cancelled") && refused.stderr.contains("longshore retry"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn project_and_machine_may_say_no() {
    let cluster = embedded().agent("[exec]\nallow = false\n").start();
    let cli = cluster.cli();
    let client = Client::connect(&cluster).await;
    let job = client.submit(shell(&image(), "echo at-work; sleep 600")).await;
    client.prints(&job, "at-work").await;
    client.reaches(&job, JobState::Running).await;
    let refused = cli.call(&["exec", &job, "true"]).expect(125);
    assert!(refused.stderr.contains("exec.allow"), "{}", refused.stderr);
    let set = cli.call(&["projects", "set", "default", "--exec", "off"]).expect(0);
    assert!(set.text().contains("exec          off"), "{}", set.text());
    let refused = cli.call(&["exec", &job, "true"]).expect(125);
    assert!(refused.stderr.contains("longshore projects set default --exec"), "{}", refused.stderr);
    cli.call(&["cancel", &job]).expect(0);
}

#[tokio::test]
async fn a_restarted_controller_or_agent_ends_sessions_and_says_so() {
    let mut cluster = embedded().start();
    let client = Client::connect(&cluster).await;
    let job = client.submit(shell(&image(), "echo at-work; sleep 600")).await;
    client.prints(&job, "at-work").await;
    client.reaches(&job, JobState::Running).await;
    for victim in ["controller", "agent"] {
        let mut session = spawn(&cluster, &["exec", &job, "sh", "-c", "echo begun; sleep 4321"]);
        hears(&mut session, "begun");
        match victim {
            "controller" => cluster.start_controller(),
            _ => cluster.start_agent(0),
        }
        let ended = session.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(125), "{victim}: {ended:?}");
        nothing_is_left(&job, "sleep 4321").await;
    }
    cluster.cli().call(&["cancel", &job]).expect(0);
    client.ended(&job).await;
}
