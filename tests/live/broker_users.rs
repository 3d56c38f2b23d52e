//! Every agent has a broker user of its own, which reads its lanes and can do nothing else, and goes with the agent.

use futures::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use longshore_common::{
    ids::{AgentId, SessionId},
    queue::{
        Consumer as _, Lane, Publisher as _,
        rabbit::{self, RabbitConsumer, RabbitPublisher},
    },
    shutdown::Shutdown,
    wire::Credentials,
};
use longshore_controller::{Controller, ControllerConfig, Running, config::RabbitConfig};
use longshore_proto::v1::{
    self, agent_link_client::AgentLinkClient, agents_client::AgentsClient, link_request,
    link_response::Message, queue_access::Kind,
};
use longshore_tests::{
    env::{Broker, Client, PATIENCE, Plan, image, outcome, registry, shell, until},
    token,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, service::interceptor::InterceptedService, transport::Channel as Line};

#[tokio::test]
async fn agents_work_as_users_of_their_own_which_go_with_them() {
    let broker = Broker::start_managed();
    let settings = format!(
        "[rabbitmq]\nurl = \"{}\"\nmanagement_url = \"{}\"\nprefix = \"own\"\n",
        broker.url(),
        broker.management_url()
    );
    let cluster = Plan::default().controller(&settings).login(registry()).agents(2).start();
    let client = Client::connect(&cluster).await;
    for _ in 0..3 {
        assert_eq!(outcome(&client.run(shell(&image(), "true")).await), "succeeded");
    }
    let connected = connected(&broker);
    assert_eq!(connected.iter().filter(|user| user.starts_with("longshore.")).count(), 2, "{connected:?}");
    for user in users(&broker) {
        assert!(!cluster.outputs().contains(&format!("{user}:")), "an address with its password is in a log");
    }
    cluster.cli().call(&["agents", "rm", "agent-0"]).expect(0);
    until("the user and its connection are gone", || async {
        let (users, connected) = (users(&broker), self::connected(&broker));
        let connections = connected.iter().filter(|user| user.starts_with("longshore.")).count();
        if (users.len(), connections) == (1, 1) { Ok(()) } else { Err((users, connected)) }
    })
    .await;
    assert_eq!(outcome(&client.run(shell(&image(), "true")).await), "succeeded", "the other one works on");
    let status = cluster.cli().call(&["status"]).expect(0).text();
    assert!(status.contains("queue users"), "{status}");
}

