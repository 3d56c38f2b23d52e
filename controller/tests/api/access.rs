//! Who may make which call: every method of the descriptors and every route, with every kind of credential.

use crate::harness::{Authorized, Cluster, config, http, showing, spec};
use longshore_common::ids::AgentId;
use longshore_proto::v1::{self, access_client::AccessClient, jobs_client::JobsClient};
use prost::Message as _;
use std::collections::BTreeSet;
use tonic::{Code, Request, Status};

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Agent,
    /// A token of this role or a later one, of any project.
    Role(v1::Role),
    /// The same, bound to no project.
    Global(v1::Role),
}

use Takes::{Agent, Global, Nothing, Role};
use v1::Role::{Admin, Operator, Submitter, Viewer};

const CALLS: &[(&str, Takes)] = &[
    ("longshore.v1.Jobs/Submit", Role(Submitter)),
    ("longshore.v1.Jobs/SubmitBatch", Role(Submitter)),
    ("longshore.v1.Jobs/Get", Role(Viewer)),
    ("longshore.v1.Jobs/List", Role(Viewer)),
    ("longshore.v1.Jobs/Watch", Role(Viewer)),
    ("longshore.v1.Jobs/Wait", Role(Viewer)),
    ("longshore.v1.Jobs/Cancel", Role(Submitter)),
    ("longshore.v1.Jobs/Retry", Role(Submitter)),
    ("longshore.v1.Jobs/Remove", Role(Submitter)),
    ("longshore.v1.Jobs/Explain", Role(Viewer)),
    ("longshore.v1.Jobs/StreamLogs", Role(Viewer)),
    ("longshore.v1.Jobs/Exec", Role(Submitter)),
    ("longshore.v1.Jobs/ListArtifacts", Role(Viewer)),
    ("longshore.v1.Jobs/GetArtifactUrls", Role(Viewer)),
    ("longshore.v1.Jobs/LinkResults", Role(Viewer)),
    ("longshore.v1.Jobs/UploadInputs", Role(Submitter)),
    ("longshore.v1.Jobs/CompleteInputs", Role(Submitter)),
    ("longshore.v1.Jobs/CreateInput", Role(Submitter)),
    ("longshore.v1.Actions/Apply", Role(Submitter)),
    ("longshore.v1.Actions/Get", Role(Viewer)),
    ("longshore.v1.Actions/List", Role(Viewer)),
    ("longshore.v1.Actions/ListVersions", Role(Viewer)),
    ("longshore.v1.Actions/Diff", Role(Viewer)),
    ("longshore.v1.Actions/Advise", Role(Viewer)),
    ("longshore.v1.Actions/Archive", Role(Submitter)),
    ("longshore.v1.Actions/Restore", Role(Submitter)),
    ("longshore.v1.Agents/List", Role(Viewer)),
    ("longshore.v1.Agents/Get", Role(Viewer)),
    ("longshore.v1.Agents/CreateJoinToken", Global(Operator)),
    ("longshore.v1.Agents/ListJoinTokens", Global(Operator)),
    ("longshore.v1.Agents/RevokeJoinToken", Global(Operator)),
    ("longshore.v1.Agents/Remove", Global(Operator)),
    ("longshore.v1.Agents/ResetGpuHealth", Global(Operator)),
    ("longshore.v1.Agents/Cordon", Global(Operator)),
    ("longshore.v1.Agents/Uncordon", Global(Operator)),
    ("longshore.v1.Agents/Drain", Global(Operator)),
    ("longshore.v1.Agents/Label", Global(Operator)),
    ("longshore.v1.Agents/WatchEvents", Role(Viewer)),
    ("longshore.v1.Access/WhoAmI", Role(Viewer)),
    ("longshore.v1.Access/CreateToken", Role(Admin)),
    ("longshore.v1.Access/ListTokens", Role(Admin)),
    ("longshore.v1.Access/RevokeToken", Role(Admin)),
    ("longshore.v1.Access/ListAudit", Global(Admin)),
    ("longshore.v1.Projects/Put", Global(Admin)),
    ("longshore.v1.Projects/Get", Role(Viewer)),
    ("longshore.v1.Projects/List", Role(Viewer)),
    ("longshore.v1.Projects/SetSecret", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/ListSecrets", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/RemoveSecret", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/SetRegistry", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/ListRegistries", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/RemoveRegistry", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/Pause", Role(v1::Role::Operator)),
    ("longshore.v1.Projects/Resume", Role(v1::Role::Operator)),
    ("longshore.v1.Triggers/Apply", Role(Submitter)),
    ("longshore.v1.Triggers/Get", Role(Viewer)),
    ("longshore.v1.Triggers/List", Role(Viewer)),
    ("longshore.v1.Triggers/ListFirings", Role(Viewer)),
    ("longshore.v1.Triggers/SetEnabled", Role(Submitter)),
    ("longshore.v1.Triggers/Fire", Role(Submitter)),
    ("longshore.v1.Triggers/Adopt", Role(Submitter)),
    ("longshore.v1.Triggers/RotateSecret", Role(Submitter)),
    ("longshore.v1.Triggers/Remove", Role(Submitter)),
    ("longshore.v1.Batches/Create", Role(Submitter)),
    ("longshore.v1.Batches/Get", Role(Viewer)),
    ("longshore.v1.Batches/List", Role(Viewer)),
    ("longshore.v1.Batches/Watch", Role(Viewer)),
    ("longshore.v1.Batches/Cancel", Role(Submitter)),
    ("longshore.v1.Batches/Retry", Role(Submitter)),
    ("longshore.v1.Cluster/Pause", Global(Operator)),
    ("longshore.v1.Cluster/Resume", Global(Operator)),
    ("longshore.v1.Cluster/Status", Role(Viewer)),
    ("longshore.v1.Cluster/Ca", Nothing),
    // The join token in the message is its own permission.
    ("longshore.v1.Enrolment/Join", Nothing),
    ("longshore.v1.AgentLink/Link", Agent),
    ("longshore.v1.AgentLink/Claim", Agent),
    ("longshore.v1.AgentLink/AppendLogs", Agent),
    ("longshore.v1.AgentLink/ResumeLog", Agent),
    ("longshore.v1.AgentLink/FetchInput", Agent),
    ("longshore.v1.AgentLink/FetchSecrets", Agent),
    ("longshore.v1.AgentLink/OpenUploads", Agent),
    ("longshore.v1.AgentLink/CompleteUploads", Agent),
    ("longshore.v1.AgentLink/PutManifest", Agent),
    ("longshore.v1.AgentLink/Finish", Agent),
    ("longshore.v1.AgentLink/Exec", Agent),
    ("longshore.v1.AgentLink/Renew", Agent),
];

