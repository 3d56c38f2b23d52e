//! How attempts end.

use super::rig::{Rig, grant, job, store};
use crate::{OnShutdown, journal::Journal, link::Event, runtime::Runtime as _};
use bytes::Bytes;
use longshore_common::{
    agent::StopReason,
    ids::AttemptRef,
    job::{JobState, Outcome},
    logs::{self, Stream},
};
use std::time::Duration;
use tokio::time::Instant;

pub(super) fn cancel(rig: &Rig, attempt: AttemptRef) {
    rig.controller.say(Event::Stop { attempt, reason: StopReason::Cancel("cancelled by anna".into()) });
}

pub(super) fn text(rig: &Rig, attempt: &AttemptRef, stream: Stream) -> String {
    let mut bytes = Bytes::from(rig.controller.log(attempt));
    let mut text = String::new();
    while let Ok(Some((record, used))) = logs::decode(&bytes) {
        if record.header.stream == stream {
            text.push_str(&String::from_utf8_lossy(&record.data));
        }
        bytes = bytes.slice(used..);
    }
    text
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_and_its_log_is_stored_before_its_end() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "3s"), ("FAKE_STDOUT", "hello\nno newline")]));
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    assert_eq!(text(&rig, &attempt, Stream::Stdout), "hello\nno newline");
    assert_eq!(report.log_end, rig.controller.log(&attempt).len() as u64);
    assert!(report.started_at.is_some() && report.exited_at.is_some());
    assert!(report.usage.cpu_micros > 0, "it was sampled");
    rig.stop().await;
}

#[tokio::test]
async fn exit_3_keeps_its_files() {
    let rig = Rig::start().await;
    rig.controller.store_at(store(true).await);
    let attempt = rig.submit(job(&[("FAKE_EXIT", "3"), ("FAKE_FILES", "a.txt:11,d/b.bin:5000")]));
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::ExitCode(3));
    assert_eq!((report.artifact_count, report.artifact_bytes, report.manifest_pages), (2, 5011, 1));
    let mut names: Vec<_> = rig.controller.manifest().into_iter().map(|entry| entry.artifact.path).collect();
    names.sort();
    assert_eq!(names, [b"a.txt".to_vec(), b"d/b.bin".to_vec()]);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_it_started() {
    let rig = Rig::start().await;
    let grant = longshore_common::agent::Grant { cancel_requested: true, ..grant(job(&[])) };
    let attempt = grant.attempt;
    rig.controller.submit(grant);
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.started_at), (Outcome::Cancelled, None));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_its_image_is_pulled() {
    let rig = Rig::start().await;
    let mut spec = job(&[]);
    spec.image = "fake.slow/app:1".into();
    let attempt = rig.submit(spec);
    rig.phase(attempt, JobState::Preparing).await;
    cancel(&rig, attempt);
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.started_at), (Outcome::Cancelled, None));
    assert_eq!(report.detail, "cancelled by anna");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_it_runs() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "forever"), ("FAKE_TERM_EXIT", "0")]));
    rig.phase(attempt, JobState::Running).await;
    cancel(&rig, attempt);
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(text(&rig, &attempt, Stream::System).contains("cancelled by anna"));
    rig.stop().await;
}

