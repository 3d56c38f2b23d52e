//! Instants, and those that were missed.

use super::*;

#[tokio::test]
async fn a_clock_fires_once_a_day_for_a_year_with_both_turns() {
    let bench = Bench::new().await;
    let mut spec = trigger("nightly", cron("30 2 * * *", "Europe/Zurich", Missed::Once));
    spec.overlap = Overlap::Allow;
    bench.apply(spec).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("nightly", start).await;
    let mut now = start;
    while now < start.plus(HOUR * 24 * 365) {
        // A look at the wrong time between two right ones.
        bench.triggers.tick(now.plus(HOUR * 12)).await.expect("ticked");
        now = bench.triggers.tick(now).await.expect("ticked").expect("due");
    }
    let history = bench.history("nightly").await;
    let mut days: Vec<_> = history.iter().map(|firing| firing.cause[..10].to_owned()).collect();
    days.dedup();
    assert_eq!((history.len(), days.len()), (365, 365));
    let causes: Vec<_> = history.iter().map(|firing| firing.cause.as_str()).collect();
    assert!(causes.contains(&"2026-03-29T01:00:00Z"), "in the place of the skipped 02:30");
    assert!(causes.contains(&"2026-10-25T00:30:00Z") && !causes.contains(&"2026-10-25T01:30:00Z"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_restarted_fires_nothing_twice() {
    let bench = Bench::new().await;
    bench.apply(trigger("hourly", cron("0 * * * *", "UTC", Missed::Once))).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("hourly", start).await;
    let at = start.plus(HOUR);
    for now in [at, at, at.minus(HOUR / 2), start, at.plus(HOUR / 2), at] {
        bench.triggers.tick(now).await.expect("ticked");
    }
    let bench = bench.reopen().await;
    bench.triggers.tick(at.plus(Duration::from_secs(1))).await.expect("ticked");
    assert_eq!(bench.history("hourly").await.len(), 1);
    let next = bench.triggers.tick(at).await.expect("ticked").expect("due");
    assert_eq!(next, at.plus(HOUR));
}

#[tokio::test]
async fn what_was_missed_is_skipped_caught_up_once_or_all_of_it() {
    let bench = Bench::new().await;
    for (name, missed) in [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)] {
        let mut spec = trigger(name, cron("0 * * * *", "UTC", missed));
        spec.overlap = Overlap::Allow;
        bench.apply(spec).await;
        bench.since(name, Timestamp::from_micros(NEW_YEAR)).await;
    }
    // Half past five: five instants passed, none of them just now.
    let now = Timestamp::from_micros(NEW_YEAR).plus(HOUR * 5 + HOUR / 2);
    bench.triggers.tick(now).await.expect("ticked");
    bench.triggers.fire_pending().await.expect("fired");
    let skipped = bench.history("skip").await;
    assert_eq!(bench.states("skip").await, [FiringState::Skipped]);
    assert!(skipped[0].reason.contains("5 missed while the controller was away"), "{skipped:?}");
    let once = bench.history("once").await;
    assert_eq!((once.len(), once[0].cause.as_str()), (1, "2026-01-01T05:00:00Z"));
    assert_eq!(bench.states("all").await, [FiringState::Fired; 5]);
    // The next one is on time, for each of them.
    bench.triggers.tick(now.plus(HOUR / 2)).await.expect("ticked");
    for (name, count) in [("skip", 2), ("once", 2), ("all", 6)] {
        let history = bench.history(name).await;
        assert_eq!((history.len(), history[0].cause.as_str()), (count, "2026-01-01T06:00:00Z"), "{name}");
    }
    // A year away is bounded.
    bench.triggers.tick(now.plus(HOUR * 24 * 365)).await.expect("ticked");
    assert_eq!(bench.history("all").await.len(), 106);
}

#[tokio::test]
async fn a_clock_that_was_ahead_says_so_and_can_be_set_right() {
    let bench = Bench::new().await;
    bench.apply(trigger("hourly", cron("0 * * * *", "UTC", Missed::Once))).await;
    let now = Timestamp::now();
    bench.triggers.tick(now.plus(HOUR * 24 * 3)).await.expect("ticked");
    bench.triggers.tick(now).await.expect("ticked");
    let view = bench.triggers.get("default", "hourly").await.expect("there");
    let problem = view.problem.expect("told");
    assert!(problem.contains("triggers disable hourly"), "{problem}");
    bench.triggers.enable("default", "hourly", false).await.expect("disabled");
    let view = bench.triggers.enable("default", "hourly", true).await.expect("enabled");
    assert!(view.next_at.expect("due") <= now.plus(HOUR + HOUR));
    bench.triggers.tick(now).await.expect("ticked");
    assert_eq!(bench.triggers.get("default", "hourly").await.expect("there").problem, None);
}

#[tokio::test]
async fn all_that_was_missed_is_done_one_after_the_other() {
    let bench = Bench::new().await;
    bench.apply(trigger("hourly", cron("0 * * * *", "UTC", Missed::All))).await;
    let start = Timestamp::from_micros(NEW_YEAR);
    bench.since("hourly", start).await;
    bench.triggers.tick(start.plus(HOUR * 5)).await.expect("ticked");
    bench.triggers.fire_pending().await.expect("fired");
    for done in 1..=5 {
        let history = bench.history("hourly").await;
        let fired: Vec<_> = history.iter().filter(|one| one.state() == FiringState::Fired).collect();
        assert_eq!((fired.len(), history.len()), (done, 5));
        let job = bench.job_of(fired[0]).await.id;
        bench.cancel(job).await;
        bench.ends().await;
    }
}