/// Who calls.
#[derive(Debug)]
struct Caller {
    name: String,
    /// `None`: nobody, or an agent.
    role: Option<v1::Role>,
    agent: bool,
    bound: bool,
    text: String,
    channel: Authorized,
}

impl Caller {
    /// The refusal of the guard, if there is one.
    fn expects(&self, takes: Takes) -> Option<Code> {
        let role = match takes {
            Nothing => return None,
            Agent => return (!self.agent).then_some(Code::Unauthenticated),
            Role(role) | Global(role) => role,
        };
        let Some(own) = self.role else { return Some(Code::Unauthenticated) };
        let short = (own as i32) < role as i32 || (self.bound && matches!(takes, Global(_)));
        short.then_some(Code::PermissionDenied)
    }
}

async fn token(cluster: &Cluster, name: &str, role: v1::Role, project: &str) -> String {
    let request = v1::CreateTokenRequest {
        name: name.to_owned(),
        role: role as i32,
        project: project.to_owned(),
        lifetime: None,
    };
    let made = AccessClient::new(cluster.channel.clone()).create_token(request).await;
    made.expect("made").into_inner().text
}

async fn project(cluster: &Cluster, name: &str) {
    let project = Some(v1::Project { name: name.to_owned(), ..v1::Project::default() });
    let request = v1::PutProjectRequest { project, create: true };
    let mut projects = v1::projects_client::ProjectsClient::new(cluster.channel.clone());
    projects.put(request).await.expect("made");
}

