//! Machines that are emptied over RabbitMQ: by an operator's word under a stream of claims, and because their agent is
//! told to stop.

use longshore_proto::v1::{
    AgentEventKind, DrainRequest, JobSpec, JobState, Resources, UncordonRequest, WatchAgentEventsRequest,
};
use longshore_tests::env::{
    Client, Cluster, PATIENCE, Plan, agent_name, broker, outcome, seconds, until, words,
};
use std::time::{SystemTime, UNIX_EPOCH};

fn start(agents: u32, settings: &[&str]) -> Cluster {
    let agent = "[capacity]\ncpu_millis = 800\nmemory_bytes = 8589934592\nscratch_bytes = 109951162777\n\
                 [runtime]\nkind = \"null\"\n";
    let plan = Plan::default().agents(agents).agent_alone(agent).amqp(&broker().url());
    settings.iter().fold(plan, |plan, line| plan.agent_setting(line)).start()
}

fn job(script: &[(&str, &str)]) -> JobSpec {
    JobSpec {
        image: "played:1".into(),
        env: script.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        resources: Some(Resources {
            cpu_millis: Some(100),
            memory_bytes: Some(16 << 20),
            scratch_bytes: Some(1 << 20),
            ..Resources::default()
        }),
        ..JobSpec::default()
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_micros()).expect("not so far")
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    let time = time.expect("it is told");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

/// Between the acknowledgement of a drain and the next word on the machine.
struct Shut {
    agent: String,
    from: i64,
    to: i64,
}

async fn drain(client: &Client, agent: &str) -> Shut {
    let request = DrainRequest { agent: agent.to_owned(), deadline: seconds(60), ..DrainRequest::default() };
    client.agents.clone().drain(request).await.expect("drain");
    let from = now();
    until("the machine is empty", || async {
        let agent = client.agent(agent).await;
        let drained = agent.cordon.as_ref().is_some_and(|cordon| cordon.drained_at.is_some());
        if drained && agent.jobs.is_empty() { Ok(()) } else { Err(agent) }
    })
    .await;
    let to = now();
    let request = UncordonRequest { agent: agent.to_owned(), ..UncordonRequest::default() };
    client.agents.clone().uncordon(request).await.expect("uncordon");
    Shut { agent: agent.to_owned(), from, to }
}

#[tokio::test]
async fn nothing_is_claimed_after_a_drain_was_acknowledged_over_rabbitmq() {
    const TURNS: usize = 10;
    let cluster = start(3, &[]);
    let client = Client::connect(&cluster).await;
    let (mut ids, mut shut) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        // Far more than the others can do meanwhile.
        ids.extend(client.submit_all((0..150).map(|_| job(&[("FAKE_RUN", "60ms")])).collect()).await);
        let agent = agent_name(turn % 3);
        until("it has work of the stream", || async {
            if client.agent(&agent).await.jobs.is_empty() { Err(()) } else { Ok(()) }
        })
        .await;
        shut.push(drain(&client, &agent).await);
    }
    client.nothing_left().await;
    let (mut on_shut, mut elsewhere) = (Vec::new(), [0; TURNS]);
    for id in &ids {
        let told = client.get(id).await;
        let job = told.job.expect("a job");
        assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
        let attempt = &told.attempts[0];
        let claimed = micros(attempt.claimed_at);
        for (turn, shut) in
            shut.iter().enumerate().filter(|(_, shut)| shut.from < claimed && claimed < shut.to)
        {
            if attempt.agent == shut.agent {
                on_shut.push((turn, id.clone(), claimed - shut.from));
            } else {
                elsewhere[turn] += 1;
            }
        }
    }
    println!("claimed by others while one was drained: {elsewhere:?}");
    assert!(on_shut.is_empty(), "claimed after the acknowledgement (turn, job, µs after): {on_shut:?}");
    assert!(elsewhere.iter().all(|claims| *claims > 0), "there was no stream: {elsewhere:?}");
}

/// Kinds and details of what happened to it so far.
async fn events(client: &Client, agent: &str) -> Vec<(AgentEventKind, String)> {
    let request = WatchAgentEventsRequest { agent: agent.to_owned(), ..WatchAgentEventsRequest::default() };
    let mut stream = client.agents.clone().watch_events(request).await.expect("watch").into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.expect("read events") {
        let event = message.event.expect("an answer holds the event");
        events.push((event.kind(), event.detail));
    }
    events
}

/// What is short ends by itself, what is long goes back, and both are known before.
#[tokio::test]
async fn an_agent_told_to_stop_announces_its_drain_claims_nothing_more_and_hands_back_the_rest() {
    let settings = ["on_shutdown = \"drain\"", "shutdown_grace_seconds = 6"];
    let mut cluster = start(2, &settings);
    let client = Client::connect(&cluster).await;
    let one =
        |spec: JobSpec, seat: &str| JobSpec { agents: [("seat".into(), words(&[seat]))].into(), ..spec };
    let short = client.submit(one(job(&[("FAKE_RUN", "4s")]), "0")).await;
    // Its user allows one try: a drain must not take it.
    let mut long = one(job(&[("FAKE_RUN", "forever"), ("FAKE_TERM_EXIT", "0")]), "0");
    long.retry.get_or_insert_default().attempts = 1;
    let long = client.submit(long).await;
    for id in [&short, &long] {
        client.reaches(id, JobState::Running).await;
    }
    cluster.agent(0).ask_to_end();
    let leaving = until("it is seen to be draining", || async {
        let agent = client.agent(&agent_name(0)).await;
        agent.cordon.clone().filter(|cordon| cordon.drain && cordon.deadline.is_some()).ok_or(agent)
    })
    .await;
    let left = micros(leaving.deadline) - now();
    assert!((0..=6_000_000).contains(&left), "{left} µs are left of 6 s");
    let listed = cluster.cli().call(&["agents", "ls"]).expect(0).text();
    let line = listed.lines().find(|line| line.starts_with("agent-0")).expect("a line each").to_owned();
    assert!(line.contains("draining") && line.contains("told to stop"), "{listed}");
    let waits = client.submit(one(job(&[]), "0")).await;
    let elsewhere = client.run(job(&[])).await;
    assert_eq!((outcome(&elsewhere).as_str(), elsewhere.agent.as_str()), ("succeeded", "agent-1"));
    let told = client.get(&waits).await;
    assert_eq!(told.job.expect("a job").state(), JobState::Queued);
    let why = format!("{:?}", told.waiting);
    assert!(why.contains("told to stop"), "{why}");
    until("the drain is an event", || async {
        let events = events(&client, &agent_name(0)).await;
        let draining = events.iter().any(|(kind, _)| *kind == AgentEventKind::Draining);
        if draining { Ok(()) } else { Err(events) }
    })
    .await;
    assert_eq!(outcome(&client.ended(&short).await), "succeeded");
    assert_eq!(cluster.agent(0).ends(PATIENCE).code(), Some(0));
    let told = client.get(&long).await;
    let attempt = told.attempts.last().expect("it ran");
    assert_eq!(attempt.outcome.as_ref().expect("it ended").name, "agent_shutdown");
    assert_eq!(told.job.expect("a job").state(), JobState::Queued, "no try of its user's was spent");
    // The next process is not draining, and takes what waited.
    cluster.start_agent(0);
    assert!(client.agent(&agent_name(0)).await.cordon.is_none());
    assert_eq!(outcome(&client.ended(&waits).await), "succeeded");
    let events = events(&client, &agent_name(0)).await;
    let drains = events.iter().filter(|(kind, _)| *kind == AgentEventKind::Draining).count();
    assert_eq!(drains, 1, "told once: {events:?}");
}