#[tokio::test]
async fn an_agents_user_reads_its_lanes_and_nothing_else_and_ends_with_the_agent() {
    let broker = Broker::start_managed();
    let cluster = Hub::start(&broker).await;
    let agent = AgentId::new();
    let (url, _link) = cluster.link(agent).await;
    let lane = Lane::new("default", false);
    let mine = "own.default.cpu";

    // What it is for.
    let publisher = RabbitPublisher::start(rabbit::Broker::new(&broker.url(), "own").expect("an address"));
    publisher.publish(&lane, 1).await.expect("rung");
    let consumer = RabbitConsumer::start(rabbit::Broker::new(&url, "own").expect("an address"), false);
    consumer.consume(std::slice::from_ref(&lane)).await.expect("noted");
    let hint = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("the hint comes");
    consumer.ack(hint).await.expect("used up");
    drop(consumer);

    // What it is not for.
    let operator = Connection::connect(&broker.url(), ConnectionProperties::default()).await.expect("in");
    let other = operator.create_channel().await.expect("a channel");
    let durable = QueueDeclareOptions::durable;
    for name in ["other", "own.default.cpu2", "own_default_cpu", "ownxdefault.cpu", "own.lab.cpu"] {
        other.queue_declare(name.into(), durable(), FieldTable::default()).await.expect("declared");
    }
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it may log in");
    let fresh = async || connection.create_channel().await.expect("a channel");
    let nothing = FieldTable::default;
    for name in ["other", "own.default.cpu2", "own_default_cpu", "ownxdefault.cpu", "own.lab.cpu"] {
        let options = BasicConsumeOptions::default();
        let got = fresh().await.basic_consume(name.into(), "".into(), options, nothing()).await;
        refused(&format!("reading {name}"), got.map(drop));
        let got = fresh().await.basic_get(name.into(), Default::default()).await;
        refused(&format!("getting from {name}"), got.map(drop));
    }
    refused("declaring", fresh().await.queue_declare("new".into(), durable(), nothing()).await.map(drop));
    let channel = fresh().await;
    let declared = channel.exchange_declare(
        "x".into(),
        lapin::ExchangeKind::Fanout,
        ExchangeDeclareOptions::default(),
        nothing(),
    );
    refused("an exchange", declared.await);
    let deleted = fresh().await.queue_delete(mine.into(), QueueDeleteOptions::default()).await;
    refused("deleting its lane", deleted.map(drop));
    let channel = fresh().await;
    let bound = channel.queue_bind(
        mine.into(),
        "amq.fanout".into(),
        "".into(),
        QueueBindOptions::default(),
        nothing(),
    );
    refused("binding its lane", bound.await);
    refused("publishing to its lane", publish(&fresh().await, "", mine).await);
    refused("publishing to another", publish(&fresh().await, "", "other").await);
    refused("publishing to a fanout", publish(&fresh().await, "amq.fanout", "").await);

    // It goes with the agent, connections and all.
    assert!(connection.status().connected());
    cluster.remove(agent).await;
    let gone = async {
        let mut events = connection.events_listener();
        while connection.status().connected() {
            drop(tokio::time::timeout(std::time::Duration::from_millis(100), events.next()).await);
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the broker closes what it had open");
    let again = Connection::connect(&url, ConnectionProperties::default()).await;
    assert!(again.is_err(), "a removed agent logs in");
    cluster.stop().await;
}

#[tokio::test]
async fn what_others_change_about_the_users_is_mended() {
    let broker = Broker::start_managed();
    let cluster = Hub::start(&broker).await;
    let agent = AgentId::new();
    let (url, _link) = cluster.link(agent).await;
    let mine = users(&broker).pop().expect("made at the link");
    let stranger = mine.replace(&agent.to_string(), &AgentId::new().to_string());
    let others = "longshore.of-another-cluster.x";
    for user in [stranger.as_str(), others] {
        broker.ctl(&["add_user", user, "hunter2"]);
    }
    broker.ctl(&["add_vhost", "elsewhere"]);
    broker.ctl(&["set_permissions", "-p", "elsewhere", &mine, ".*", ".*", ".*"]);
    broker.ctl(&["set_permissions", &mine, ".*", ".*", ".*"]);
    broker.ctl(&["set_user_tags", &mine, "administrator"]);
    cluster.sweep().await;
    let left = users(&broker);
    assert!(left.contains(&mine) && left.contains(&others.to_owned()), "{left:?}");
    assert!(!left.contains(&stranger), "of an agent that is none: {left:?}");
    let may = broker.ctl(&["list_user_permissions", &mine]);
    assert!(!may.contains("elsewhere") && !may.contains(".*"), "{may}");
    let listed = broker.ctl(&["list_users"]);
    let own = listed.lines().find(|line| line.starts_with(&mine)).expect("listed");
    assert!(own.contains("[]"), "its tags are gone: {own}");

    broker.ctl(&["change_password", &mine, "hunter2"]);
    assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err(), "another password");
    cluster.sweep().await;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("as before");
    // Nobody sees anything of it in a second link, and a lost user is made again by it.
    let (again, _link) = cluster.link(agent).await;
    assert_eq!(again, url);
    broker.ctl(&["delete_user", &mine]);
    cluster.sweep().await;
    drop(connection);
    Connection::connect(&url, ConnectionProperties::default()).await.expect("made again");

    // Joined anew it is another one.
    cluster.join_anew(agent).await;
    let (other, _link) = cluster.link(agent).await;
    assert_ne!(other, url);
    assert!(Connection::connect(&url, ConnectionProperties::default()).await.is_err(), "the old password");
    Connection::connect(&other, ConnectionProperties::default()).await.expect("the new one");
    cluster.stop().await;
}

/// A controller in this process, with the broker's management.
struct Hub {
    running: Running,
    line: Line,
    folder: tempfile::TempDir,
}

impl Hub {
    async fn start(broker: &Broker) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().expect("a folder");
        let config = ControllerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().to_owned(),
            rabbitmq: Some(RabbitConfig {
                url: broker.url(),
                agent_url: None,
                management_url: Some(broker.management_url().parse().expect("an address")),
                prefix: "own".to_owned(),
            }),
            ..ControllerConfig::default()
        };
        let running = Controller::start(config, Shutdown::new()).await.expect("started");
        let line = Line::from_shared(running.base_url.clone()).expect("an address").connect_lazy();
        Self { running, line, folder }
    }

    /// Says hello as this agent, and answers the address that it was told.
    async fn link(&self, agent: AgentId) -> (String, Link) {
        let key = self.running.enrol(agent).await.expect("enrolled");
        let key = Credentials::new(&key, "").expect("plain text");
        let mut link = AgentLinkClient::new(InterceptedService::new(self.line.clone(), key));
        let hello = v1::Hello {
            protocol_min: 1,
            protocol_max: 1,
            agent_id: agent.as_bytes().to_vec().into(),
            name: "by-hand".to_owned(),
            boot_id: "boot".to_owned(),
            session: SessionId::new().as_bytes().to_vec().into(),
            pool: "default".to_owned(),
            inventory: Some(v1::Inventory::default()),
            ..v1::Hello::default()
        };
        let (up, requests) = mpsc::channel(4);
        let hello = v1::LinkRequest { message: Some(link_request::Message::Hello(hello)) };
        up.send(hello).await.expect("room");
        let mut down = link.link(ReceiverStream::new(requests)).await.expect("linked").into_inner();
        let first = down.message().await.expect("a message").expect("not the end");
        let Some(Message::Welcome(welcome)) = first.message else { panic!("no welcome: {first:?}") };
        let Some(Kind::Amqp(queue)) = welcome.queue.and_then(|queue| queue.kind) else { panic!("no broker") };
        (queue.url, Link { _up: up, _down: down })
    }

    async fn join_anew(&self, agent: AgentId) {
        use sha2::{Digest as _, Sha256};
        self.remove(agent).await;
        let token = self.running.join_token(1, PATIENCE).await.expect("made");
        let asked = longshore_controller::enrolment::Asked::Key(Sha256::digest("its own").into());
        self.running.context.enrolment.join(&token, agent, asked).await.expect("joined");
    }

    async fn remove(&self, agent: AgentId) {
        let line = token::authorized(self.line.clone(), self.folder.path());
        let request = v1::RemoveAgentRequest { agent: agent.to_string(), force: true, ..Default::default() };
        AgentsClient::new(line).remove(request).await.expect("removed");
    }

    async fn sweep(&self) {
        let users = self.running.context.queue.users().expect("with management");
        users.sweep().await.expect("the broker answers");
    }

    async fn stop(self) {
        self.running.shutdown.trigger();
        self.running.join().await;
    }
}

struct Link {
    _up: mpsc::Sender<v1::LinkRequest>,
    _down: Streaming<v1::LinkResponse>,
}

async fn publish(channel: &Channel, exchange: &str, key: &str) -> Result<(), lapin::Error> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"x", Default::default()).await?;
    sent.await.map(drop)
}

fn refused(what: &str, result: Result<(), lapin::Error>) {
    let error = result.expect_err(what).to_string();
    assert!(error.contains("ACCESS_REFUSED") || error.contains("access"), "{what}: {error}");
}

fn users(broker: &Broker) -> Vec<String> {
    let listed = broker.ctl(&["list_users"]);
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("longshore.")).map(str::to_owned).collect()
}

fn connected(broker: &Broker) -> Vec<String> {
    broker.ctl(&["list_connections", "user"]).lines().map(|line| line.trim().to_owned()).collect()
}