async fn callers(cluster: &Cluster) -> Vec<Caller> {
    project(cluster, "other").await;
    let mut callers = Vec::new();
    for (name, text) in [("nobody", ""), ("nonsense", "lst_abcdefgh_nonsense")] {
        let (text, channel) = (text.to_owned(), showing(cluster, text));
        callers.push(Caller { name: name.to_owned(), role: None, agent: false, bound: false, text, channel });
    }
    let key = cluster.running.enrol(AgentId::new()).await.expect("enrolled");
    let (name, channel) = ("agent".to_owned(), showing(cluster, &key));
    callers.push(Caller { name, role: None, agent: true, bound: false, text: key, channel });
    for role in [Viewer, Submitter, Operator, Admin] {
        for project in ["", "other"] {
            let name = format!("{}-{project}", role.as_str_name().to_lowercase());
            let text = token(cluster, &name, role, project).await;
            let (bound, channel) = (!project.is_empty(), showing(cluster, &text));
            callers.push(Caller { name, role: Some(role), agent: false, bound, text, channel });
        }
    }
    callers
}

/// An empty message to any method: the guard comes before whatever the method makes of it.
async fn call(channel: &Authorized, method: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    let path = format!("/{method}").parse().expect("a path");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    grpc.server_streaming(Request::new(()), path, codec).await.map(drop)
}

#[test]
fn every_method_of_the_descriptors_has_a_row() {
    let set = prost_types::FileDescriptorSet::decode(longshore_proto::DESCRIPTOR_SET).expect("decodes");
    let methods = set.file.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let name = move |method: &prost_types::MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), method.name())
            };
            service.method.iter().map(name)
        })
    });
    let rows: BTreeSet<_> = CALLS.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(methods.collect::<BTreeSet<_>>(), rows);
    assert_eq!(rows.len(), CALLS.len());
}

