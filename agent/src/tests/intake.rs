//! How work comes in.

use super::rig::{CORES, Rig, job, until_held};
use longshore_common::{
    agent::LaneAnswer,
    job::{JobState, Outcome},
    queue::Lane,
};
use std::{sync::atomic::Ordering, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_under_the_same_id() {
    let rig = Rig::start().await;
    rig.controller.until(|fake| (!fake.claims().is_empty()).then_some(())).await;
    rig.controller.lose_answers(2);
    let before = rig.controller.claims().len();
    let attempt = rig.submit(job(&[]));
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    let claims = rig.controller.claims();
    let ids: Vec<_> = claims[before..before + 3].iter().map(|(id, ..)| *id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(claims[before].2.values().sum::<u32>(), 1, "the hint went with the claim");
    let controller = std::sync::Arc::clone(&rig.controller);
    rig.stop().await;
    assert_eq!(controller.finished().len(), 1, "it ran once");
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_fits_and_everything_runs_in_the_end() {
    let rig = Rig::start().await;
    let attempts: Vec<_> = (0..40).map(|_| rig.submit(job(&[("FAKE_RUN", "2s")]))).collect();
    let (mut most, wanted) = (0, attempts.len());
    let watching = until_held(&rig.running.held, |held| {
        most = most.max(held.iter().filter(|held| held.phase == JobState::Running).count());
        false
    });
    tokio::select! {
        () = watching => unreachable!("it sees no end"),
        () = rig.controller.until(|fake| (fake.finished().len() == wanted).then_some(())) => {}
    }
    assert_eq!(most, CORES as usize);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_never_fits_neither_spins_nor_blocks() {
    let rig = Rig::start().await;
    let mut huge = job(&[]);
    huge.resources.cpu_millis = 1_000_000;
    rig.submit(huge);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let claims = rig.controller.claims().len();
    assert!(claims < 60, "{claims} claims in a minute");
    let small = rig.submit(job(&[]));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.controller.report(small).await.outcome, Outcome::Succeeded);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_without_a_grant_does_not_spin() {
    let rig = Rig::start().await;
    rig.controller.answer(LaneAnswer::More);
    rig.controller.ring(Lane::new("default", false));
    tokio::time::sleep(Duration::from_secs(31)).await;
    let claims = rig.controller.claims().len();
    assert!((100..=210).contains(&claims), "a search of {claims} claims");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = rig.controller.claims().len() - claims;
    assert!(after < 60, "{after} claims in a minute: by now it is a disagreement");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn work_without_a_hint_is_found_by_the_sweep() {
    let rig = Rig::start().await;
    rig.controller.until(|fake| (!fake.claims().is_empty()).then_some(())).await;
    // Hints of a link that was cut are void.
    rig.controller.bell.disconnected();
    let attempt = rig.submit(job(&[]));
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_while_the_engine_is_away_and_the_note_says_so() {
    let rig = Rig::start().await;
    rig.engine.away(true);
    while rig.reporter.report().note.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.reporter.report().note, "container engine unreachable: no such socket");
    let before = rig.controller.claims().len();
    let attempt = rig.submit(job(&[]));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.controller.claims().len(), before);
    rig.engine.away(false);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.reporter.report().note, "");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_claims_with_a_reason_while_what_runs_lives() {
    let rig = Rig::start().await;
    let running = rig.submit(job(&[("FAKE_RUN", "100s")]));
    rig.phase(running, JobState::Running).await;
    rig.host.disk_free.store(100 << 20, Ordering::SeqCst);
    while rig.reporter.report().note.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let note = rig.reporter.report().note;
    assert!(note.contains("full") && note.contains("100 MiB"), "{note}");
    let before = rig.controller.claims().len();
    let attempt = rig.submit(job(&[]));
    assert_eq!(rig.controller.report(running).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.controller.claims().len(), before);
    rig.host.disk_free.store(1 << 40, Ordering::SeqCst);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.reporter.report().note, "");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_the_engine_stops_claims_too() {
    let rig = Rig::start().await;
    rig.host.engine_disk_free.store(100 << 20, Ordering::SeqCst);
    while !rig.reporter.report().note.contains("container engine") {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let before = rig.controller.claims().len();
    let attempt = rig.submit(job(&[]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.controller.claims().len(), before);
    rig.host.engine_disk_free.store(1 << 40, Ordering::SeqCst);
    assert_eq!(rig.controller.report(attempt).await.outcome, Outcome::Succeeded);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn images_go_before_a_short_disk_stops_claims_but_not_those_in_use_nor_others() {
    let rig = Rig::start().await;
    let theirs = "theirs:1".to_owned();
    rig.engine.inner.images().insert(theirs.clone());
    let of = |image: &str, env| {
        let mut spec = job(env);
        spec.image = image.to_owned();
        rig.submit(spec)
    };
    for image in ["ended:1", "theirs:1"] {
        assert_eq!(rig.controller.report(of(image, &[])).await.outcome, Outcome::Succeeded);
    }
    rig.phase(of("used:1", &[("FAKE_RUN", "forever")]), JobState::Running).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(rig.engine.inner.images().contains("ended:1"), "there is room");
    rig.host.engine_disk_free.store(4 << 30, Ordering::SeqCst);
    while rig.engine.inner.images().contains("ended:1") {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left = std::collections::BTreeSet::from_iter(rig.engine.inner.images().clone());
    assert_eq!(left, [theirs, "used:1".to_owned()].into());
    let note = rig.reporter.report().note;
    assert_eq!(note, "removed 1 image that no job uses, 1024 MiB");
    assert_eq!(rig.controller.report(of("ended:1", &[])).await.outcome, Outcome::Succeeded, "it comes again");
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_no_job_used_for_long_goes_also_after_a_restart() {
    let rig = Rig::start().await;
    assert_eq!(rig.controller.report(rig.submit(job(&[]))).await.outcome, Outcome::Succeeded);
    let away = rig.leave().await;
    away.age_images(Duration::from_secs(20 * 24 * 3600));
    let rig = away.again().await;
    while !rig.engine.inner.images().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_nothing_names_is_swept_and_that_of_a_running_job_stays() {
    let rig = Rig::start().await;
    let running = rig.submit(job(&[("FAKE_RUN", "forever"), ("FAKE_FILES", "a:1")]));
    rig.phase(running, JobState::Running).await;
    let attempts = rig.dir.path().join("attempts");
    let left = attempts.join("k3m9q2xw.1");
    std::fs::create_dir_all(left.join("out")).unwrap();
    while left.exists() {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(std::fs::read_dir(&attempts).unwrap().count(), 1);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_for_an_engine_that_went_away_under_it() {
    let rig = Rig::start().await;
    rig.controller.until(|fake| (!fake.claims().is_empty()).then_some(())).await;
    rig.engine.away(true);
    let early = rig.submit(job(&[]));
    rig.phase(early, JobState::Preparing).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.controller.finished(), []);
    rig.engine.away(false);
    assert_eq!(rig.controller.report(early).await.outcome, Outcome::Succeeded);
    rig.stop().await;
}