#[tokio::test]
async fn cancelled_while_its_files_are_stored() {
    let rig = Rig::start().await;
    rig.controller.store_at(store(false).await);
    let attempt = rig.submit(job(&[("FAKE_FILES", "a.txt:11")]));
    rig.phase(attempt, JobState::Collecting).await;
    cancel(&rig, attempt);
    let report = rig.controller.report(attempt).await;
    assert_eq!((report.outcome, report.artifact_count), (Outcome::Cancelled, 0));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_deadline_is_its_own_outcome_whatever_the_exit() {
    let rig = Rig::start().await;
    for env in [("FAKE_TERM_EXIT", "0"), ("FAKE_IGNORE_TERM", "1")] {
        let mut spec = job(&[("FAKE_RUN", "forever"), env]);
        spec.deadlines.run = Duration::from_secs(5);
        let began = tokio::time::Instant::now();
        let attempt = rig.submit(spec.clone());
        let report = rig.controller.report(attempt).await;
        assert_eq!(report.outcome, Outcome::RunTimeout, "{env:?}");
        let ran = began.elapsed();
        let grace = if env.0 == "FAKE_IGNORE_TERM" { spec.deadlines.stop_grace } else { Duration::ZERO };
        let due = spec.deadlines.run + grace;
        assert!(ran >= due && ran < due + Duration::from_secs(1), "{ran:?}");
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_prepare_deadline_ends_a_slow_pull() {
    let rig = Rig::start().await;
    let mut spec = job(&[]);
    spec.image = "fake.slow/app:1".into();
    spec.deadlines.prepare = Duration::from_secs(1);
    let attempt = rig.submit(spec);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::PrepareTimeout);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_does_not_keep_its_attempts() {
    let rig = Rig::start().await;
    for call in ["create", "start"] {
        let mut late = job(&[("FAKE_HANG", call)]);
        late.deadlines.prepare = Duration::from_secs(60);
        let late = rig.submit(late);
        let cancelled = rig.submit(job(&[("FAKE_HANG", call)]));
        rig.phase(cancelled, JobState::Preparing).await;
        let began = tokio::time::Instant::now();
        cancel(&rig, cancelled);
        assert_eq!(rig.controller.report(cancelled).await.outcome, Outcome::Cancelled, "{call}");
        assert!(began.elapsed() <= Duration::from_secs(5), "{call}: {:?}", began.elapsed());
        let report = rig.controller.report(late).await;
        assert_eq!(report.outcome, Outcome::PrepareTimeout, "{call}: {}", report.detail);
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_killed_ends_its_job_and_keeps_its_share() {
    let rig = Rig::start().await;
    let free = || rig.reporter.report().free.cpu_millis;
    let before = free();
    let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_STUCK", "600s")]);
    spec.deadlines.run = Duration::from_secs(5);
    let attempt = rig.submit(spec);
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::RuntimeError);
    assert!(report.detail.contains("SIGKILL") && report.detail.contains("run_timeout"), "{}", report.detail);
    rig.running.held.empty().await;
    let note = rig.reporter.report().note;
    assert!(note.contains("not gone") && free() < before, "{note}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((rig.reporter.report().note, free()), (String::new(), before));
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_runtime_says_before_the_start_is_the_outcome() {
    let rig = Rig::start().await;
    let mut missing = job(&[]);
    missing.image = "fake.missing/app:1".into();
    let missing = rig.submit(missing);
    let unknown = rig.submit(job(&[("FAKE_START_ERROR", "entrypoint_not_found")]));
    assert_eq!(rig.controller.report(missing).await.outcome, Outcome::ImageNotFound);
    assert_eq!(rig.controller.report(unknown).await.outcome, Outcome::EntrypointNotFound);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_disk_than_granted_ends_it() {
    let rig = Rig::start().await;
    let mut spec = job(&[("FAKE_RUN", "forever"), ("FAKE_DISK", "2000")]);
    spec.resources.scratch_bytes = 1000;
    let attempt = rig.submit(spec);
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::DiskLimit);
    assert_eq!(report.usage.disk_peak_bytes, 2000);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_measured_does_not_run_on_without_a_limit() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "forever"), ("FAKE_DISK", "unmeasurable")]));
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::DiskLimit);
    assert_eq!(report.detail, "its folders cannot be measured");
    assert_eq!(report.usage.disk_peak_bytes, 0);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn killed_for_memory_and_a_killed_child() {
    let rig = Rig::start().await;
    let main = rig.submit(job(&[("FAKE_OOM", "1")]));
    let child = rig.submit(job(&[("FAKE_OOM", "1"), ("FAKE_EXIT", "0")]));
    assert_eq!(rig.controller.report(main).await.outcome, Outcome::OomKilled);
    let report = rig.controller.report(child).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    assert!(report.notes[0].starts_with("oom_event"), "{:?}", report.notes);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_attempt_vanishes_without_a_word() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "forever"), ("FAKE_IGNORE_TERM", "1")]));
    rig.phase(attempt, JobState::Running).await;
    rig.controller.fence(attempt);
    rig.controller.say(Event::Renewed { renewed: vec![], fenced: vec![attempt], asked_at: Instant::now() });
    rig.running.held.empty().await;
    let controller = std::sync::Arc::clone(&rig.controller);
    rig.stop().await;
    assert_eq!(controller.finished(), []);
}

