//! Triggers over the wire: applied by name, called by whoever signs, and not there for other projects.

use crate::harness::{Agent, Cluster, http, showing, spec};
use longshore_proto::v1::{
    self, access_client::AccessClient, jobs_client::JobsClient, projects_client::ProjectsClient,
    trigger_spec::Run, trigger_spec::When, triggers_client::TriggersClient,
};
use ring::hmac;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Code;

fn hook(name: &str) -> v1::TriggerSpec {
    let job = v1::JobSpec { env: [("FILE".to_owned(), "none".to_owned())].into(), ..spec("busybox:1") };
    let from = v1::trigger_setting::From::Payload("/object/key".to_owned());
    v1::TriggerSpec {
        name: name.to_owned(),
        when: Some(When::Webhook(v1::WebhookSource::default())),
        run: Some(Run::Job(job)),
        set: [("FILE".to_owned(), v1::TriggerSetting { from: Some(from) })].into(),
        ..v1::TriggerSpec::default()
    }
}

async fn apply(cluster: &Cluster, spec: v1::TriggerSpec) -> v1::AppliedTrigger {
    let request = v1::ApplyTriggersRequest { triggers: vec![spec], ..v1::ApplyTriggersRequest::default() };
    let applied = TriggersClient::new(cluster.channel.clone()).apply(request).await.expect("applied");
    applied.into_inner().triggers.remove(0)
}

fn sign(secret: &str, id: &str, body: &str) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{id}.{body}").as_bytes());
    format!("t={at},id={id},v1={}", hex::encode(tag))
}

