//! Ends of jobs, loops of them, and what ended while nobody looked.

use super::*;

#[tokio::test]
async fn an_end_fires_once_and_a_loop_ends_by_itself() {
    let bench = Bench::new().await;
    let mut a = trigger("a", ends_of("start", &["cancelled"]));
    a.when = When::Completion(Completion {
        job: Some("{start,b}".into()),
        ..match ends_of("x", &["cancelled"]) {
            When::Completion(completion) => completion,
            _ => unreachable!("made so above"),
        }
    });
    bench.apply(a).await;
    bench.apply(trigger("b", ends_of("a", &["cancelled"]))).await;
    bench.apply(trigger("own", ends_of("own", &["cancelled"]))).await;
    let mut start = job();
    start.name = Some("start".into());
    let first = bench.submit(start).await;
    bench.ends().await;
    assert_eq!(bench.history("a").await.len(), 0, "it has not ended");
    bench.cancel(first).await;
    bench.ends().await;
    bench.ends().await;
    let history = bench.history("a").await;
    assert_eq!(history.len(), 1, "{history:?}");
    let told = bench.job_of(&history[0]).await;
    let origin = told.spec.trigger.clone().expect("it says so");
    assert_eq!((origin.kind, origin.depth, told.name.as_str()), (Kind::Completion, 1, "a"));
    let file = bench.triggers.file_of("default", &origin).await.expect("read").expect("remembered");
    let file: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(file["payload"]["outcome"], "cancelled");
    assert_eq!(file["payload"]["name"], "start");
    for _ in 0..12 {
        for name in ["a", "b"] {
            let last = bench.history(name).await;
            if let Some(last) = last.first().filter(|last| last.state() == FiringState::Fired) {
                bench.cancel(bench.job_of(last).await.id).await;
            }
        }
        bench.ends().await;
    }
    let (a, b) = (bench.history("a").await, bench.history("b").await);
    let fired = a.iter().chain(&b).filter(|firing| firing.state() == FiringState::Fired).count();
    assert_eq!(fired, MAX_DEPTH as usize);
    let refused: Vec<_> = a.iter().chain(&b).filter(|f| f.state() == FiringState::Refused).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].reason.contains("max_depth is 8"), "{refused:?}");
    // One that would wait for its own jobs.
    let fired = bench.triggers.fire(("default", "own"), json!({}), "test", None).await.expect("fired");
    bench.cancel(bench.job_of(&fired).await.id).await;
    bench.ends().await;
    let own = bench.history("own").await;
    assert_eq!(own[0].state(), FiringState::Refused);
    assert!(own[0].reason.contains("itself: true"), "{own:?}");
}

#[tokio::test]
async fn an_end_while_the_controller_was_away_is_found_and_its_outputs_become_an_input() {
    let bench = Bench::new().await;
    let mut spec = trigger("after", ends_of("train-*", &["cancelled"]));
    let When::Completion(asked) = &mut spec.when else { unreachable!("made so above") };
    asked.input = Some("model".into());
    bench.apply(spec).await;
    let mut train = job();
    train.name = Some("train-1".into());
    let first = bench.submit(train).await;
    bench.cancel(first).await;
    let bench = bench.reopen().await;
    bench.ends().await;
    let history = bench.history("after").await;
    let made = bench.job_of(&history[0]).await;
    let short = bench.jobs.get(first).await.expect("there").short_id;
    assert_eq!(made.spec.inputs["model"], Input::Job { job: short.to_string(), path: String::new() });
    let bench = bench.reopen().await;
    bench.ends().await;
    assert_eq!(bench.history("after").await.len(), 1);
}
