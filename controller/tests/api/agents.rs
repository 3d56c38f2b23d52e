//! Who may speak for an attempt: its own agent, as long as its credential is good.

use crate::harness::{Agent, Cluster, lines, report, showing, spec};
use longshore_proto::v1::{self, agent_link_client::AgentLinkClient, link_request};
use tonic::Code;

#[tokio::test]
async fn another_agent_can_neither_feed_nor_read_nor_end_an_attempt() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec("image")).await;
    let mut owner = Agent::connect(&cluster, "owner").await;
    let attempt = owner.claim_one().await;
    let mut thief = Agent::connect(&cluster, "thief").await;
    let r#ref = Some(attempt.clone());

    let appended = thief.append(&attempt, 0, lines(0, &["not yours\n"])).await;
    assert_eq!(appended.error.expect("refused").code, Code::PermissionDenied as i32);
    let ended = thief.finish(report(&attempt, "succeeded")).await;
    assert_eq!(ended.expect("refused").code, Code::PermissionDenied as i32);
    let link = &mut thief.link;
    let statuses = [
        link.resume_log(v1::ResumeLogRequest { r#ref: r#ref.clone() }).await.map(drop),
        link.fetch_secrets(v1::FetchSecretsRequest { r#ref: r#ref.clone() }).await.map(drop),
        link.fetch_input(v1::FetchInputRequest { r#ref: r#ref.clone(), ..Default::default() })
            .await
            .map(drop),
        link.open_uploads(v1::OpenUploadsRequest { r#ref: r#ref.clone(), ..Default::default() })
            .await
            .map(drop),
        link.complete_uploads(v1::CompleteUploadsRequest { r#ref: r#ref.clone(), ..Default::default() })
            .await
            .map(drop),
        link.put_manifest(v1::PutManifestRequest { r#ref: r#ref.clone(), ..Default::default() })
            .await
            .map(drop),
    ];
    for status in statuses {
        assert_eq!(status.expect_err("refused").code(), Code::PermissionDenied);
    }
    // Nor may it say that it is the owner.
    let mut claim = thief.claim_request();
    claim.agent_id = owner.id.as_bytes().to_vec().into();
    let status = thief.link.claim(claim).await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);

    assert!(owner.append(&attempt, 0, lines(0, &["mine\n"])).await.error.is_none());
    assert!(owner.finish(report(&attempt, "succeeded")).await.is_none());
    assert_eq!(cluster.wait(&job.id).await.state(), v1::JobState::Succeeded);
}

#[tokio::test]
async fn whoever_shows_nothing_or_something_made_up_is_no_agent() {
    let cluster = Cluster::start().await;
    let mut nobody = AgentLinkClient::new(cluster.bare.clone());
    let status = nobody.claim(v1::ClaimRequest::default()).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("join-token"), "{status:?}");
    for made_up in ["lsk_AAAA", "x", ""] {
        let mut liar = AgentLinkClient::new(showing(&cluster, made_up));
        let status = liar.claim(v1::ClaimRequest::default()).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{made_up}");
    }
}

#[tokio::test]
async fn an_agent_that_is_removed_is_not_heard_from_the_next_call_on_and_its_jobs_go_to_others() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec("image")).await;
    let mut agent = Agent::connect(&cluster, "gone").await;
    let attempt = agent.claim_one().await;
    let mut agents = v1::agents_client::AgentsClient::new(cluster.channel.clone());
    let remove =
        |force| v1::RemoveAgentRequest { agent: "gone".to_owned(), force, request_id: String::new() };
    let status = agents.remove(remove(false)).await.expect_err("it has work");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("--force"), "{status:?}");

    agents.remove(remove(true)).await.expect("removed");
    let request = v1::AppendLogsRequest { appends: vec![] };
    let status = agent.link.append_logs(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("was removed"), "{status:?}");
    // The link, which was open, has ended with the same words.
    let ended = loop {
        match agent.down.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.expect_err("a status").code(), Code::Unauthenticated);
    drop(
        agent
            .up
            .send(v1::LinkRequest { message: Some(link_request::Message::Heartbeat(Default::default())) })
            .await,
    );
    let listed = agents.list(v1::ListAgentsRequest::default()).await.expect("listed").into_inner();
    assert!(listed.agents.is_empty(), "{listed:?}");

    cluster.until_queued(&job.id).await;
    let mut heir = Agent::connect(&cluster, "heir").await;
    assert_eq!(heir.claim_one().await.attempt, attempt.attempt + 1);
}