#[tokio::test(start_paused = true)]
async fn a_finish_waits_for_the_controller() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "2s"), ("FAKE_STDOUT", "x")]));
    rig.phase(attempt, JobState::Running).await;
    rig.controller.unreachable(true);
    rig.phase(attempt, JobState::Collecting).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.controller.finished(), []);
    rig.controller.unreachable(false);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    rig.stop().await;
}

#[tokio::test]
async fn a_report_whose_files_are_refused_is_sent_without_them_and_they_stay() {
    let rig = Rig::start().await;
    rig.controller.store_at(store(true).await);
    rig.controller.refuse_lists();
    for (exit, outcome) in [("0", Outcome::ArtifactUploadFailed), ("3", Outcome::ExitCode(3))] {
        let attempt = rig.submit(job(&[("FAKE_FILES", "a.txt:11"), ("FAKE_EXIT", exit)]));
        let report = rig.controller.report(attempt).await;
        assert_eq!((report.outcome, report.manifest_pages, report.artifact_count), (outcome, 0, 0));
        let said = report.notes.iter().chain([&report.detail]).any(|text| text.contains("list of files"));
        assert!(said, "{:?} {}", report.notes, report.detail);
    }
    rig.running.held.empty().await;
    let kept = rig.leave().await.journal().read().unwrap();
    assert_eq!(kept.iter().filter(|intent| intent.kept.is_some()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn that_files_are_kept_is_in_the_journal_before_the_report() {
    let rig = Rig::start_as(tempfile::tempdir().unwrap(), OnShutdown::Leave).await;
    let mut spec = job(&[("FAKE_RUN", "2s"), ("FAKE_FILES", "a.txt:11")]);
    spec.deadlines.upload = Duration::from_secs(60);
    let attempt = rig.submit(spec);
    rig.phase(attempt, JobState::Running).await;
    rig.controller.unreachable(true);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.controller.finished(), []);
    let journal = Journal::open(&rig.dir.path().join("journal")).unwrap();
    assert!(journal.read().unwrap()[0].unstored);
    rig.controller.unreachable(false);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::ArtifactUploadFailed);
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_files_that_is_gone_is_not_taken_for_an_empty_one() {
    let rig = Rig::start().await;
    let attempt = rig.submit(job(&[("FAKE_RUN", "5s")]));
    rig.phase(attempt, JobState::Running).await;
    let folder = rig.engine.inner.list().await.unwrap().remove(0).folder.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let report = rig.controller.report(attempt).await;
    assert_eq!(report.outcome, Outcome::ArtifactUploadFailed, "{}", report.detail);
}

#[tokio::test]
async fn an_attempt_that_is_cut_while_it_is_noted_leaves_nothing_in_the_journal() {
    let rig = Rig::start().await;
    let grant = grant(job(&[("FAKE_RUN", "forever")]));
    let attempt = grant.attempt;
    // A disk that takes its time: the write hangs until somebody reads.
    let slow = rig.dir.path().join(format!("journal/{attempt}.{}.new", attempt.epoch.0));
    assert!(std::process::Command::new("mkfifo").arg(&slow).status().unwrap().success());
    rig.controller.submit(grant);
    rig.phase(attempt, JobState::Preparing).await;
    cancel(&rig, attempt);
    let early = tokio::time::timeout(Duration::from_millis(300), rig.controller.report(attempt)).await;
    std::fs::read(&slow).unwrap();
    assert!(early.is_err(), "the write could land after the attempt is forgotten");
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Cancelled);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_another_agent_removes_before_the_container_is_made_is_pulled_again() {
    let rig = Rig::start().await;
    for (times, outcome) in [(1, Outcome::Succeeded), (2, Outcome::RuntimeError)] {
        rig.engine.images_gone.store(times, std::sync::atomic::Ordering::SeqCst);
        let attempt = rig.submit(job(&[]));
        let report = rig.controller.report(attempt).await;
        assert_eq!(report.outcome, outcome, "{report:?}");
        assert!(text(&rig, &attempt, Stream::System).contains("app:1 vanished; bringing it again"));
        assert_eq!(rig.engine.inner.images().contains("app:1"), times == 1);
    }
    rig.stop().await;
}
