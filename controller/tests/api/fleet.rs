//! What operators want of machines over the API, and agents of other versions.

use crate::harness::{Agent, Cluster, PATIENCE, spec};
use longshore_proto::v1::{
    self, agents_client::AgentsClient, link_request, link_response::Message, projects_client::ProjectsClient,
};
use tonic::Code;

async fn orders(agent: &mut Agent) -> v1::Orders {
    loop {
        if let Message::Orders(orders) = agent.hear().await {
            return orders;
        }
    }
}

#[tokio::test]
async fn an_agent_is_told_of_its_cordon_at_once_and_with_every_welcome() {
    let cluster = Cluster::start().await;
    let mut agents = AgentsClient::new(cluster.channel.clone());
    let mut agent = Agent::connect(&cluster, "gpu-04").await;
    assert_eq!(orders(&mut agent).await, v1::Orders::default());
    let request = v1::CordonRequest { agent: "gpu-04".into(), note: "fans\n".into(), ..Default::default() };
    let answer = agents.cordon(request).await.expect("cordoned").into_inner();
    let cordon = answer.agent.expect("an agent").cordon.expect("a cordon");
    assert_eq!((&*cordon.note, &*cordon.author), ("fans", "admin"));
    assert_eq!(orders(&mut agent).await.cordon, Some(cordon));
    cluster.submit(spec("x")).await;
    assert_eq!(agent.claim().await, []);
    let mut next = agent.restarted(&cluster).await;
    assert!(orders(&mut next).await.cordon.is_some());
    let request = v1::UncordonRequest { agent: "restarted".into(), ..Default::default() };
    agents.uncordon(request).await.expect("uncordoned");
    assert_eq!(orders(&mut next).await, v1::Orders::default());
    next.claim_one().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_to_do() {
    let cluster = Cluster::start().await;
    let mut agents = AgentsClient::new(cluster.channel.clone());
    let _agent = Agent::connect(&cluster, "gpu-04").await;
    let cordon = |gpu: &str, seconds: i64| v1::CordonRequest {
        agent: "gpu-04".into(),
        gpu: gpu.into(),
        until: (seconds > 0).then_some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..Default::default()
    };
    let refused = agents.cordon(cordon("2", 0)).await.expect_err("no such GPU");
    assert!(refused.code() == Code::NotFound && refused.message().contains("it has none"), "{refused:?}");
    let refused = agents.cordon(cordon("", 1_000)).await.expect_err("past");
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("past"), "{refused:?}");
    let drain = v1::DrainRequest { agent: "gpu-04".into(), ..Default::default() };
    agents.drain(drain.clone()).await.expect("drained");
    agents.drain(drain).await.expect("said again");
    let refused = agents.cordon(cordon("", 0)).await.expect_err("it is drained");
    assert!(refused.message().contains("uncordon gpu-04"), "{refused:?}");
    let label = v1::LabelRequest {
        agent: "gpu-04".into(),
        set: [("arch".to_owned(), "z80".to_owned()), ("a b".to_owned(), String::new())].into(),
        ..Default::default()
    };
    let refused = agents.label(label).await.expect_err("bad labels");
    assert!(refused.message().contains("arch") && refused.message().contains("a b"), "{refused:?}");
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_again_from_any_revision() {
    let cluster = Cluster::start().await;
    let mut agents = AgentsClient::new(cluster.channel.clone());
    let request = v1::WatchAgentEventsRequest { follow: true, ..Default::default() };
    let mut stream = agents.watch_events(request).await.expect("opened").into_inner();
    let agent = Agent::connect(&cluster, "gpu-04").await;
    let mut seen: Vec<v1::AgentEvent> = Vec::new();
    let request = v1::DrainRequest { agent: "gpu-04".into(), note: "moves".into(), ..Default::default() };
    agents.drain(request).await.expect("drained");
    while !seen.iter().any(|event| event.kind() == v1::AgentEventKind::Drained) {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time").expect("open");
        seen.push(next.expect("no end").event.expect("an event"));
    }
    let kinds: std::collections::BTreeSet<_> =
        seen.iter().map(v1::AgentEvent::kind).map(|kind| kind as i32).collect();
    assert!(kinds.contains(&(v1::AgentEventKind::Joined as i32)), "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision), "{seen:?}");
    let draining = seen.iter().find(|event| event.kind() == v1::AgentEventKind::Draining).expect("told");
    assert_eq!((&*draining.author, &*draining.detail), ("admin", "moves"));
    drop(agent);
    // The next controller has them all.
    let folder = cluster.stop().await;
    let cluster = Cluster::start_in(folder).await;
    let mut agents = AgentsClient::new(cluster.channel.clone());
    let request = v1::WatchAgentEventsRequest {
        from_revision: seen[0].revision,
        agent: "gpu-04".into(),
        ..Default::default()
    };
    let mut stream = agents.watch_events(request).await.expect("opened").into_inner();
    let mut again = Vec::new();
    while let Some(message) = stream.message().await.expect("read") {
        again.push(message.event.expect("an event"));
    }
    assert_eq!(again[..seen.len() - 1], seen[1..]);
}

#[tokio::test]
async fn a_version_older_or_newer_by_one_is_spoken_with_and_others_hear_what_to_upgrade() {
    let cluster = Cluster::start().await;
    for (protocols, spoken) in [(1..=1, 1), (1..=2, 2), (2..=3, 2)] {
        let agent = Agent::speaking(&cluster, "skewed", protocols.clone()).await.expect("welcome");
        assert_eq!(agent.welcome.protocol, spoken, "{protocols:?}");
    }
    let refused = |protocols| async {
        let refused = Agent::speaking(&cluster, "far", protocols).await.err().expect("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
        refused.message().to_owned()
    };
    let (old, new) = (refused(0..=0).await, refused(3..=4).await);
    assert!(old.contains("upgrade the agent: install longshore") && old.contains("longshore-agent"), "{old}");
    assert!(new.contains("upgrade the controller first") && new.contains("longshore-controller"), "{new}");
}

#[tokio::test]
async fn an_agent_of_the_version_before_works_and_is_drained_without_a_word_that_it_does_not_know() {
    let cluster = Cluster::start().await;
    let mut agents = AgentsClient::new(cluster.channel.clone());
    let mut old = Agent::speaking(&cluster, "old", 1..=1).await.expect("welcome");
    let job = cluster.submit(spec("x")).await;
    let attempt = old.claim_one().await;
    let deadline = Some(prost_types::Duration::default());
    let request = v1::DrainRequest { agent: "old".into(), deadline, ..Default::default() };
    agents.drain(request).await.expect("drained");
    cluster.until_queued(&job.id).await;
    let mut other = Agent::connect(&cluster, "other").await;
    assert_eq!(other.claim_one().await.attempt, 2);
    let held = v1::HeldAttempt {
        r#ref: Some(attempt.clone()),
        phase: v1::JobState::Running as i32,
        ..Default::default()
    };
    old.say(link_request::Message::Heartbeat(v1::Heartbeat {
        sequence: 1,
        held: vec![held],
        ..Default::default()
    }))
    .await;
    loop {
        match old.hear().await {
            Message::Renewed(renewed) => break assert_eq!(renewed.fenced, [attempt]),
            Message::Stop(stop) => panic!("{stop:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_pause_is_in_the_status_and_only_for_those_who_see_the_project() {
    let cluster = Cluster::start().await;
    let mut agent = Agent::connect(&cluster, "gpu-04").await;
    let mut projects = ProjectsClient::new(cluster.channel.clone());
    let request =
        v1::PauseProjectRequest { project: "default".into(), note: "n".into(), ..Default::default() };
    let project = projects.pause(request).await.expect("paused").into_inner().project.expect("a project");
    assert_eq!(project.paused.expect("it is").author, "admin");
    cluster.submit(spec("x")).await;
    assert_eq!(agent.claim().await, []);
    let mut status = v1::cluster_client::ClusterClient::new(cluster.channel.clone());
    let told = status.status(v1::StatusRequest {}).await.expect("answered").into_inner();
    assert_eq!(told.paused_projects.len(), 1, "{told:?}");
    let request = v1::ResumeProjectRequest { project: "default".into(), ..Default::default() };
    projects.resume(request).await.expect("resumed");
    agent.claim_one().await;
}
