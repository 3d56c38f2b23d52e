//! Stale tokens: each call after the claim refuses one, for that attempt alone, and changes nothing. The calls come
//! from the contract itself, so that a new one has to say here what it does.

use crate::{
    harness::{Agent, Cluster, capacity, lines, report, spec},
    path::artifacts,
};
use longshore_proto::v1::{self, JobState, link_request, link_response::Message};
use prost::Message as _;
use tonic::Code;

/// The calls that name no attempt.
const BESIDE: [&str; 2] = ["Claim", "Renew"];

/// What the token of the attempt in question has against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// Another attempt has the job.
    OlderAttempt,
    /// Granted before a backup was restored, or by nobody.
    OtherEpoch,
    /// The job is over, by a later attempt.
    OlderAttemptOfAnEndedJob,
    /// The job is over, by this attempt.
    Ended,
    UnknownJob,
}

impl Stale {
    const ALL: [Self; 5] =
        [Self::OlderAttempt, Self::OtherEpoch, Self::OlderAttemptOfAnEndedJob, Self::Ended, Self::UnknownJob];
}

#[derive(Debug, PartialEq)]
enum Answer {
    Refused(Code),
    Taken,
}

/// Everything that a call may change of a job.
#[derive(Debug, PartialEq)]
struct Seen {
    job: v1::GetJobResponse,
    log: Vec<u8>,
    files: Vec<(String, Vec<u8>)>,
}

async fn see(cluster: &Cluster, job: &str) -> Seen {
    let request = v1::StreamLogsRequest { job: job.to_owned(), ..v1::StreamLogsRequest::default() };
    let mut messages = cluster.jobs.clone().stream_logs(request).await.expect("opened").into_inner();
    let mut log = Vec::new();
    while let Some(message) = messages.message().await.expect("read") {
        message.records.iter().for_each(|record| log.extend_from_slice(&record.data));
    }
    // A link is made anew for each answer.
    let job_seen = v1::GetJobResponse { result: None, ..cluster.get(job).await };
    Seen { job: job_seen, log, files: artifacts(cluster, job).await }
}

fn calls_after_the_claim() -> Vec<String> {
    let contract = prost_types::FileDescriptorSet::decode(longshore_proto::DESCRIPTOR_SET).expect("decodes");
    let service = contract.file.iter().flat_map(|file| &file.service).find(|one| one.name() == "AgentLink");
    let methods =
        service.expect("agents have a service").method.iter().map(|method| method.name().to_owned());
    methods.filter(|name| !BESIDE.contains(&&**name)).collect()
}

/// One job with a stale token and the attempt that speaks for it, if one does.
struct Case {
    job: String,
    stale: v1::AttemptRef,
    live: Option<v1::AttemptRef>,
}

const LOG: &[&str] = &["kept\n"];

impl Case {
    async fn of(kind: Stale, cluster: &Cluster, agent: &mut Agent) -> Self {
        let job = cluster.submit(spec("x")).await.id;
        let first = agent.claim_one().await;
        let live = match kind {
            Stale::OlderAttempt | Stale::OlderAttemptOfAnEndedJob => {
                lose(cluster, agent, &job).await;
                agent.claim_one().await
            }
            Stale::OtherEpoch | Stale::Ended | Stale::UnknownJob => first.clone(),
        };
        agent.append(&live, 0, lines(0, LOG)).await;
        agent.store(&live, &[("kept.txt", b"kept")]).await;
        if matches!(kind, Stale::Ended | Stale::OlderAttemptOfAnEndedJob) {
            assert_eq!(agent.finish(done(&live)).await, None);
            let stale = if kind == Stale::Ended { live } else { first };
            return Self { job, stale, live: None };
        }
        let stale = match kind {
            Stale::OtherEpoch => v1::AttemptRef { epoch: live.epoch - 1, ..live.clone() },
            Stale::UnknownJob => v1::AttemptRef { job: vec![7; 16].into(), ..live.clone() },
            _ => first,
        };
        Self { job, stale, live: Some(live) }
    }
}

