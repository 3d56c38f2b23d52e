//! Several agents on one lane: each job runs once, and the broker may come and go.

use futures::future::join_all;
use longshore_proto::v1::{JobSpec, Stream};
use longshore_tests::env::{Broker, Client, Plan, embedded, image, on_servers, outcome, registry, shell};
use std::collections::BTreeMap;

#[tokio::test]
async fn two_agents_on_one_lane_share_it_and_run_no_job_twice_over_the_link() {
    two_agents(embedded()).await;
}

#[tokio::test]
async fn two_agents_on_one_lane_share_it_and_run_no_job_twice_over_rabbitmq() {
    two_agents(on_servers()).await;
}

async fn two_agents(plan: Plan) {
    // Few places each, or the first to hear of the jobs takes them all.
    let cluster = plan.agents(2).agent_setting("max_attempts = 3").start();
    let client = Client::connect(&cluster).await;
    let jobs = join_all((0..60).map(|_| client.submit(small("echo ran; sleep 0.3")))).await;
    let mut agents = BTreeMap::<String, u32>::new();
    for id in &jobs {
        let job = client.ended(id).await;
        assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
        assert_eq!(client.printed(id, Stream::Stdout).await, b"ran\n");
        *agents.entry(job.agent).or_default() += 1;
    }
    assert_eq!(agents.len(), 2, "one agent did everything: {agents:?}");
}

fn small(script: &str) -> JobSpec {
    let mut spec = shell(&image(), script);
    spec.resources.get_or_insert_default().memory_bytes = Some(16 << 20);
    spec
}

#[tokio::test]
async fn jobs_submitted_while_the_broker_is_away_run_when_it_is_back() {
    let mut broker = Broker::start();
    let cluster = Plan::default().amqp(&broker.url()).login(registry()).start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(small("true")).await), "succeeded");
    broker.kill();
    let jobs = join_all((0..10).map(|_| client.submit(small("true")))).await;
    broker.restart();
    for id in &jobs {
        assert_eq!(outcome(&client.ended(id).await), "succeeded");
    }
}
