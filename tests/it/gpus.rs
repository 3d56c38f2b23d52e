//! GPUs are granted by what is asked and by what is really free.

use longshore_agent::host::{Disk, Facts, GpuProcess, Host, Reading, fake::FakeHost};
use longshore_common::job::resources::GIB;
use longshore_proto::v1::{GpuRequest, JobSpec, JobState, Resources};
use longshore_tests::local::{Local, scripted};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

fn on_gpus(count: u32, memory_bytes: u64, model: &str) -> JobSpec {
    let gpu = GpuRequest { count, memory_bytes, model: model.to_owned(), ..GpuRequest::default() };
    JobSpec {
        resources: Some(Resources { gpu: Some(gpu), ..Resources::default() }),
        ..scripted(&[("FAKE_RUN", "50ms")])
    }
}

#[tokio::test]
async fn a_job_runs_where_its_model_is() {
    let small = Arc::new(FakeHost::with_gpus(2, "NVIDIA T4", 16 * GIB));
    let large = Arc::new(FakeHost::with_gpus(2, "NVIDIA A100 80GB", 80 * GIB));
    let local = Local::start(&[small, large]).await;
    let job = local.submit(on_gpus(2, 40 * GIB, "*a100*")).await;
    let job = local.finished(&job.id).await;
    assert_eq!((job.state(), job.agent.as_str(), job.gpus), (JobState::Succeeded, "agent-1", 2));
    local.stop().await;
}

#[tokio::test]
async fn what_no_machine_has_waits_and_says_so() {
    let local = Local::start(&[Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB))]).await;
    let job = local.submit(on_gpus(4, 0, "")).await;
    let job = local.until(&job.id, |job| job.state() == JobState::Queued).await;
    let waiting = local.get(&job.id).await.waiting.expect("it waits");
    assert!(waiting.agents.iter().all(|agent| agent.permanent), "{waiting:#?}");
    assert!(waiting.agents[0].reason.contains("GPU"), "{waiting:#?}");
    local.stop().await;
}

#[tokio::test]
async fn a_strangers_gpu_is_left_alone_until_the_stranger_leaves() {
    let host = Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB));
    let stranger = GpuProcess {
        pid: 4711,
        name: "python".into(),
        user: "anna".into(),
        memory_bytes: 8 * GIB,
        ..GpuProcess::default()
    };
    host.change(|reading| reading.gpus[0].processes = vec![stranger]);
    let local = Local::start(&[Arc::clone(&host)]).await;
    let job = local.submit(on_gpus(1, 0, "")).await;
    let cpu = local.submit(scripted(&[])).await;
    local.finished(&cpu.id).await;
    let waiting = local.get(&job.id).await.waiting.expect("it waits while the machine runs other work");
    assert!(waiting.agents[0].reason.contains("anna"), "{waiting:#?}");
    host.change(|reading| reading.gpus[0].processes.clear());
    assert_eq!(local.finished(&job.id).await.state(), JobState::Succeeded);
    local.stop().await;
}

#[tokio::test]
async fn memory_that_stays_after_its_container_keeps_the_gpu_reserved_and_the_job_ends() {
    let host = Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB));
    let local = Local::start(&[Arc::clone(&host)]).await;
    let mut stays = on_gpus(1, 0, "");
    stays.env.insert("FAKE_RUN".to_owned(), "3s".to_owned());
    let job = local.submit(stays).await;
    local.running(&job.id).await;
    let stuck = GpuProcess {
        pid: 4711,
        name: "train".into(),
        user: "root".into(),
        memory_bytes: GIB,
        container: Some("4f2c".into()),
        ..GpuProcess::default()
    };
    host.change(|reading| reading.gpus[0].processes = vec![stuck]);
    assert_eq!(local.finished(&job.id).await.state(), JobState::Succeeded);
    let next = local.submit(on_gpus(1, 0, "")).await;
    let cpu = local.submit(scripted(&[("FAKE_RUN", "3s")])).await;
    local.finished(&cpu.id).await;
    let waiting = local.get(&next.id).await.waiting.expect("it waits while the machine runs other work");
    let reason = &waiting.agents[0].reason;
    assert!(reason.contains(&job.id) && reason.contains("train of root (pid 4711)"), "{waiting:#?}");
    host.change(|reading| reading.gpus[0].processes.clear());
    assert_eq!(local.finished(&next.id).await.state(), JobState::Succeeded);
    local.stop().await;
}

