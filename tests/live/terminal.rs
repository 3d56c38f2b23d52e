//! A person at the keyboard: Ctrl-C cancels, twice leaves the job running, and a terminal that closes does nothing.

use longshore_proto::v1::JobState;
use longshore_tests::env::{Client, docker, image, outcome, until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

/// A `run` that has begun to print, and its job's id.
struct Running {
    child: Child,
    id: String,
}

async fn start(name: &str, script: &str) -> (Client, Running) {
    let cluster = crate::shared::embedded();
    let client = Client::connect(cluster).await;
    let name = format!("{name}-{}", std::process::id());
    let image = image();
    let arguments = [
        "run",
        "--name",
        &name,
        "--cpus",
        "0.1",
        "-m",
        "64m",
        "--scratch",
        "256m",
        "--entrypoint",
        "/bin/sh",
        &image,
        "-c",
        script,
    ];
    let mut command = cluster.cli().command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("run longshore");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("read its output");
    assert_eq!(line, "up\n");
    let id = client.get(&name).await.job.expect("a job").id;
    (client, Running { child, id })
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal longshore");
    }

    async fn ends(&mut self) -> std::process::ExitStatus {
        until("longshore run ends", || {
            let status = self.child.try_wait().expect("ask for a child's status");
            async move { status.ok_or("it runs") }
        })
        .await
    }
}

#[tokio::test]
async fn ctrl_c_cancels_and_waits_for_the_end() {
    let script = "trap 'echo t >/out/t; exit 0' TERM; echo up; sleep 600 & wait";
    let (client, mut run) = start("ctrl-c", script).await;
    run.signal(Signal::INT);
    assert_eq!(run.ends().await.code(), Some(130));
    assert_eq!(outcome(&client.ended(&run.id).await), "cancelled");
    assert_eq!(client.artifacts(&run.id).await.len(), 1);
}

#[tokio::test]
async fn a_second_ctrl_c_leaves_at_once() {
    let (client, mut run) = start("ctrl-c-twice", "trap '' TERM; echo up; while :; do sleep 1; done").await;
    run.signal(Signal::INT);
    until("the first is understood", || async {
        let job = client.get(&run.id).await.job.expect("a job");
        if job.cancel_requested { Ok(()) } else { Err(job) }
    })
    .await;
    run.signal(Signal::INT);
    assert_eq!(run.ends().await.code(), Some(130));
    // It ignores SIGTERM for its grace of 10 s: longshore left before.
    assert!(client.get(&run.id).await.job.expect("a job").state < JobState::Succeeded as i32);
    client.ended(&run.id).await;
}

#[tokio::test]
async fn a_terminal_that_closes_leaves_the_job_running() {
    let (client, mut run) = start("hang-up", "echo up; sleep 3; echo done >/out/done").await;
    run.signal(Signal::HUP);
    run.ends().await;
    assert_eq!(outcome(&client.ended(&run.id).await), "succeeded");
    let uuid = client.get(&run.id).await.job.expect("a job").uuid;
    until("its container is gone", || async {
        let left = docker(&["ps", "-aq", "--filter", &format!("label=longshore.job={uuid}")]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
