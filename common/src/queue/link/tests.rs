use super::*;
use crate::queue::{Consumer as _, Publisher as _, contract};
use futures::FutureExt as _;

fn lane(text: &str) -> Lane {
    text.parse().expect("a lane")
}

/// Carries what is ready in both directions until nothing is.
fn carry(line: &Line, consumer: &LinkConsumer) {
    loop {
        let turn = consumer.next_turn().now_or_never();
        let moved = turn.is_some();
        if let Some(turn) = turn {
            line.turn(turn);
        }
        match line.next().now_or_never() {
            Some(work) => consumer.work(&work),
            None if !moved => return,
            None => {}
        }
    }
}

async fn listening(hub: &Hub, has_gpus: bool, lanes: &[Lane]) -> (Line, LinkConsumer) {
    let line = hub.connect(has_gpus);
    let consumer = LinkConsumer::new();
    consumer.connected();
    consumer.consume(lanes).await.expect("consumes");
    carry(&line, &consumer);
    (line, consumer)
}

#[tokio::test]
async fn cpu_work_goes_to_the_machine_without_gpus_first() {
    let (hub, cpu) = (Hub::new(), lane("default.cpu"));
    let (gpu_line, gpu_machine) = listening(&hub, true, std::slice::from_ref(&cpu)).await;
    let (line, plain) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    hub.publish(&cpu, 1).await.expect("publishes");
    carry(&gpu_line, &gpu_machine);
    carry(&line, &plain);
    assert!(plain.next().now_or_never().is_some());
    assert!(gpu_machine.next().now_or_never().is_none());
}

#[tokio::test]
async fn work_on_its_way_when_the_lane_is_left_goes_to_another() {
    let (hub, cpu) = (Hub::new(), lane("default.cpu"));
    let (line, leaver) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    hub.publish(&cpu, 1).await.expect("publishes");
    let on_its_way = line.next().now_or_never().expect("rung");
    leaver.consume(&[]).await.expect("leaves");
    let (other_line, other) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    leaver.work(&on_its_way);
    carry(&line, &leaver);
    carry(&other_line, &other);
    assert!(leaver.next().now_or_never().is_none());
    assert!(other.next().now_or_never().is_some());
}

#[tokio::test]
async fn work_not_yet_sent_goes_to_another_when_the_lane_is_left() {
    let (hub, cpu) = (Hub::new(), lane("default.cpu"));
    let (line, leaver) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    hub.publish(&cpu, 1).await.expect("publishes");
    line.turn(Turn::default());
    assert!(line.next().now_or_never().is_none());
    assert_eq!(hub.waiting(&cpu).await.expect("counts"), 1);
    drop(leaver);
}

#[tokio::test]
async fn hints_go_round_among_equals() {
    let (hub, cpu) = (Hub::new(), lane("default.cpu"));
    let (line_a, a) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    let (line_b, b) = listening(&hub, false, std::slice::from_ref(&cpu)).await;
    let mut got = [0, 0];
    for _ in 0..10 {
        hub.publish(&cpu, 1).await.expect("publishes");
        for (index, (line, consumer)) in [(&line_a, &a), (&line_b, &b)].into_iter().enumerate() {
            carry(line, consumer);
            if let Some(hint) = consumer.next().now_or_never() {
                got[index] += 1;
                consumer.ack(hint).await.expect("acks");
                carry(line, consumer);
            }
        }
    }
    assert_eq!(got, [5, 5]);
}

/// A hub and agents whose links are carried by tasks.
#[derive(Debug)]
struct InProcess(Hub);

#[derive(Debug)]
struct Linked {
    consumer: std::sync::Arc<LinkConsumer>,
    cut: tokio::sync::mpsc::Sender<()>,
    carrier: tokio::task::JoinHandle<()>,
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

#[async_trait::async_trait]
impl contract::Queue for InProcess {
    fn publisher(&self) -> &dyn crate::queue::Publisher {
        &self.0
    }

    async fn agent(&self, has_gpus: bool) -> Box<dyn contract::Agent> {
        let consumer = std::sync::Arc::new(LinkConsumer::new());
        let (cut, mut cuts) = tokio::sync::mpsc::channel(1);
        let (hub, agent) = (self.0.clone(), std::sync::Arc::clone(&consumer));
        let carrier = crate::tasks::spawn("test.link", async move {
            loop {
                let line = hub.connect(has_gpus);
                agent.connected();
                loop {
                    tokio::select! {
                        turn = agent.next_turn() => line.turn(turn),
                        work = line.next() => agent.work(&work),
                        _ = cuts.recv() => break,
                    }
                }
                agent.disconnected();
            }
        });
        Box::new(Linked { consumer, cut, carrier })
    }
}

#[async_trait::async_trait]
impl contract::Agent for Linked {
    fn consumer(&self) -> &dyn crate::queue::Consumer {
        &*self.consumer
    }

    async fn cut(&self) {
        self.cut.send(()).await.expect("the carrier lives");
    }
}

#[tokio::test]
async fn the_contract_holds() {
    contract::run(&InProcess(Hub::new())).await;
}
