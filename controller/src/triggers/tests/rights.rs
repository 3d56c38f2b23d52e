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
    assert_eq!(refused.state(), FiringState::Pending, "somebody may mend it");
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
    // What came meanwhile comes now.
    bench.triggers.fire_pending().await.expect("fired");
    assert_eq!(bench.states("t").await, [FiringState::Fired; 5]);
}

#[tokio::test]
async fn what_nobody_mends_in_time_is_refused_and_a_delivery_of_it_can_be_repeated() {
    let bench = Bench::new().await;
    let mut spec = trigger("t", hook(60));
    spec.retry_for = Duration::ZERO;
    spec.overlap = Overlap::Replace;
    let applied = bench.apply(spec).await;
    let path = applied.trigger.hook_path.expect("a webhook");
    let (hook, secret) = (path.trim_start_matches("/hooks/"), applied.secret.expect("shown once"));
    bench.identity.revoke_token("anna", None).await.expect("revoked");
    let header = hooks::sign(&secret, "1", "{}");
    let deliver = async || bench.triggers.deliver(hooks::call(hook, &header, "{}")).await.expect("believed");
    assert_eq!(deliver().await.firing.state(), FiringState::Refused);
    let again = deliver().await;
    assert!(again.again && again.firing.state() == FiringState::Refused, "{again:?}");
    let (_, ben) = bench.identity.create_token("ben", Role::Submitter, None, None, "x").await.expect("made");
    bench.triggers.adopt("default", "t", &ben).await.expect("adopted");
    // Both were sent before either had its answer.
    let (first, second) = tokio::join!(deliver(), deliver());
    assert_eq!((first.firing.state(), second.firing.state()), (FiringState::Fired, FiringState::Fired));
    assert!(!bench.job_of(&first.firing).await.state.is_terminal(), "nothing replaces it");
    assert_eq!(bench.states("t").await, [FiringState::Fired], "one job");
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
    bench.try_now("t").await;
    assert_eq!(bench.states("t").await, [FiringState::Fired; 2]);
}

#[tokio::test]
async fn what_nobody_can_fire_does_not_pile_up() {
    let bench = Bench::new().await;
    bench.apply(trigger("t", hook(6_000))).await;
    bench.identity.revoke_token("anna", None).await.expect("revoked");
    for _ in 0..120 {
        bench.triggers.fire(("default", "t"), json!({}), "test", None).await.expect("answered");
    }
    let states = bench.states("t").await;
    let pending = states.iter().filter(|state| **state == FiringState::Pending).count();
    assert_eq!((states.len(), pending), (120, 100));
}
