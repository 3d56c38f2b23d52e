//! The queue over a real RabbitMQ: the contract of both queues, and what only a broker can do to us.

use async_trait::async_trait;
use longshore_common::queue::{
    Consumer, Error, Lane, Publisher,
    contract::{self, Agent, Queue, fresh_lane},
    rabbit::{self, RabbitConsumer, RabbitPublisher},
};
use longshore_tests::env::{self, Proxy, broker};
use std::time::{Duration, Instant};

const PREFIX: &str = "longshore-test";

#[derive(Debug)]
struct Rabbit {
    publisher: RabbitPublisher,
    url: String,
}

#[derive(Debug)]
struct Proxied {
    consumer: RabbitConsumer,
    proxy: Proxy,
}

impl Rabbit {
    fn on(broker: &env::Broker) -> Self {
        Self { publisher: RabbitPublisher::start(parsed(&broker.url())), url: broker.url() }
    }

    /// An agent whose connection can be cut; `query` goes behind the URL.
    async fn proxied(&self, has_gpus: bool, query: &str) -> Proxied {
        let port = port_of(&self.url);
        let proxy = Proxy::start(port).await;
        let url = self.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
        Proxied { consumer: RabbitConsumer::start(parsed(&format!("{url}{query}")), has_gpus), proxy }
    }
}

fn parsed(url: &str) -> rabbit::Broker {
    rabbit::Broker::new(url, PREFIX).expect("the test's URL is valid")
}

fn port_of(url: &str) -> u16 {
    let (_, port) = url.trim_end_matches("/%2f").rsplit_once(':').expect("the URL has a port");
    port.parse().expect("a port is a number")
}

#[async_trait]
impl Queue for Rabbit {
    fn publisher(&self) -> &dyn Publisher {
        &self.publisher
    }

    async fn agent(&self, has_gpus: bool) -> Box<dyn Agent> {
        Box::new(self.proxied(has_gpus, "").await)
    }
}

#[async_trait]
impl Agent for Proxied {
    fn consumer(&self) -> &dyn Consumer {
        &self.consumer
    }

    async fn cut(&self) {
        self.proxy.cut();
    }
}

/// Lanes of one test, declared, with an agent that consumes them.
async fn agent_on(rabbit: &Rabbit, lane: &Lane) -> Box<dyn Agent> {
    rabbit.publisher.declare(std::slice::from_ref(lane)).await.expect("declares");
    let agent = rabbit.agent(false).await;
    agent.consumer().consume(std::slice::from_ref(lane)).await.expect("consumes");
    agent
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    contract::run(&Rabbit::on(broker())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_survive_a_killed_broker_and_no_confirmed_hint_is_lost() {
    let mut broker = env::Broker::start();
    let (rabbit, lane) = (Rabbit::on(&broker), fresh_lane(false));
    let agent = agent_on(&rabbit, &lane).await;
    assert_eq!(rabbit.publisher.publish(&lane, 3).await.expect("publishes"), 3);
    let held = contract::next(&*agent).await;
    // RabbitMQ 3.10 writes a new queue's name half a second late, and loses a queue killed before that.
    broker.ctl(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
    broker.kill();
    assert!(rabbit.publisher.publish(&lane, 1).await.expect_err("nobody is there").is_transient());
    agent.consumer().ack(held).await.expect("the ack of a lost connection is void");
    broker.restart();
    let up = Instant::now();
    for _ in 0..3 {
        let hint = contract::next(&*agent).await;
        agent.consumer().ack(hint).await.expect("acknowledges");
    }
    while rabbit.publisher.publish(&lane, 1).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    contract::next(&*agent).await;
    assert!(up.elapsed() < Duration::from_secs(30), "both took {:?} to come back", up.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lane_is_declared_again() {
    let (rabbit, lane) = (Rabbit::on(broker()), fresh_lane(false));
    let agent = agent_on(&rabbit, &lane).await;
    broker().ctl(&["delete_queue", &format!("{PREFIX}.{lane}")]);
    assert_eq!(rabbit.publisher.publish(&lane, 2).await.expect("publishes"), 2);
    for _ in 0..2 {
        let hint = contract::next(&*agent).await;
        agent.consumer().ack(hint).await.expect("acknowledges");
    }
    broker().ctl(&["delete_queue", &format!("{PREFIX}.{lane}")]);
    assert_eq!(rabbit.publisher.waiting(&lane).await.expect("counts"), 0);
    assert!(broker().ctl(&["list_queues", "name"]).contains(lane.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_come_before_its_lane() {
    let (rabbit, lane) = (Rabbit::on(broker()), fresh_lane(true));
    let agent = rabbit.agent(true).await;
    agent.consumer().consume(std::slice::from_ref(&lane)).await.expect("consumes");
    assert_eq!(rabbit.publisher.publish(&lane, 1).await.expect("publishes"), 1);
    contract::next(&*agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_durable_quorum_queues_without_a_limit() {
    let (rabbit, lane) = (Rabbit::on(broker()), fresh_lane(false));
    rabbit.publisher.declare(std::slice::from_ref(&lane)).await.expect("declares");
    let queues = broker().ctl(&["list_queues", "name", "type", "durable", "arguments"]);
    let queue = queues.lines().find(|line| line.contains(lane.as_str())).expect("the lane is there");
    assert!(queue.contains("quorum") && queue.contains("true"), "{queue}");
    assert!(!queue.contains("x-expires") && !queue.contains("x-max"), "{queue}");
    let version = broker().ctl(&["version"]);
    let limited = queue.contains("x-delivery-limit");
    assert_eq!(limited, !version.starts_with('3'), "broker {version}: {queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hints_are_confirmed_together() {
    let (rabbit, lane) = (Rabbit::on(broker()), fresh_lane(false));
    rabbit.publisher.declare(std::slice::from_ref(&lane)).await.expect("declares");
    let start = Instant::now();
    assert_eq!(rabbit.publisher.publish(&lane, 1000).await.expect("publishes"), 1000);
    println!("1000 hints confirmed in {:?}", start.elapsed());
    contract::counted(&rabbit, &lane, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_in_alarm_is_unreachable_until_it_recovers() {
    let broker = env::Broker::start();
    let (rabbit, lane) = (Rabbit::on(&broker), fresh_lane(false));
    rabbit.publisher.declare(std::slice::from_ref(&lane)).await.expect("declares");
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    let start = Instant::now();
    let error = loop {
        match rabbit.publisher.publish(&lane, 1).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("memory")), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60), "it hung for {:?}", start.elapsed());
    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]);
    let recovered = async {
        while rabbit.publisher.publish(&lane, 1).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(env::PATIENCE, recovered).await.expect("publishes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_loses_its_hint_to_another() {
    let (rabbit, lane) = (Rabbit::on(broker()), fresh_lane(false));
    rabbit.publisher.declare(std::slice::from_ref(&lane)).await.expect("declares");
    let frozen = rabbit.proxied(false, "?heartbeat=1").await;
    frozen.consumer.consume(std::slice::from_ref(&lane)).await.expect("consumes");
    rabbit.publisher.publish(&lane, 1).await.expect("publishes");
    contract::next(&frozen).await;
    frozen.proxy.freeze();
    let other = agent_on(&rabbit, &lane).await;
    contract::next(&*other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_refusal_that_does_not_show_it() {
    let url = broker().url();
    let password = url.split(['/', ':', '@']).nth(4).expect("the URL has a password");
    let wrong = RabbitPublisher::start(parsed(&url.replace(password, "open-sesame")));
    let error = wrong.health().await.expect_err("the password is wrong");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(!format!("{error} {wrong:?}").contains("open-sesame"));
}
