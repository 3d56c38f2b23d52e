//! What every queue must do, run on each implementation by its tests. Panics where one does not.

use super::{Consumer, Hint, Lane, Publisher};
use async_trait::async_trait;
use std::{fmt, time::Duration};

/// Longer than any queue needs to deliver, an agent's reconnect included.
const SOON: Duration = Duration::from_secs(120);

/// How long nothing must come for "it does not come". Only a wrong implementation is missed by a slow machine.
const QUIET: Duration = Duration::from_millis(400);

/// An implementation under test.
#[async_trait]
pub trait Queue: fmt::Debug + Send + Sync {
    fn publisher(&self) -> &dyn Publisher;

    async fn agent(&self, has_gpus: bool) -> Box<dyn Agent>;
}

/// One agent of the queue under test. Dropping it ends its connection for good.
#[async_trait]
pub trait Agent: fmt::Debug + Send + Sync {
    fn consumer(&self) -> &dyn Consumer;

    /// Cuts the connection from outside; the consumer is expected to come back by itself.
    async fn cut(&self);
}

/// Every case, each on lanes of its own.
pub async fn run(queue: &dyn Queue) {
    a_hint_that_was_acknowledged_is_gone(queue).await;
    hints_are_confirmed_and_counted(queue).await;
    an_unacknowledged_hint_comes_back(queue).await;
    an_ack_of_a_lost_connection_is_ignored(queue).await;
    a_slow_agent_does_not_hoard(queue).await;
    a_lane_that_was_left_brings_nothing_before_the_ack(queue).await;
    a_hint_nobody_took_goes_to_another_when_the_lane_is_left(queue).await;
    release_gives_everything_back(queue).await;
    lanes_do_not_wait_for_each_other(queue).await;
    native_machines_come_first(queue).await;
}

/// A lane nobody else uses.
pub fn fresh_lane(gpu: bool) -> Lane {
    Lane::new(&format!("contract-{}", crate::ids::ShortId::random()), gpu)
}

async fn prepared(queue: &dyn Queue, hints: u32) -> Lane {
    let lane = fresh_lane(false);
    queue.publisher().declare(std::slice::from_ref(&lane)).await.expect("declares");
    ring(queue, &lane, hints).await;
    lane
}

async fn ring(queue: &dyn Queue, lane: &Lane, hints: u32) {
    assert_eq!(queue.publisher().publish(lane, hints).await.expect("publishes"), hints, "all are confirmed");
}

async fn listening(queue: &dyn Queue, lanes: &[Lane]) -> Box<dyn Agent> {
    let agent = queue.agent(false).await;
    agent.consumer().consume(lanes).await.expect("consumes");
    agent
}

/// The next hint, which must come.
pub async fn next(agent: &dyn Agent) -> Hint {
    tokio::time::timeout(SOON, agent.consumer().next()).await.expect("a hint comes soon")
}

async fn ack(agent: &dyn Agent, hint: Hint) {
    agent.consumer().ack(hint).await.expect("acknowledges");
}

async fn nothing(agent: &dyn Agent) {
    let hint = tokio::time::timeout(QUIET, agent.consumer().next()).await;
    assert!(hint.is_err(), "no hint was due, and there came {hint:?}");
}

