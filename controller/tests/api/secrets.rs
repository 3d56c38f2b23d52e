//! Secrets over the wire: values go in, and out to the agent of a live attempt alone.

use crate::harness::{Agent, Cluster, report, spec};
use longshore_proto::v1::{self, access_client::AccessClient, projects_client::ProjectsClient};
use tonic::Code;

const VALUE: &str = "correct-horse-battery";

#[tokio::test]
async fn a_value_goes_to_the_agent_of_a_live_attempt_and_to_nobody_else() {
    let cluster = Cluster::start().await;
    let mut projects = ProjectsClient::new(cluster.channel.clone());
    let set = |name: &str, value: &[u8]| v1::SetSecretRequest {
        project: String::new(),
        name: name.to_owned(),
        value: value.to_vec().into(),
    };
    projects.set_secret(set("token", VALUE.as_bytes())).await.expect("set");
    for (name, value) in [("../x", &b"x"[..]), ("empty", b""), ("large", &[0; 20_000])] {
        let refused = projects.set_secret(set(name, value)).await.expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
    let registry = v1::SetRegistryRequest {
        host: "registry.example:5000".to_owned(),
        username: "bot".to_owned(),
        password: VALUE.as_bytes().to_vec().into(),
        ..v1::SetRegistryRequest::default()
    };
    projects.set_registry(registry).await.expect("set");

    let secret_env = [("TOKEN", "token"), ("OWN", "own")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let named = v1::JobSpec { secret_env, ..spec("registry.example:5000/app:1") };
    let request = |value: &[u8]| v1::SubmitRequest {
        request_id: "once".to_owned(),
        spec: Some(named.clone()),
        secrets: [("own".to_owned(), value.to_vec().into())].into(),
        ..v1::SubmitRequest::default()
    };
    let mut jobs = cluster.jobs.clone();
    let job = jobs.submit(request(b"own-value")).await.expect("taken").into_inner().job.expect("a job");
    assert!(jobs.submit(request(b"own-value")).await.expect("the same").into_inner().existing);
    let other = jobs.submit(request(b"another")).await.expect_err("another value is another request");
    assert_eq!(other.code(), Code::AlreadyExists);

    let mut agent = Agent::connect(&cluster, "one").await;
    let grant = agent.claim().await.remove(0);
    assert!(grant.sealed && !format!("{grant:?}").contains(VALUE));
    let attempt = grant.r#ref.expect("a reference");
    let fetch = |attempt: &v1::AttemptRef| v1::FetchSecretsRequest { r#ref: Some(attempt.clone()) };
    let known = agent.link.fetch_secrets(fetch(&attempt)).await.expect("its own").into_inner();
    assert_eq!((&known.values["token"][..], &known.values["own"][..]), (VALUE.as_bytes(), &b"own-value"[..]));
    let login = known.login.expect("of the image's registry");
    assert_eq!((login.username.as_str(), &login.password[..]), ("bot", VALUE.as_bytes()));
    let stale = v1::AttemptRef { attempt: 2, ..attempt.clone() };
    let refused = agent.link.fetch_secrets(fetch(&stale)).await.expect_err("not granted");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let listed = projects.list_secrets(v1::ListSecretsRequest::default()).await.expect("listed").into_inner();
    let registries = projects.list_registries(v1::ListRegistriesRequest::default()).await.expect("listed");
    let audit = AccessClient::new(cluster.channel.clone()).list_audit(v1::ListAuditRequest::default()).await;
    let told = format!("{listed:?} {registries:?} {audit:?} {:?}", cluster.get(&job.id).await);
    assert!(!told.contains(VALUE) && !told.contains("own-value"), "{told}");
    assert!(told.contains("SetSecret") && told.contains("SetRegistry") && told.contains("TOKEN"), "{told}");

    assert!(agent.finish(report(&attempt, "succeeded")).await.is_none());
    let refused = agent.link.fetch_secrets(fetch(&attempt)).await.expect_err("it is over");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let retry = v1::RetryJobRequest { job: job.id.clone(), ..v1::RetryJobRequest::default() };
    jobs.retry(retry.clone()).await.expect("with what it brought along");
    let attempt = agent.claim_one().await;
    let known = agent.link.fetch_secrets(fetch(&attempt)).await.expect("its own").into_inner();
    assert_eq!(&known.values["own"][..], b"own-value");

    let gone = v1::RemoveSecretRequest { name: "token".to_owned(), ..v1::RemoveSecretRequest::default() };
    projects.remove_secret(gone.clone()).await.expect("removed");
    assert_eq!(projects.remove_secret(gone).await.expect_err("gone").code(), Code::NotFound);
    assert_eq!(agent.link.fetch_secrets(fetch(&attempt)).await.expect_err("gone").code(), Code::NotFound);
    let repeat = jobs.submit(request(b"own-value")).await.expect("it was taken already").into_inner();
    assert!(repeat.existing && repeat.job.expect("a job").id == job.id);
    let refused = jobs.retry(retry).await.expect_err("it names what is gone");
    assert!(refused.message().contains("`token`"), "{refused}");
    let folder = cluster.stop().await;
    let cluster = Cluster::start_in(folder).await;
    let mut projects = ProjectsClient::new(cluster.channel.clone());
    let kept = projects.list_registries(v1::ListRegistriesRequest::default()).await.expect("listed");
    assert_eq!(kept.into_inner().registries.len(), 1);
}