#[tokio::test]
async fn what_a_job_used_of_its_gpus_is_known_afterwards() {
    let host = Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB));
    let local = Local::start(&[Arc::clone(&host)]).await;
    let mut spec = on_gpus(1, 0, "");
    spec.env.insert("FAKE_RUN".to_owned(), "4s".to_owned());
    let job = local.submit(spec).await;
    local.running(&job.id).await;
    let own = GpuProcess {
        pid: 4711,
        name: "train".into(),
        memory_bytes: 6 * GIB,
        container: Some("4f2c".into()),
        ..GpuProcess::default()
    };
    host.change(|reading| {
        reading.gpus[0].processes = vec![own];
        reading.gpus[0].gpu.utilisation_percent = 90;
    });
    local.finished(&job.id).await;
    let told = local.get(&job.id).await;
    let usage = told.attempts[0].usage.expect("counted").gpu.expect("of its GPU");
    let sizing = told.sizing.expect("told with it");
    let of_gpu = sizing.rows.iter().find(|row| row.resource == "gpu.memory").expect("it had one");
    assert_eq!((sizing.runs, of_gpu.used), (1, 6 * GIB));
    assert_eq!((usage.memory_peak_bytes, usage.percent_peak), (6 * GIB, 90));
    assert!(usage.memory_mean_bytes > GIB && usage.percent_mean > 10, "{usage:?}");
    local.stop().await;
}

/// 4 GiB of a GPU that others may share.
fn part(run: &str) -> JobSpec {
    let gpu = GpuRequest { count: 1, memory_bytes: 4 * GIB, shared: true, ..GpuRequest::default() };
    let script = [("FAKE_RUN", run), ("FAKE_TERM_EXIT", "0")];
    JobSpec { resources: Some(Resources { gpu: Some(gpu), ..Resources::default() }), ..scripted(&script) }
}

#[tokio::test]
async fn a_second_job_on_a_shared_gpu_waits_for_no_sweep() {
    let local = Local::start(&[Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB))]).await;
    let one = local.submit(part("120s")).await;
    local.running(&one.id).await;
    let asked = Instant::now();
    let other = local.submit(part("10ms")).await;
    assert_eq!(local.finished(&other.id).await.state(), JobState::Succeeded);
    // Agents ask without a hint after 30 s.
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    local.cancel(&one.id).await;
    local.finished(&one.id).await;
    local.stop().await;
}

#[tokio::test]
async fn a_job_that_takes_more_of_a_shared_gpu_than_it_asked_for_is_ended() {
    let host = Arc::new(FakeHost::with_gpus(1, "NVIDIA T4", 16 * GIB));
    let local = Local::start(&[Arc::clone(&host)]).await;
    let (one, other) = (local.submit(part("60s")).await, local.submit(part("2s")).await);
    local.running(&one.id).await;
    local.running(&other.id).await;
    assert_eq!(local.finished(&other.id).await.state(), JobState::Succeeded);
    let greedy = GpuProcess {
        pid: 4711,
        name: "train".into(),
        memory_bytes: 5 * GIB,
        container: Some("4f2c".into()),
        ..GpuProcess::default()
    };
    host.change(|reading| reading.gpus[0].processes = vec![greedy]);
    let ended = local.finished(&one.id).await;
    assert_eq!(ended.outcome.expect("it ended").name, "vram_limit");
    local.stop().await;
}

/// A machine whose driver takes its time.
#[derive(Debug)]
struct Slow(FakeHost);

impl Host for Slow {
    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn read(&self) -> Reading {
        std::thread::sleep(Duration::from_millis(400));
        self.0.read()
    }

    fn disk(&self, folder: &Path) -> Option<Disk> {
        self.0.disk(folder)
    }
}

#[tokio::test]
async fn a_gpu_that_is_seen_to_be_free_long_after_its_job_is_asked_for_at_once() {
    let local = Local::start_on(Arc::new(Slow(FakeHost::with_gpus(2, "NVIDIA T4", 16 * GIB)))).await;
    let mut first = on_gpus(1, 0, "");
    first.env.insert("FAKE_RUN".to_owned(), "4s".to_owned());
    let first = local.submit(first).await;
    local.running(&first.id).await;
    // Asked for in vain, and less and less often, while it runs.
    let both = local.submit(on_gpus(2, 0, "")).await;
    local.finished(&first.id).await;
    let freed = Instant::now();
    local.running(&both.id).await;
    assert!(freed.elapsed() < Duration::from_millis(1500), "{:?}", freed.elapsed());
    local.stop().await;
}
