//! Containers per second: Longshore beside a raw loop with the same settings and the same parallelism.

use crate::{
    floor::Engine,
    stack::{Options, Stack},
};
use bollard::models::HostConfig;
use longshore_tests::summary::{Goal, Summary};
use std::time::Instant;

const PARALLEL: usize = 4;
const A_ROUND: usize = 24;
const ROUNDS: usize = 4;

pub(crate) async fn measure(engine: &Engine, summary: &mut Summary) -> anyhow::Result<()> {
    let stack = Stack::start(Options::docker(PARALLEL)).await?;
    let settings = settings(engine, &stack).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    // Turn about, so that a slow minute of the machine falls on both.
    for _ in 0..ROUNDS {
        floor.push(raw_round(engine, &settings).await?);
        ours.push(our_round(engine, &stack).await?);
    }
    let (ours, floor) = (mean(&ours), mean(&floor));
    summary.add("containers per second", ours, "1/s", Some(floor), Goal::None);
    summary.add("containers per second ÷ raw loop", ours / floor, "ratio", Some(1.0), Goal::AtLeast(0.95));
    Ok(())
}

/// The settings of a real container of ours.
pub(crate) async fn settings(engine: &Engine, stack: &Stack) -> anyhow::Result<HostConfig> {
    let job = stack.submit(&engine.image, &["sleep", "60"]).await?;
    stack.running(&job).await?;
    let mut settings = engine.settings_of(Stack::JOB_LABEL, &job).await?;
    stack.cancel(&job).await?;
    stack.wait(&[job]).await?;
    // The folders of that job are gone with it; the raw loop's containers write nowhere.
    settings.binds = None;
    settings.mounts = None;
    Ok(settings)
}

async fn our_round(engine: &Engine, stack: &Stack) -> anyhow::Result<f64> {
    let before = Instant::now();
    let jobs = stack.submit_many(&engine.image, &["true"], A_ROUND).await?;
    stack.wait(&jobs).await?;
    Ok(rate(before))
}

async fn raw_round(engine: &Engine, settings: &HostConfig) -> anyhow::Result<f64> {
    let before = Instant::now();
    let lane = async || {
        for _ in 0..A_ROUND / PARALLEL {
            engine.live(&["true"], settings).await?;
        }
        anyhow::Ok(())
    };
    futures::future::try_join_all((0..PARALLEL).map(|_| lane())).await?;
    Ok(rate(before))
}

fn rate(before: Instant) -> f64 {
    A_ROUND as f64 / before.elapsed().as_secs_f64()
}

fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}
