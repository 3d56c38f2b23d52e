//! A broker that goes, forgets, repeats or is impatient, under a whole Longshore: jobs wait in the database and flow on.

use futures::future::join_all;
use longshore_common::queue::{
    Lane, Publisher as _,
    rabbit::{self, RabbitPublisher},
};
use longshore_proto::v1::{JobSpec, JobState, Stream};
use longshore_tests::env::{Broker, Client, Cluster, PATIENCE, Plan, image, outcome, registry, shell};
use std::time::{Duration, Instant};

/// What is promised after the broker's return.
const FLOWS_WITHIN: Duration = Duration::from_secs(10);

fn on(broker: &Broker, prefix: &str) -> Plan {
    let url = broker.url();
    Plan::default()
        .controller(&format!("[rabbitmq]\nurl = \"{url}\"\nprefix = \"{prefix}\"\n"))
        .login(registry())
}

fn small(script: &str) -> JobSpec {
    let mut spec = shell(&image(), script);
    spec.resources.get_or_insert_default().memory_bytes = Some(16 << 20);
    spec
}

/// Submits while the broker is away, lets it come back, and sees the first of the jobs claimed in time.
async fn flow_again(broker: &mut Broker, client: &Client, back: impl FnOnce(&mut Broker)) {
    broker.kill();
    let jobs = join_all((0..10).map(|_| client.submit(small("true")))).await;
    back(broker);
    let up = Instant::now();
    for id in &jobs {
        client.reaches(id, JobState::Claimed).await;
    }
    let took = up.elapsed();
    println!("10 jobs were claimed {took:?} after the broker's return");
    assert!(took < FLOWS_WITHIN, "they flowed only after {took:?}");
    for id in &jobs {
        let job = client.ended(id).await;
        assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    }
    // An agent asks without a hint too, every 30 s: three in a row within a minute come by the broker.
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(outcome(&client.run(small("true")).await), "succeeded");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "nobody rings: {took:?}");
}

async fn warm(plan: Plan) -> (Cluster, Client) {
    let cluster = plan.start();
    let client = Client::connect(&cluster).await;
    assert_eq!(outcome(&client.run(small("true")).await), "succeeded");
    (cluster, client)
}

#[tokio::test]
async fn jobs_flow_within_ten_seconds_of_the_brokers_return() {
    let mut broker = Broker::start();
    let (_cluster, client) = warm(on(&broker, "back")).await;
    flow_again(&mut broker, &client, Broker::restart).await;
}

#[tokio::test]
async fn jobs_flow_within_ten_seconds_of_the_return_of_a_broker_that_was_wiped_empty() {
    let mut broker = Broker::start();
    let (_cluster, client) = warm(on(&broker, "wiped")).await;
    flow_again(&mut broker, &client, Broker::restart_empty).await;
    let lanes = broker.ctl(&["list_queues", "name"]);
    assert!(lanes.contains("wiped.default.cpu"), "lanes are declared again: {lanes}");
}

#[tokio::test]
async fn a_lane_deleted_under_a_running_cluster_is_declared_again_and_its_jobs_run() {
    let broker = Broker::start();
    let (_cluster, client) = warm(on(&broker, "deleted")).await;
    let lane = format!("deleted.{}", Lane::new("default", false));
    broker.ctl(&["delete_queue", &lane]);
    let submitted = Instant::now();
    let id = client.submit(small("true")).await;
    client.reaches(&id, JobState::Claimed).await;
    // RabbitMQ 3.10 does not tell consumers; they look every 10 s.
    let took = submitted.elapsed();
    assert!(took < Duration::from_secs(20), "after {took:?}");
    assert_eq!(outcome(&client.ended(&id).await), "succeeded");
    assert!(broker.ctl(&["list_queues", "name"]).contains(&lane));
}

#[tokio::test]
async fn hints_that_come_twice_or_for_nothing_run_nothing_twice() {
    let broker = Broker::start();
    let (_cluster, client) = warm(on(&broker, "twice").agents(2)).await;
    let lane = Lane::new("default", false);
    let publisher =
        RabbitPublisher::start(rabbit::Broker::new(&broker.url(), "twice").expect("a good address"));
    publisher.publish(&lane, 50).await.expect("published");
    let jobs = join_all((0..20).map(|_| client.submit(small("echo ran")))).await;
    publisher.publish(&lane, 50).await.expect("published");
    for id in &jobs {
        let job = client.ended(id).await;
        assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
        assert_eq!(client.printed(id, Stream::Stdout).await, b"ran\n");
    }
    longshore_tests::env::until("the lane is empty", || async {
        match publisher.waiting(&lane).await {
            Ok(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn a_consumer_timeout_of_seconds_does_nothing_to_a_long_job() {
    let broker = Broker::start();
    // Channels made from now on look every second, and are cut after two without an acknowledgement.
    broker.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 1000)."]);
    broker.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 2000)."]);
    let (_cluster, client) = warm(on(&broker, "patient")).await;
    let id = client.submit(small("sleep 15; echo whole")).await;
    let job = client.ended(&id).await;
    assert_eq!((outcome(&job).as_str(), job.attempts), ("succeeded", 1), "{job:?}");
    assert_eq!(client.printed(&id, Stream::Stdout).await, b"whole\n");
    // The setting is one that cuts whoever holds a hint.
    let held = longshore_common::queue::rabbit::RabbitConsumer::start(
        rabbit::Broker::new(&broker.url(), "held").expect("a good address"),
        false,
    );
    let publisher =
        RabbitPublisher::start(rabbit::Broker::new(&broker.url(), "held").expect("a good address"));
    let lane = Lane::new("default", false);
    publisher.declare(std::slice::from_ref(&lane)).await.expect("declared");
    publisher.publish(&lane, 1).await.expect("published");
    use longshore_common::queue::Consumer as _;
    held.consume(std::slice::from_ref(&lane)).await.expect("consumes");
    let again = async {
        drop(held.next().await);
        held.next().await
    };
    tokio::time::timeout(PATIENCE, again).await.expect("an unacknowledged hint comes again");
}

#[tokio::test]
async fn nobody_waits_for_a_frozen_agent_longer_than_thirty_seconds() {
    let broker = Broker::start();
    let (mut cluster, client) = warm(on(&broker, "frozen").agents(2)).await;
    cluster.agent(0).pause();
    let mut longest = Duration::ZERO;
    // One by one: each has a single hint, and one of these goes to the frozen agent.
    for _ in 0..4 {
        let submitted = Instant::now();
        let job = client.run(small("true")).await;
        assert_eq!((outcome(&job).as_str(), job.agent.as_str()), ("succeeded", "agent-1"), "{job:?}");
        longest = longest.max(submitted.elapsed());
    }
    println!("the longest wait beside a frozen agent was {longest:?}");
    assert!(longest < Duration::from_secs(30), "somebody waited {longest:?}");
    cluster.agent(0).resume();
    let picky = JobSpec { agents: only("0"), ..small("true") };
    assert_eq!(outcome(&client.run(picky).await), "succeeded", "it works on by itself");
}

fn only(seat: &str) -> std::collections::HashMap<String, longshore_proto::v1::StringList> {
    [("seat".to_owned(), longshore_tests::env::words(&[seat]))].into()
}
