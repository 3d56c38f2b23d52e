//! Signed calls.

use super::*;

async fn secret_of(bench: &Bench, name: &str, per_minute: u32) -> (String, String) {
    let applied = bench.apply(trigger(name, hook(per_minute))).await;
    let path = applied.trigger.hook_path.expect("a webhook");
    (path.trim_start_matches("/hooks/").to_owned(), applied.secret.expect("shown once"))
}

pub(super) fn sign(secret: &str, id: &str, body: &str) -> String {
    let at = Timestamp::now().as_micros() / 1_000_000;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{id}.{body}").as_bytes());
    format!("t={at},id={id},v1={}", hex::encode(tag))
}

pub(super) fn call<'a>(hook: &'a str, header: &'a str, body: &'a str) -> Delivery<'a> {
    Delivery { hook, longshore: Some(header), github: None, body: body.as_bytes() }
}

#[tokio::test]
async fn two_hundred_deliveries_with_wrong_signatures_replays_and_bursts() {
    let bench = Bench::new().await;
    let (hook, secret) = secret_of(&bench, "pushed", 50).await;
    let mut jobs = std::collections::BTreeSet::new();
    for n in 0..50 {
        let (id, body) = (format!("d{n}"), format!("{{\"n\":{n}}}"));
        let good = sign(&secret, &id, &body);
        let wrong = sign("lsh_other", &id, &body);
        for (hook, header, body) in [
            (hook.as_str(), wrong.as_str(), body.as_str()),
            (&hook, &good, "{\"n\":-1}"),
            ("gone", &good, &body),
        ] {
            let denied = bench.triggers.deliver(call(hook, header, body)).await.expect_err("a stranger");
            assert!(matches!(denied, Denied::Signature), "{denied}");
        }
        let answer = bench.triggers.deliver(call(&hook, &good, &body)).await.expect("taken");
        let again = bench.triggers.deliver(call(&hook, &good, &body)).await.expect("taken");
        assert_eq!((answer.again, again.again), (false, true));
        assert_eq!(answer.firing.job, again.firing.job, "a replay is the same job");
        jobs.insert(answer.firing.job.expect("a job"));
    }
    assert_eq!(jobs.len(), 50);
    let header = sign(&secret, "one-more", "{}");
    let denied = bench.triggers.deliver(call(&hook, &header, "{}")).await.expect_err("a burst");
    assert!(matches!(denied, Denied::TooMany(50)), "{denied}");
    assert_eq!(bench.history("pushed").await.len(), 50, "what was refused is not noted");
    // Replays are known after a restart, too, and so is the secret.
    let bench = bench.reopen().await;
    let replay = sign(&secret, "d0", "{\"n\":0}");
    assert!(bench.triggers.deliver(call(&hook, &replay, "{\"n\":0}")).await.expect("known").again);
    let (_, new) = bench.triggers.rotate("default", "pushed", "anna").await.expect("rotated");
    let denied = bench.triggers.deliver(call(&hook, &replay, "{\"n\":0}")).await;
    assert!(matches!(denied, Err(Denied::Signature)));
    let fresh = sign(&new, "fresh", "{}");
    assert!(!bench.triggers.deliver(call(&hook, &fresh, "{}")).await.expect("taken").again);
    bench.triggers.enable("default", "pushed", false).await.expect("disabled");
    let fresh = sign(&new, "fresher", "{}");
    assert!(matches!(bench.triggers.deliver(call(&hook, &fresh, "{}")).await, Err(Denied::Disabled)));
    bench.triggers.remove("default", "pushed").await.expect("removed");
    assert!(matches!(bench.triggers.deliver(call(&hook, &fresh, "{}")).await, Err(Denied::Signature)));
}

#[tokio::test]
async fn a_payload_sets_what_was_written_down_and_nothing_else() {
    let bench = Bench::new().await;
    let mut spec = trigger("pushed", hook(60));
    spec.set.insert("FILE".into(), Setting::Payload("/object/key".into()));
    bench.apply(spec).await;
    let fire = async |payload: serde_json::Value| {
        bench.triggers.fire(("default", "pushed"), payload, "test", None).await.expect("answered")
    };
    let evil = json!({
        "object": {"key": "a/b.bag"}, "image": "evil", "env": {"LD_PRELOAD": "x"}, "resources": {"cpu": 999},
        "priority": 100, "job": {"image": "evil"}, "command": ["rm"], "project": "other",
    });
    let made = bench.job_of(&fire(evil).await).await;
    let mut expected = job();
    expected.env.insert("FILE".into(), "a/b.bag".into());
    expected.name = Some("pushed".into());
    expected.trigger.clone_from(&made.spec.trigger);
    assert_eq!(*made.spec, expected);
    assert_eq!(bench.job_of(&fire(json!({})).await).await.spec.env["FILE"], "none");
    let refused = fire(json!({"object": {"key": ["a"]}})).await;
    assert_eq!(refused.state(), FiringState::Refused);
    assert!(refused.reason.contains("set.FILE"), "{refused:?}");
}
