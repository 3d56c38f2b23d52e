//! Triggers in a whole Longshore: a chain of jobs that end by themselves, over a restart, and one whose owner has gone.

use longshore_agent::host::fake::FakeHost;
use longshore_proto::v1::{
    self, FiringState, JobState, access_client::AccessClient, trigger_spec::Run, trigger_spec::When,
    triggers_client::TriggersClient,
};
use longshore_tests::{
    local::{Local, scripted},
    token::{self, Authorized},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{interval, timeout};
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(60);

fn channel(local: &Local) -> Authorized {
    let channel = Channel::from_shared(local.url.clone()).expect("an address").connect_lazy();
    token::authorized(channel, &local.folder().join("controller"))
}

fn after(name: &str, job: &str, status: &str) -> v1::TriggerSpec {
    let completion = v1::CompletionSource {
        job: job.to_owned(),
        status: vec![status.to_owned()],
        input: "result".to_owned(),
        ..v1::CompletionSource::default()
    };
    v1::TriggerSpec {
        name: name.to_owned(),
        when: Some(When::Completion(completion)),
        run: Some(Run::Job(scripted(&[("FAKE_FILES", "b.txt:7")]))),
        ..v1::TriggerSpec::default()
    }
}

/// The firings of a trigger, newest first, once there are so many that have been dealt with.
async fn firings(local: &Local, name: &str, count: usize) -> Vec<v1::TriggerFiring> {
    firings_that(local, name, count, |firing| firing.state() != FiringState::Pending).await
}

/// The same, once all of them are as they should be.
async fn firings_that(
    local: &Local,
    name: &str,
    count: usize,
    are: impl Fn(&v1::TriggerFiring) -> bool,
) -> Vec<v1::TriggerFiring> {
    let mut api = TriggersClient::new(channel(local));
    let look = async {
        let mut tick = interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let request =
                v1::ListFiringsRequest { name: name.to_owned(), ..v1::ListFiringsRequest::default() };
            let all = api.list_firings(request).await.expect("listed").into_inner().firings;
            if all.len() >= count && all.iter().all(&are) {
                return all;
            }
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{name} does not fire"))
}

#[tokio::test]
async fn a_chain_of_ends_goes_on_over_a_restart_and_hands_its_files_on() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let request = v1::ApplyTriggersRequest {
        triggers: vec![after("second", "first", "succeeded"), after("third", "second", "succeeded")],
        ..v1::ApplyTriggersRequest::default()
    };
    let applied = TriggersClient::new(channel(&local)).apply(request).await.expect("applied").into_inner();
    assert_eq!(applied.triggers.len(), 2);
    let mut first = scripted(&[("FAKE_FILES", "a.txt:5")]);
    first.name = "first".to_owned();
    let first = local.submit(first).await;
    local.finished(&first.id).await;
    let local = local.while_down(async || {}).await;
    let second = firings(&local, "second", 1).await.remove(0);
    assert_eq!(second.cause, format!("job {} succeeded", first.id));
    let second = local.finished(&second.job).await;
    assert_eq!((second.state(), second.trigger_depth), (JobState::Succeeded, 1), "{second:#?}");
    let inputs = second.spec.expect("a spec").inputs;
    let Some(v1::input::Source::Job(from)) = &inputs["result"].source else { panic!("{inputs:?}") };
    assert_eq!(from.job, first.id);
    let third = firings(&local, "third", 1).await.remove(0);
    let third = local.finished(&third.job).await;
    assert_eq!(
        (third.state(), third.trigger_depth, third.trigger.as_str()),
        (JobState::Succeeded, 2, "third")
    );
    assert_eq!((firings(&local, "second", 1).await.len(), firings(&local, "third", 1).await.len()), (1, 1));
    local.stop().await;
}

#[tokio::test]
async fn a_trigger_whose_owner_was_revoked_says_so_and_fires_again_when_it_is_adopted() {
    let local = Local::start(&[Arc::new(FakeHost::new())]).await;
    let mut access = AccessClient::new(channel(&local));
    let request = v1::CreateTokenRequest {
        name: "anna".to_owned(),
        role: v1::Role::Submitter as i32,
        ..v1::CreateTokenRequest::default()
    };
    let text = access.create_token(request).await.expect("made").into_inner().text;
    let annas = Channel::from_shared(local.url.clone()).expect("an address").connect_lazy();
    let credentials = longshore_common::wire::Credentials::new(&text, "").expect("plain text");
    let mut annas = TriggersClient::new(Authorized::new(annas, credentials));
    let request = v1::ApplyTriggersRequest {
        triggers: vec![after("t", "start-*", "failed")],
        ..v1::ApplyTriggersRequest::default()
    };
    annas.apply(request).await.expect("applied");
    access.revoke_token(v1::RevokeTokenRequest { token: "anna".to_owned() }).await.expect("revoked");
    let start = async || {
        let mut job = scripted(&[("FAKE_EXIT", "3")]);
        job.name = "start-1".to_owned();
        let job = local.submit(job).await;
        local.finished(&job.id).await;
    };
    start().await;
    let refused = firings_that(&local, "t", 1, |firing| !firing.reason.is_empty()).await.remove(0);
    assert_eq!(refused.state(), FiringState::Pending, "it is tried again");
    assert!(
        refused.reason.contains("was revoked") && refused.reason.contains("triggers adopt t"),
        "{refused:?}"
    );
    let mut admin = TriggersClient::new(channel(&local));
    let adopt = v1::AdoptTriggerRequest { name: "t".to_owned(), ..v1::AdoptTriggerRequest::default() };
    admin.adopt(adopt).await.expect("adopted");
    start().await;
    let fired = firings(&local, "t", 2).await;
    assert!(fired.iter().all(|firing| firing.state() == FiringState::Fired), "{fired:?}");
    local.stop().await;
}