/// Its report counts what [`Case::of`] stored.
fn done(attempt: &v1::AttemptRef) -> v1::FinishReport {
    v1::FinishReport {
        log_end: lines(0, LOG).len() as u64,
        manifest_pages: 1,
        artifact_count: 1,
        artifact_bytes: 4,
        ..report(attempt, "succeeded")
    }
}

/// Another process of the agent does not list it.
async fn lose(cluster: &Cluster, agent: &mut Agent, job: &str) {
    *agent = agent.restarted(cluster).await;
    for sequence in 1..=2 {
        beat(agent, sequence, &[]).await;
    }
    cluster.until_queued(job).await;
}

async fn beat(agent: &mut Agent, sequence: u64, held: &[&v1::AttemptRef]) -> v1::Renewed {
    let held = held.iter().map(|attempt| v1::HeldAttempt {
        r#ref: Some((*attempt).clone()),
        phase: JobState::Collecting as i32,
        ..v1::HeldAttempt::default()
    });
    let (held, free) = (held.collect(), Some(capacity()));
    let heartbeat = v1::Heartbeat { sequence, held, free, ..v1::Heartbeat::default() };
    agent.say(link_request::Message::Heartbeat(heartbeat)).await;
    loop {
        if let Message::Renewed(renewed) = agent.hear().await
            && renewed.sequence == sequence
        {
            return renewed;
        }
    }
}

fn code(error: Option<v1::RequestError>) -> Answer {
    error.map_or(Answer::Taken, |error| Answer::Refused(Code::from_i32(error.code)))
}