#[tokio::test]
async fn every_call_is_refused_to_whoever_may_not_make_it() {
    let cluster = Cluster::start().await;
    let mut wrong = Vec::new();
    for caller in callers(&cluster).await {
        for (method, takes) in CALLS {
            let code = call(&caller.channel, method).await.err().map(|status| status.code());
            let refused = code.filter(|code| matches!(code, Code::Unauthenticated | Code::PermissionDenied));
            if refused != caller.expects(*takes) {
                wrong.push(format!("{} {method}: {code:?}, {takes:?}", caller.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn every_route_is_refused_to_whoever_may_not_take_it() {
    let cluster = Cluster::start().await;
    for caller in callers(&cluster).await {
        for (route, takes, good) in [
            ("/healthz", Nothing, 200),
            ("/readyz", Nothing, 200),
            ("/metrics", Global(Viewer), 200),
            // Its signature is its only key.
            ("/blobs/cas/00?op=get&expires=9999999999&sig=00", Nothing, 403),
            ("/hooks/x", Nothing, 405),
            ("/nothing", Nothing, 404),
        ] {
            let url = format!("{}{route}", cluster.running.base_url);
            let answer = http().get(url).bearer_auth(&caller.text).send().await.expect("sent");
            let wanted = match caller.expects(takes) {
                Some(Code::Unauthenticated) => 401,
                Some(_) => 403,
                None => good,
            };
            assert_eq!(answer.status().as_u16(), wanted, "{} {route}", caller.name);
            assert!(answer.headers().get("www-authenticate").is_none(), "no browser asks for a password");
        }
    }
}

#[tokio::test]
async fn what_is_another_projects_is_not_there() {
    let cluster = Cluster::start().await;
    let mine = cluster.submit(v1::JobSpec { name: "secret".to_owned(), ..spec("x") }).await;
    project(&cluster, "other").await;
    let mut other = JobsClient::new(showing(&cluster, &token(&cluster, "spy", Admin, "other").await));
    for name in [mine.id.as_str(), &mine.id[..5], mine.uuid.as_str(), "secret"] {
        let (job, jobs) = (name.to_owned(), vec![name.to_owned()]);
        let codes = [
            other.get(v1::GetJobRequest { job: job.clone() }).await.map(drop),
            other.wait(v1::WaitJobRequest { job: job.clone(), ..Default::default() }).await.map(drop),
            other.explain(v1::ExplainJobRequest { job: job.clone(), ..Default::default() }).await.map(drop),
            other
                .stream_logs(v1::StreamLogsRequest { job: job.clone(), ..Default::default() })
                .await
                .map(drop),
            other
                .list_artifacts(v1::ListArtifactsRequest { job: job.clone(), ..Default::default() })
                .await
                .map(drop),
            other
                .get_artifact_urls(v1::GetArtifactUrlsRequest { job: job.clone(), ..Default::default() })
                .await
                .map(drop),
            other
                .link_results(v1::LinkResultsRequest { job: job.clone(), ..Default::default() })
                .await
                .map(drop),
            other.retry(v1::RetryJobRequest { job: job.clone(), ..Default::default() }).await.map(drop),
            other.cancel(v1::CancelJobsRequest { jobs: jobs.clone(), ..Default::default() }).await.map(drop),
            other.remove(v1::RemoveJobsRequest { jobs, ..Default::default() }).await.map(drop),
        ];
        for (index, answer) in codes.into_iter().enumerate() {
            assert_eq!(answer.expect_err("not there").code(), Code::NotFound, "{name}, call {index}");
        }
    }
    let listed = other.list(v1::ListJobsRequest::default()).await.expect("answered").into_inner();
    assert!(listed.jobs.is_empty(), "{listed:?}");
    let filter = Some(v1::JobFilter { project: "default".to_owned(), ..v1::JobFilter::default() });
    let spying = other.list(v1::ListJobsRequest { filter, ..v1::ListJobsRequest::default() }).await;
    assert_eq!(spying.expect_err("another's").code(), Code::PermissionDenied);
    let into = v1::SubmitRequest {
        project: "default".to_owned(),
        spec: Some(spec("x")),
        ..v1::SubmitRequest::default()
    };
    assert_eq!(other.submit(into).await.expect_err("another's").code(), Code::PermissionDenied);
    let own = v1::SubmitRequest { spec: Some(spec("x")), ..v1::SubmitRequest::default() };
    let own = other.submit(own).await.expect("its own").into_inner().job.expect("a job");
    assert_eq!(own.project, "other");
}

#[tokio::test]
async fn bytes_that_another_project_stored_are_not_stored_for_this_one() {
    let cluster = Cluster::start().await;
    project(&cluster, "other").await;
    let contents = vec![v1::InputContent { sha256: sha256(b"data").into(), size: 4 }];
    let upload = v1::UploadInputsRequest { contents };
    let opened = cluster.jobs.clone().upload_inputs(upload.clone()).await.expect("opened").into_inner();
    let target = opened.uploads[0].target.clone().expect("a target");
    let put = http().put(&target.urls[0]).body("data").send().await.expect("sent");
    assert!(put.status().is_success(), "{}", put.status());
    let again = cluster.jobs.clone().upload_inputs(upload.clone()).await.expect("asked").into_inner();
    assert!(again.uploads.is_empty(), "stored once");
    let mut other = JobsClient::new(showing(&cluster, &token(&cluster, "spy", Submitter, "other").await));
    let theirs = other.upload_inputs(upload).await.expect("asked").into_inner();
    assert_eq!(theirs.uploads.len(), 1, "knowing a digest is not having the bytes");
    let file = v1::InputFile { path: "x".into(), size: 4, sha256: sha256(b"data").into(), mode: 0o644 };
    let list = || tokio_stream::iter([v1::CreateInputRequest { files: vec![file.clone()] }]);
    let claimed = other.create_input(list()).await.expect_err("they do not have it");
    assert_eq!(claimed.code(), Code::InvalidArgument);
    let input = cluster.jobs.clone().create_input(list()).await.expect("made").into_inner();
    let source = v1::Input { source: Some(v1::input::Source::Uploaded(v1::UploadedInput { id: input.id })) };
    let stolen = v1::JobSpec { inputs: [("x".to_owned(), source)].into(), ..spec("x") };
    let request = v1::SubmitRequest { spec: Some(stolen), ..v1::SubmitRequest::default() };
    assert_eq!(other.submit(request).await.expect_err("another's").code(), Code::InvalidArgument);
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

#[tokio::test]
async fn where_the_cluster_keeps_its_things_is_for_tokens_of_all_projects() {
    let cluster = Cluster::start().await;
    project(&cluster, "lab").await;
    for (project, told) in [("", true), ("lab", false)] {
        let text = token(&cluster, &format!("v{project}"), Viewer, project).await;
        let mut client = v1::cluster_client::ClusterClient::new(showing(&cluster, &text));
        let parts = client.status(v1::StatusRequest {}).await.expect("answered").into_inner().parts;
        assert!(parts.iter().all(|part| part.healthy && part.detail.is_empty() != told), "{parts:?}");
    }
}

#[tokio::test]
async fn a_revoked_token_and_an_expired_one_open_nothing_from_the_next_call_on() {
    let cluster = Cluster::start().await;
    let mut admin = AccessClient::new(cluster.channel.clone());
    let text = token(&cluster, "ci", Submitter, "").await;
    let mut jobs = JobsClient::new(showing(&cluster, &text));
    jobs.list(v1::ListJobsRequest::default()).await.expect("it lives");
    let listed = admin.list_tokens(v1::ListTokensRequest {}).await.expect("listed").into_inner();
    assert!(!format!("{listed:?}").contains(&text), "its text is nowhere else");
    let revoke = v1::RevokeTokenRequest { token: "ci".to_owned() };
    admin.revoke_token(revoke.clone()).await.expect("revoked");
    let refused = jobs.list(v1::ListJobsRequest::default()).await.expect_err("revoked");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(admin.revoke_token(revoke).await.expect_err("gone").code(), Code::NotFound);
    let short = v1::CreateTokenRequest {
        name: "brief".to_owned(),
        role: Viewer as i32,
        lifetime: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
        ..v1::CreateTokenRequest::default()
    };
    let brief = admin.create_token(short).await.expect("made").into_inner().text;
    let late = JobsClient::new(showing(&cluster, &brief)).list(v1::ListJobsRequest::default()).await;
    let late = late.expect_err("expired");
    assert!(late.code() == Code::Unauthenticated && late.message().contains("expired"), "{late}");
    // Of the whole cluster's life, over a restart.
    let folder = cluster.stop().await;
    let cluster = Cluster::start_in(folder).await;
    let refused = JobsClient::new(showing(&cluster, &text)).list(v1::ListJobsRequest::default()).await;
    assert_eq!(refused.expect_err("still revoked").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_changed_and_what_is_refused_is_in_the_audit_log() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec("x")).await;
    let viewer = token(&cluster, "eve", Viewer, "").await;
    let cancel = v1::CancelJobsRequest { jobs: vec![job.id.clone()], ..v1::CancelJobsRequest::default() };
    let refused = JobsClient::new(showing(&cluster, &viewer)).cancel(cancel).await.expect_err("a viewer");
    assert!(refused.message().contains("eve") && refused.message().contains("submitter"), "{refused}");
    JobsClient::new(showing(&cluster, "")).list(v1::ListJobsRequest::default()).await.expect_err("nobody");
    let mut access = AccessClient::new(cluster.channel.clone());
    let mut request = v1::ListAuditRequest { page_size: 2, ..v1::ListAuditRequest::default() };
    let mut lines = Vec::new();
    loop {
        let page = access.list_audit(request.clone()).await.expect("read").into_inner();
        lines.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let told: Vec<_> =
        lines.iter().map(|line| (line.actor.as_str(), line.action.as_str(), line.result.as_str())).collect();
    let wanted = [
        ("nobody", "longshore.v1.Jobs/List", "UNAUTHENTICATED"),
        ("token eve", "longshore.v1.Jobs/Cancel", "PERMISSION_DENIED"),
        ("token admin", "longshore.v1.Access/CreateToken", "ok"),
        ("token admin", "longshore.v1.Jobs/Submit", "ok"),
    ];
    assert_eq!(told, wanted);
    assert_eq!((lines[3].targets.as_slice(), lines[3].project.as_str()), (&[job.id][..], "default"));
    assert!(lines.iter().all(|line| line.address == "127.0.0.1" && line.at.is_some()));
    assert!(!format!("{lines:?}").contains("lst_"), "no token is in it");
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_a_line_all_the_same() {
    let cluster = Cluster::start().await;
    let (first, rest) = tokio::sync::mpsc::channel(1);
    first.send(v1::CreateInputRequest::default()).await.expect("there is room");
    let mut jobs = cluster.jobs.clone();
    let pages = tokio_stream::wrappers::ReceiverStream::new(rest);
    let call =
        longshore_common::tasks::spawn("a caller", async move { jobs.create_input(pages).await.map(drop) });
    let mut access = AccessClient::new(cluster.channel.clone());
    // Answered on the same connection after the other call has begun.
    while access.who_am_i(v1::WhoAmIRequest::default()).await.is_err() || first.capacity() == 0 {
        tokio::task::yield_now().await;
    }
    access.who_am_i(v1::WhoAmIRequest::default()).await.expect("answered");
    call.abort();
    let lines = tokio::time::timeout(crate::harness::PATIENCE, async {
        loop {
            let page = access.list_audit(v1::ListAuditRequest::default()).await.expect("read").into_inner();
            if !page.entries.is_empty() {
                return page.entries;
            }
        }
    });
    let lines = lines.await.expect("there is a line");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (lines[0].actor.as_str(), lines[0].action.as_str()),
        ("token admin", "longshore.v1.Jobs/CreateInput")
    );
}

#[tokio::test]
async fn one_denial_in_a_batch_is_in_the_audit_log() {
    let cluster = Cluster::start().await;
    project(&cluster, "lab").await;
    project(&cluster, "own").await;
    let text = token(&cluster, "eve", Submitter, "own").await;
    let request = v1::SubmitRequest { spec: Some(spec("x")), project: "lab".into(), ..Default::default() };
    let batch = v1::SubmitBatchRequest { requests: vec![request] };
    let answer = JobsClient::new(showing(&cluster, &text)).submit_batch(batch).await.expect("answered");
    let error = answer.into_inner().results[0].error.clone().expect("refused");
    assert_eq!(error.code, Code::PermissionDenied as i32);
    let request = v1::ListAuditRequest { refused: true, ..v1::ListAuditRequest::default() };
    let lines = AccessClient::new(cluster.channel.clone()).list_audit(request).await.expect("read");
    let lines = lines.into_inner().entries;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].actor.as_str(), lines[0].result.as_str()), ("token eve", "PERMISSION_DENIED"));
    assert!(lines[0].message.contains("`lab`"), "{lines:?}");
}

#[tokio::test]
async fn an_address_that_is_wrong_too_often_is_slowed_down_and_right_tokens_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path());
    config.limits.failures_per_minute = 3.try_into().expect("not zero");
    config.limits.burst = 5.try_into().expect("not zero");
    config.limits.calls_per_second = 1.try_into().expect("not zero");
    let cluster = Cluster::start_as(config, folder).await;
    let spy = showing(&cluster, "lst_abcdefgh_nonsense");
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(call(&spy, "longshore.v1.Jobs/List").await.expect_err("wrong").code());
    }
    assert_eq!(codes[..3], [Code::Unauthenticated; 3]);
    assert_eq!(codes[3], Code::ResourceExhausted);
    call(&cluster.channel, "longshore.v1.Jobs/List").await.expect("a right token is heard");
    let mut last = Ok(());
    for _ in 0..10 {
        last = last.and(call(&cluster.channel, "longshore.v1.Jobs/List").await);
    }
    let refused = last.expect_err("too fast");
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("admin"), "{refused}");
}
