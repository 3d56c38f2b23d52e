//! Jobs per second through the whole path with a runtime that does nothing: what Longshore itself costs.

use crate::{
    broker_floor,
    stack::{Options, Stack},
};
use longshore_tests::{
    env::Broker,
    summary::{Goal, Summary},
};
use std::time::Instant;

const JOBS: usize = 10_000;

pub(crate) async fn measure(broker: &Broker, summary: &mut Summary) -> anyhow::Result<()> {
    let embedded = rate(Options::null()).await?;
    summary.add("null-runtime jobs per second, embedded", embedded, "1/s", None, Goal::AtLeast(2000.0));
    let rabbit = rate(Options::null().over(broker)).await?;
    let floor = broker_floor::rate(&broker.url(), JOBS).await?;
    summary.add("null-runtime jobs per second, RabbitMQ", rabbit, "1/s", Some(floor), Goal::AtLeast(1000.0));
    let ratio = rabbit / floor;
    summary.add("jobs over RabbitMQ ÷ raw publish and consume", ratio, "ratio", Some(1.0), Goal::None);
    Ok(())
}

async fn rate(options: Options) -> anyhow::Result<f64> {
    let stack = Stack::start(options).await?;
    // One job first, so that connections and pages are warm.
    let warm = stack.submit("null", &["true"]).await?;
    stack.wait(&[warm]).await?;
    let before = Instant::now();
    let jobs = stack.submit_many("null", &["true"], JOBS).await?;
    stack.wait(&jobs).await?;
    let rate = JOBS as f64 / before.elapsed().as_secs_f64();
    Ok(rate)
}