/// Returns when the queue's own count is `count`.
pub async fn counted(queue: &dyn Queue, lane: &Lane, count: u32) {
    let reached = async {
        while queue.publisher().waiting(lane).await.expect("counts") != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.expect("the count is reached");
}

async fn a_hint_that_was_acknowledged_is_gone(queue: &dyn Queue) {
    let lane = prepared(queue, 1).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    let hint = next(&*agent).await;
    assert_eq!(hint.lane, lane);
    ack(&*agent, hint).await;
    nothing(&*agent).await;
    agent.cut().await;
    nothing(&*agent).await;
    counted(queue, &lane, 0).await;
}

async fn hints_are_confirmed_and_counted(queue: &dyn Queue) {
    let lane = prepared(queue, 50).await;
    counted(queue, &lane, 50).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    for _ in 0..50 {
        let hint = next(&*agent).await;
        ack(&*agent, hint).await;
    }
    counted(queue, &lane, 0).await;
    nothing(&*agent).await;
}

async fn an_unacknowledged_hint_comes_back(queue: &dyn Queue) {
    let lane = prepared(queue, 1).await;
    let holder = listening(queue, std::slice::from_ref(&lane)).await;
    next(&*holder).await;
    let other = listening(queue, std::slice::from_ref(&lane)).await;
    nothing(&*other).await;
    drop(holder);
    let hint = next(&*other).await;
    ack(&*other, hint).await;
}

async fn an_ack_of_a_lost_connection_is_ignored(queue: &dyn Queue) {
    let lane = prepared(queue, 1).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    let before = next(&*agent).await;
    agent.cut().await;
    let after = next(&*agent).await;
    assert_ne!(before.generation, after.generation);
    ack(&*agent, before).await;
    agent.cut().await;
    let again = next(&*agent).await;
    ack(&*agent, again).await;
    nothing(&*agent).await;
}

async fn a_slow_agent_does_not_hoard(queue: &dyn Queue) {
    let lane = prepared(queue, 0).await;
    let slow = listening(queue, std::slice::from_ref(&lane)).await;
    ring(queue, &lane, 1).await;
    let held = next(&*slow).await;
    ring(queue, &lane, 5).await;
    let idle = listening(queue, std::slice::from_ref(&lane)).await;
    for _ in 0..5 {
        let hint = next(&*idle).await;
        ack(&*idle, hint).await;
    }
    nothing(&*slow).await;
    ack(&*slow, held).await;
}

async fn a_lane_that_was_left_brings_nothing_before_the_ack(queue: &dyn Queue) {
    let lane = prepared(queue, 3).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    let hint = next(&*agent).await;
    agent.consumer().consume(&[]).await.expect("leaves");
    ack(&*agent, hint).await;
    nothing(&*agent).await;
    counted(queue, &lane, 2).await;
    agent.consumer().consume(std::slice::from_ref(&lane)).await.expect("joins again");
    for _ in 0..2 {
        let hint = next(&*agent).await;
        ack(&*agent, hint).await;
    }
}

async fn a_hint_nobody_took_goes_to_another_when_the_lane_is_left(queue: &dyn Queue) {
    let lane = prepared(queue, 1).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    counted(queue, &lane, 0).await;
    agent.consumer().consume(&[]).await.expect("leaves");
    let other = listening(queue, std::slice::from_ref(&lane)).await;
    let hint = next(&*other).await;
    ack(&*other, hint).await;
    nothing(&*agent).await;
}

async fn release_gives_everything_back(queue: &dyn Queue) {
    let lane = prepared(queue, 1).await;
    let agent = listening(queue, std::slice::from_ref(&lane)).await;
    let held = next(&*agent).await;
    agent.consumer().release().await.expect("releases");
    let other = listening(queue, std::slice::from_ref(&lane)).await;
    let hint = next(&*other).await;
    ack(&*agent, held).await;
    ack(&*other, hint).await;
    nothing(&*agent).await;
}

async fn lanes_do_not_wait_for_each_other(queue: &dyn Queue) {
    let (first, second) = (prepared(queue, 2).await, prepared(queue, 0).await);
    let agent = listening(queue, &[first.clone(), second.clone()]).await;
    let held = next(&*agent).await;
    assert_eq!(held.lane, first);
    ring(queue, &second, 1).await;
    let hint = next(&*agent).await;
    assert_eq!(hint.lane, second);
    ack(&*agent, hint).await;
    ack(&*agent, held).await;
    let last = next(&*agent).await;
    assert_eq!(last.lane, first);
    ack(&*agent, last).await;
}

async fn native_machines_come_first(queue: &dyn Queue) {
    let lane = prepared(queue, 0).await;
    let with_gpus = queue.agent(true).await;
    with_gpus.consumer().consume(std::slice::from_ref(&lane)).await.expect("consumes");
    ring(queue, &lane, 1).await;
    let hint = next(&*with_gpus).await;
    ack(&*with_gpus, hint).await;
    // A hint in a lane that is joined later shows that the plain machine listens to this one too.
    let later = Lane::new(&format!("{}z", lane.pool()), false);
    queue.publisher().declare(std::slice::from_ref(&later)).await.expect("declares");
    let plain = listening(queue, &[lane.clone(), later.clone()]).await;
    ring(queue, &later, 1).await;
    let hint = next(&*plain).await;
    ack(&*plain, hint).await;
    ring(queue, &lane, 1).await;
    let hint = next(&*plain).await;
    assert_eq!(hint.lane, lane);
    nothing(&*with_gpus).await;
    ack(&*plain, hint).await;
}