async fn post(cluster: &Cluster, path: &str, signature: &str, body: String) -> (u16, String) {
    let url = format!("{}{path}", cluster.running.base_url);
    let answer = http().post(url).header("X-Longshore-Signature", signature).body(body).send().await;
    let answer = answer.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

#[tokio::test]
async fn a_signed_call_starts_a_job_that_is_told_of_it_and_a_stranger_learns_nothing() {
    let cluster = Cluster::start().await;
    let applied = apply(&cluster, hook("pushed")).await;
    let trigger = applied.trigger.expect("a trigger");
    assert_eq!(trigger.hook_url, format!("{}{}", cluster.running.base_url, trigger.hook_path));
    let path = trigger.hook_path;
    let body = r#"{"object":{"key":"in/a.bag"},"image":"evil"}"#;
    let signature = sign(&applied.secret, "d1", body);
    let (status, text) = post(&cluster, &path, &signature, body.to_owned()).await;
    assert_eq!(status, 202, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&answer["state"], &answer["again"]), (&json!("fired"), &json!(false)), "{answer}");
    let (_, again) = post(&cluster, &path, &signature, body.to_owned()).await;
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!((&again["job"], &again["again"]), (&answer["job"], &json!(true)));

    // Whoever has no secret cannot tell a hook that is there from one that is not.
    let wrong = sign("lsh_guess", "d2", body);
    let denied = post(&cluster, &path, &wrong, body.to_owned()).await;
    assert_eq!(denied.0, 401);
    assert_eq!(denied, post(&cluster, "/hooks/0123456789abcdef", &wrong, body.to_owned()).await);
    assert_eq!(denied, post(&cluster, &path, "", body.to_owned()).await);
    let large = "x".repeat((256 << 10) + 1);
    assert_eq!(post(&cluster, &path, &sign(&applied.secret, "d3", &large), large).await.0, 413);
    let get = http().get(format!("{}{path}", cluster.running.base_url)).send().await.expect("answered");
    assert_eq!(get.status().as_u16(), 405, "a link in a mail fires nothing");

    let id = answer["job"].as_str().expect("a job").to_owned();
    let job = cluster.get(&id).await.job.expect("a job");
    assert_eq!(
        (job.trigger.as_str(), job.trigger_kind.as_str(), job.trigger_depth),
        ("pushed", "webhook", 1)
    );
    let asked = job.spec.expect("a spec");
    assert_eq!((asked.image.as_str(), asked.env["FILE"].as_str()), ("busybox:1", "in/a.bag"));
    let mut agent = Agent::connect(&cluster, "one").await;
    let grant = agent.claim().await.remove(0);
    assert!(grant.sealed && !format!("{grant:?}").contains("evil"), "{grant:?}");
    let fetch = v1::FetchSecretsRequest { r#ref: grant.r#ref };
    let told = agent.link.fetch_secrets(fetch).await.expect("its own").into_inner().trigger.expect("told");
    let file: Value = serde_json::from_slice(&told.content).expect("JSON");
    assert_eq!((told.name.as_str(), told.kind.as_str()), ("pushed", "webhook"));
    assert_eq!((&file["payload"]["image"], &file["cause"]), (&json!("evil"), &json!("delivery d1")));

    let shown = format!(
        "{:?}",
        TriggersClient::new(cluster.channel.clone()).list(v1::ListTriggersRequest::default()).await
    );
    let audit = AccessClient::new(cluster.channel.clone()).list_audit(v1::ListAuditRequest::default()).await;
    assert!(!shown.contains(&applied.secret) && !format!("{audit:?}").contains(&applied.secret));
}

#[tokio::test]
async fn two_hundred_calls_of_all_kinds_start_as_many_jobs_as_are_right_and_new() {
    let cluster = Cluster::start().await;
    let mut spec = hook("pushed");
    spec.when = Some(When::Webhook(v1::WebhookSource { per_minute: 20, ..v1::WebhookSource::default() }));
    let applied = apply(&cluster, spec).await;
    let path = applied.trigger.expect("a trigger").hook_path;
    let mut answers = std::collections::BTreeMap::<u16, u32>::new();
    for n in 0..200 {
        let body = format!("{{\"n\":{n}}}");
        // Every second one is wrong; of the others every fourth is a repeat of the first.
        let signature = match n % 8 {
            0 if n > 0 => sign(&applied.secret, "d0", &body),
            0 | 2 | 4 | 6 => sign(&applied.secret, &format!("d{n}"), &body),
            1 | 3 => sign("lsh_guess", &format!("d{n}"), &body),
            5 => sign(&applied.secret, &format!("d{n}"), "another body"),
            _ => "v1=nonsense".to_owned(),
        };
        *answers.entry(post(&cluster, &path, &signature, body).await.0).or_default() += 1;
    }
    assert_eq!(answers[&401], 100);
    // A repeat is no burst; those that are new stop at what a minute takes, and a little as it goes by.
    let new = answers[&202] - 24;
    assert!((20..40).contains(&new), "{answers:?}");
    assert_eq!(answers[&429], 76 - new);
    let signature = sign(&applied.secret, "late", "{}");
    let url = format!("{}{path}", cluster.running.base_url);
    let late = http().post(url).header("X-Longshore-Signature", signature).body("{}").send().await;
    let late = late.expect("answered");
    assert_eq!(late.status().as_u16(), 429);
    assert!(late.headers().contains_key("retry-after"));
    let request = v1::ListJobsRequest { page_size: 500, ..v1::ListJobsRequest::default() };
    let jobs = JobsClient::new(cluster.channel.clone()).list(request).await.expect("listed").into_inner();
    assert_eq!(jobs.jobs.len(), new as usize);
}

#[tokio::test]
async fn strangers_at_a_hook_write_few_lines() {
    let cluster = Cluster::start_limited(5).await;
    for n in 0..50 {
        let signature = sign("lsh_guess", &n.to_string(), "{}");
        assert_eq!(post(&cluster, "/hooks/0123", &signature, "{}".to_owned()).await.0, 401);
    }
    let request = v1::ListAuditRequest { page_size: 1_000, ..v1::ListAuditRequest::default() };
    let audit = AccessClient::new(cluster.channel.clone()).list_audit(request).await.expect("listed");
    let lines = audit.into_inner().entries.into_iter().filter(|line| line.action == "hooks/").count();
    assert!((1..10).contains(&lines), "{lines}");
}

#[tokio::test]
async fn another_projects_triggers_are_not_there_and_every_mistake_is_told() {
    let cluster = Cluster::start().await;
    apply(&cluster, hook("mine")).await;
    let project = v1::Project { name: "other".to_owned(), ..v1::Project::default() };
    let put = v1::PutProjectRequest { project: Some(project), ..v1::PutProjectRequest::default() };
    ProjectsClient::new(cluster.channel.clone()).put(put).await.expect("put");
    let request = v1::CreateTokenRequest {
        name: "spy".to_owned(),
        role: v1::Role::Admin as i32,
        project: "other".to_owned(),
        ..v1::CreateTokenRequest::default()
    };
    let made = AccessClient::new(cluster.channel.clone()).create_token(request).await.expect("made");
    let mut spy = TriggersClient::new(showing(&cluster, &made.into_inner().text));
    let listed = spy.list(v1::ListTriggersRequest::default()).await.expect("listed").into_inner();
    assert_eq!(listed.triggers, []);
    let name = "mine".to_owned();
    let refused = [
        spy.get(v1::GetTriggerRequest { name: name.clone(), ..Default::default() }).await.map(drop),
        spy.fire(v1::FireTriggerRequest { name: name.clone(), ..Default::default() }).await.map(drop),
        spy.adopt(v1::AdoptTriggerRequest { name: name.clone(), ..Default::default() }).await.map(drop),
        spy.remove(v1::RemoveTriggerRequest { name: name.clone(), ..Default::default() }).await.map(drop),
        spy.rotate_secret(v1::RotateTriggerSecretRequest { name, ..Default::default() }).await.map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.expect_err("not there").code(), Code::NotFound);
    }
    let asked = v1::ListTriggersRequest { project: "default".to_owned(), ..Default::default() };
    assert_eq!(spy.list(asked).await.expect_err("not theirs").code(), Code::PermissionDenied);

    let cron = v1::CronSource { schedule: "61 * * * *".to_owned(), ..v1::CronSource::default() };
    let wrong = v1::TriggerSpec { when: Some(When::Cron(cron)), max_depth: 99, ..hook("Bad Name") };
    let request = v1::ApplyTriggersRequest { triggers: vec![wrong], ..v1::ApplyTriggersRequest::default() };
    let refused = TriggersClient::new(cluster.channel.clone()).apply(request).await.expect_err("wrong");
    assert_eq!(refused.code(), Code::InvalidArgument);
    for says in ["name", "the minute `61`", "max_depth"] {
        let told = longshore_common::wire::status::Refusal::from(&refused);
        assert!(told.fields.iter().any(|field| field.to_string().contains(says)), "{says}: {told:?}");
    }
}
