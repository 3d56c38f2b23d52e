//! What is half seen of GPUs: memory of nobody's, a driver that stalls, a part of a GPU, devices that a container has
//! lost. Nothing of it may be held against the wrong job.

use crate::gpu_health::{Node, a100s, on, outcome, uuid};
use fake_nvml::{Event, Fault, Gpu, Instance};
use longshore_proto::v1::{GpuRequest, JobSpec, JobState, Resources};
use longshore_tests::local::scripted;
use std::time::Duration;

fn divided() -> Gpu {
    let part = |number: u32| Instance {
        uuid: format!("MIG-{number:08}-0000-5000-8000-000000000000"),
        profile: "1g.10gb".into(),
        memory_mib: 9_728,
        processes: Vec::new(),
    };
    Gpu { mig: true, instances: vec![part(1), part(2)], ..a100s(1).remove(0) }
}

fn on_a_part(script: &[(&str, &str)]) -> JobSpec {
    let gpu = GpuRequest { count: 1, mig: "1g.10gb".into(), ..GpuRequest::default() };
    JobSpec { resources: Some(Resources { gpu: Some(gpu), ..Resources::default() }), ..scripted(script) }
}

async fn log(node: &Node, job: &str) -> String {
    let records = node.local.log(job).await;
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[tokio::test]
async fn memory_that_no_listed_process_holds_keeps_jobs_off_its_gpu() {
    let mut gpus = a100s(2);
    gpus[0].unlisted_mib = 78 << 10;
    let node = Node::start(gpus).await;
    let (both, one) = (node.submit(on(2, "", &[])).await, node.submit(on(1, "", &[])).await);
    assert_eq!(node.local.finished(&one).await.state(), JobState::Succeeded);
    assert!(node.attempts(&one).await[0].gpus[0].ends_with(&uuid(1)));
    node.until_reason(&both, "78 GiB are held by no process").await;
    node.change(|description| description.gpus[0].unlisted_mib = 0);
    assert_eq!(node.local.finished(&both).await.state(), JobState::Succeeded);
    node.local.stop().await;
}

#[tokio::test]
async fn a_failure_while_the_driver_stalls_after_an_error_is_not_the_users() {
    let node = Node::start(a100s(2)).await;
    let job = node.submit(on(1, "", &[("FAKE_RUN", "3s"), ("FAKE_EXIT", "3")])).await;
    let sick = node.gpus_of(&job).await.remove(0);
    node.change(|description| {
        description.hang = true;
        description.events.push(Event { gpu: sick.clone(), xid: 79 });
        let lost = description.gpus.iter_mut().find(|gpu| gpu.uuid == sick).expect("it is there");
        lost.fault = Some(Fault::Lost);
    });
    let engine = &node.local.engines[0];
    while engine.list().await.expect("it answers").iter().any(|known| known.running) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than a driver that is well takes for several answers.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.attempts(&job).await.iter().map(outcome).collect::<Vec<_>>(), [""], "it waits");
    node.change(|description| description.hang = false);
    node.local.finished(&job).await;
    let attempts = node.attempts(&job).await;
    assert_eq!(attempts.iter().map(outcome).collect::<Vec<_>>(), ["gpu_fault", "exit_code"]);
    let detail = &attempts[0].outcome.as_ref().expect("it ended").detail;
    assert!(detail.contains("Xid 79") && detail.contains("exited with 3"), "{detail}");
    node.local.stop().await;
}

#[tokio::test]
async fn a_job_on_an_instance_outlives_a_stumble_of_its_gpu() {
    let node = Node::start(vec![divided()]).await;
    let job = node.submit(on_a_part(&[("FAKE_RUN", "6s")])).await;
    node.gpus_of(&job).await;
    node.change(|description| description.gpus[0].fault = Some(Fault::Confused));
    // Three readings: one more than make a vanished GPU, and less than make a sick one.
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.change(|description| description.gpus[0].fault = None);
    assert_eq!(node.local.finished(&job).await.state(), JobState::Succeeded);
    assert_eq!(node.attempts(&job).await.len(), 1);
    node.local.stop().await;
}

#[tokio::test]
async fn an_error_of_one_instance_is_no_note_of_the_job_beside_it() {
    let node = Node::start(vec![divided()]).await;
    // Long enough for the error to be heard on a machine that is busy otherwise.
    let run = [("FAKE_RUN", "20s")];
    let (one, other) = (node.submit(on_a_part(&run)).await, node.submit(on_a_part(&run)).await);
    node.gpus_of(&one).await;
    node.gpus_of(&other).await;
    node.change(|description| description.events.push(Event { gpu: uuid(0), xid: 31 }));
    for job in [one, other] {
        assert_eq!(node.local.finished(&job).await.state(), JobState::Succeeded);
        assert!(log(&node, &job).await.contains("the driver does not say whose program it was"));
        assert_eq!(node.attempts(&job).await[0].notes, [""; 0]);
    }
    node.local.stop().await;
}

#[tokio::test]
async fn a_container_that_lost_its_gpus_is_told_so_and_its_failure_is_not_the_users() {
    let node = Node::start(a100s(2)).await;
    let shut = |run, exit| on(1, "", &[("FAKE_RUN", run), ("FAKE_GPUS_SHUT", "1s"), ("FAKE_EXIT", exit)]);
    // The longer one lives for more than a heartbeat after it.
    let (well, fails) = (node.submit(shut("8s", "0")).await, node.submit(shut("4s", "3")).await);
    node.local.running(&well).await;
    node.until("said", |agent| agent.note.contains("cannot open its GPUs")).await;
    assert_eq!(node.local.finished(&well).await.state(), JobState::Succeeded, "what has them open goes on");
    assert!(log(&node, &well).await.contains("gpu_access: "));
    node.local.until(&fails, |job| job.attempts > 1 || job.finished_at.is_some()).await;
    let first = node.attempts(&fails).await.remove(0);
    assert_eq!(outcome(&first), "gpu_fault");
    let detail = first.outcome.expect("it ended").detail;
    assert!(detail.contains("could not open its GPUs") && detail.contains("exited with 3"), "{detail}");
    node.local.cancel(&fails).await;
    node.local.finished(&fails).await;
    node.local.stop().await;
}
