//! Trouble around the controller: no bucket, no space, a second controller, a job nobody can run.

use longshore_proto::v1::JobState;
use longshore_tests::env::{
    Client, Plan, S3, binary, embedded, fresh_dir, image, outcome, registry, s3, seconds, shell, until,
};
use std::{fs, process::Command};

#[tokio::test]
async fn a_missing_bucket_is_named_and_fails_only_what_has_files() {
    let store = S3 { bucket: "no-such-bucket".to_owned(), ..s3().clone() };
    let cluster = Plan::default().s3(&store).login(registry()).start();
    let client = Client::connect(&cluster).await;
    let mut spec = shell(&image(), "echo lost >/out/a");
    spec.deadlines.get_or_insert_default().upload = seconds(3);
    let job = client.run(spec).await;
    assert_eq!(outcome(&job), "artifact_upload_failed", "{job:?}");
    let status = cluster.cli().call(&["status"]).expect(1);
    assert!(status.text().contains("no-such-bucket"), "{}", status.text());
    assert_eq!(outcome(&client.run(shell(&image(), "true")).await), "succeeded");
}

#[tokio::test]
async fn a_full_disk_refuses_submits_and_loses_nothing() {
    let data = fresh_dir("small-disk");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "small"]).arg(&data).status();
    assert!(mount.expect("run mount").success(), "a small disk takes root to mount");
    let cluster = embedded().data(data.join("data")).controller_setting("disk_floor_bytes = 8388608").start();
    let client = Client::connect(&cluster).await;
    let before = client.run(shell(&image(), "echo before")).await;
    let running = client.submit(shell(&image(), "sleep 4; echo during")).await;
    client.reaches(&running, JobState::Running).await;
    let ballast = data.join("ballast");
    // Writes until there is no room left; the error is the aim.
    fs::write(&ballast, vec![0; 64 << 20]).expect_err("the disk is full");
    let refusal = until("a submit is refused", || async {
        match client.try_submit(shell(&image(), "true")).await {
            Err(refusal) => Ok(refusal),
            Ok(job) => Err(job.id),
        }
    })
    .await;
    assert!(refusal.message().contains("full") || refusal.message().contains("space"), "{refusal:?}");
    fs::remove_file(&ballast).expect("make room");
    until("a submit is taken again", || client.try_submit(shell(&image(), "true"))).await;
    assert_eq!(outcome(&client.ended(&running).await), "succeeded");
    assert_eq!(outcome(&client.ended(&before.id).await), "succeeded");
}

#[tokio::test]
async fn a_second_controller_on_one_database_refuses_to_start() {
    let data = fresh_dir("shared");
    let cluster = embedded().data(data.clone()).agents(0).start();
    let settings = data.join("second.toml");
    fs::write(&settings, format!("listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n", data.display()))
        .expect("write");
    let mut second = Command::new(binary());
    let second =
        second.arg("controller").arg("--config").arg(&settings).output().expect("run a second controller");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&*data.to_string_lossy()), "it names the file: {said}");
    cluster.cli().call(&["ls"]).expect(0);
}

#[tokio::test]
async fn a_job_no_agent_can_ever_run_waits_and_says_why() {
    let cluster = crate::shared::embedded();
    let client = Client::connect(cluster).await;
    let mut spec = shell(&image(), "true");
    spec.resources.get_or_insert_default().gpu.get_or_insert_default().count = 7;
    let id = client.submit(spec).await;
    let waiting = until("the wait is explained", || async {
        client.get(&id).await.waiting.filter(|waiting| !waiting.agents.is_empty()).ok_or("nothing yet")
    })
    .await;
    assert!(
        waiting.agents.iter().all(|agent| agent.permanent && agent.reason.contains("GPU")),
        "{waiting:?}"
    );
    let shown = cluster.cli().call(&["show", &id]).expect(0).text();
    assert!(shown.contains("GPU"), "{shown}");
    cluster.cli().call(&["cancel", &id]).expect(0);
}
