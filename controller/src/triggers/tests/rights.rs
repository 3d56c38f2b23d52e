//! Owners and quotas.

use super::*;

#[tokio::test]
async fn an_owner_who_is_gone_fires_nothing_until_somebody_adopts_it() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(60))).await;
    let fire =
        async || bench.triggers.fire(("default", "t"), json!({}), "test", None).await.expect("answered");
    assert_eq!(fire().await.state(), FiringState::Fired);
    bench.identity.revoke_token("anna", None).await.expect("revoked");
    let refused = fire().await;
    assert_eq!(refused.state(), FiringState::Refused);
    assert!(
        refused.reason.contains("was revoked") && refused.reason.contains("triggers adopt t"),
        "{refused:?}"
    );
    let problem = bench.triggers.get("default", "t").await.expect("there").owner_problem;
    assert_eq!(problem.as_deref(), Some(refused.reason.as_str()));
    let (_, viewer) = bench.identity.create_token("v", Role::Viewer, None, None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &viewer).await.expect("adopted");
    assert!(fire().await.reason.contains("may not submit"));
    let made = bench.identity.put_project(Project::new("other")).await.expect("made");
    let (_, stranger) =
        bench.identity.create_token("s", Role::Admin, Some(&made.name), None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &stranger).await.expect("adopted");
    assert!(fire().await.reason.contains("another project"));
    let (_, ben) = bench.identity.create_token("ben", Role::Submitter, None, None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &ben).await.expect("adopted");
    assert_eq!(fire().await.state(), FiringState::Fired);
}

#[tokio::test]
async fn what_a_quota_refuses_is_tried_again_and_then_given_up() {
    let bench = Bench::new().await;
    let mut project = Project::new("default");
    project.settings.quotas.queued = Some(1);
    bench.identity.put_project(project.clone()).await.expect("put");
    bench.apply(trigger("t", hook(60))).await;
    let mut short = trigger("short", hook(60));
    short.retry_for = Duration::ZERO;
    bench.apply(short).await;
    let fire = async |name: &str| {
        bench.triggers.fire(("default", name), json!({}), "test", None).await.expect("answered")
    };
    let first = fire("t").await;
    let second = fire("t").await;
    assert_eq!(second.state(), FiringState::Pending, "{second:?}");
    assert!(second.reason.contains("default"), "{second:?}");
    assert_eq!(fire("short").await.state(), FiringState::Refused);
    bench.cancel(bench.job_of(&first).await.id).await;
    let row = bench.jobs.firing(second.id).await.expect("read").expect("there");
    let now = store::FiringRow { next_try: Some(Timestamp::now()), ..row };
    bench.jobs.settle_firings(vec![now]).await.expect("set");
    bench.triggers.fire_pending().await.expect("fired");
    assert_eq!(bench.states("t").await, [FiringState::Fired; 2]);
}