/// Says `stale` in a call of this name, and `well` beside it where one call speaks for many.
async fn call(name: &str, agent: &mut Agent, stale: &v1::AttemptRef, well: &v1::AttemptRef) -> Answer {
    let r#ref = Some(stale.clone());
    let status = match name {
        "Link" => {
            let renewed = beat(agent, 9, &[stale, well]).await;
            assert!(!renewed.fenced.contains(well) && renewed.expired.is_empty(), "{renewed:?}");
            let fenced = renewed.fenced.contains(stale);
            return if fenced { Answer::Refused(Code::FailedPrecondition) } else { Answer::Taken };
        }
        "AppendLogs" => {
            let end = lines(0, LOG).len() as u64;
            let more = |attempt: &v1::AttemptRef, offset, first, text| v1::LogAppend {
                r#ref: Some(attempt.clone()),
                offset,
                data: lines(first, &[text]),
            };
            let appends = vec![more(stale, end, 1, "stale\n"), more(well, 0, 0, "well\n")];
            let answer = agent.link.append_logs(v1::AppendLogsRequest { appends }).await.expect("answered");
            let mut results = answer.into_inner().results;
            assert_eq!(results.remove(1).error, None);
            return code(results.remove(0).error);
        }
        "Finish" => {
            let log_end = lines(0, &["well\n"]).len() as u64;
            let well = v1::FinishReport { log_end, ..report(well, "succeeded") };
            let reports = vec![report(stale, "exit_code(3)"), well];
            let answer = agent.link.finish(v1::FinishRequest { reports }).await.expect("answered");
            let mut results = answer.into_inner().results;
            assert_eq!(results.remove(1).error, None);
            return code(results.remove(0).error);
        }
        "ResumeLog" => agent.link.resume_log(v1::ResumeLogRequest { r#ref }).await.err(),
        "FetchInput" => {
            let request = v1::FetchInputRequest { r#ref, ..v1::FetchInputRequest::default() };
            agent.link.fetch_input(request).await.err()
        }
        "FetchSecrets" => agent.link.fetch_secrets(v1::FetchSecretsRequest { r#ref }).await.err(),
        "OpenUploads" => {
            let files = vec![v1::OpenUpload { size: 4, ..v1::OpenUpload::default() }];
            agent.link.open_uploads(v1::OpenUploadsRequest { r#ref, files }).await.err()
        }
        "CompleteUploads" => {
            let upload_id = "1".to_owned();
            let uploads = vec![v1::CompleteUpload { upload_id, ..v1::CompleteUpload::default() }];
            agent.link.complete_uploads(v1::CompleteUploadsRequest { r#ref, uploads }).await.err()
        }
        "PutManifest" => {
            let request = v1::PutManifestRequest { r#ref, ..v1::PutManifestRequest::default() };
            agent.link.put_manifest(request).await.err()
        }
        "Exec" => {
            let open = v1::ExecOpen { r#ref, ..v1::ExecOpen::default() };
            let message = Some(v1::agent_exec_request::Message::Open(open));
            let up = futures::stream::iter([v1::AgentExecRequest { message }]);
            agent.link.exec(up).await.err()
        }
        new => panic!("AgentLink/{new} has no row here: say what it does with a stale token"),
    };
    status.map_or(Answer::Taken, |status| Answer::Refused(status.code()))
}

#[tokio::test]
async fn every_call_after_the_claim_refuses_a_stale_token_for_that_attempt_alone() {
    let calls = calls_after_the_claim();
    assert!(calls.len() >= 8, "{calls:?}");
    for kind in Stale::ALL {
        let cluster = Cluster::start().await;
        let mut agent = Agent::connect(&cluster, "a").await;
        let case = Case::of(kind, &cluster, &mut agent).await;
        let neighbour = cluster.submit(spec("neighbour")).await;
        let mut well = agent.claim_one().await;
        for name in &calls {
            // What a heartbeat does not list would be lost, and what it lists may move.
            if let Some(live) = &case.live {
                beat(&mut agent, 5, &[live, &well]).await;
            }
            let before = see(&cluster, &case.job).await;
            let answer = call(name, &mut agent, &case.stale, &well).await;
            // What was reported is heard again by an agent that missed the answer: nothing is wrong with it.
            let heard = kind == Stale::Ended && ["Link", "Finish"].contains(&&**name);
            let expected = if heard { Answer::Taken } else { Answer::Refused(Code::FailedPrecondition) };
            assert_eq!(answer, expected, "{name} with a token that is stale: {kind:?}");
            assert_eq!(see(&cluster, &case.job).await, before, "{name} with {kind:?} changed something");
            if name == "Finish" {
                let ended = cluster.wait(&neighbour.id).await;
                assert_eq!(
                    (ended.state(), &*see(&cluster, &neighbour.id).await.log),
                    (JobState::Succeeded, &b"well\n"[..])
                );
                cluster.submit(spec("neighbour")).await;
                well = agent.claim_one().await;
            }
        }
        // What the attempt itself stored is what counts.
        if let Some(live) = &case.live {
            assert_eq!(agent.finish(done(live)).await, None, "{kind:?}");
        }
        let seen = see(&cluster, &case.job).await;
        assert_eq!(seen.job.job.expect("a job").state(), JobState::Succeeded, "{kind:?}");
        assert_eq!(
            (&*seen.log, &*seen.files),
            (&b"kept\n"[..], &[("kept.txt".to_owned(), b"kept".to_vec())][..])
        );
        cluster.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_lists_anothers_attempt_is_told_that_it_is_not_its_own() {
    let cluster = Cluster::start().await;
    let mut owner = Agent::connect(&cluster, "a").await;
    let mut other = Agent::connect(&cluster, "b").await;
    let job = cluster.submit(spec("x")).await;
    let attempt = owner.claim_one().await;
    let before = cluster.get(&job.id).await;
    let renewed = beat(&mut other, 1, &[&attempt]).await;
    assert_eq!(renewed.fenced, std::slice::from_ref(&attempt));
    assert_eq!(cluster.get(&job.id).await, before);
    assert_eq!(beat(&mut owner, 1, &[&attempt]).await.fenced, []);
}
