//! Submit to container started on an idle system, less what the engine alone takes for create and start.

use crate::{
    containers::settings,
    floor::Engine,
    stack::{Options, Stack},
};
use anyhow::Context as _;
use futures::StreamExt as _;
use longshore_tests::summary::{Goal, Summary, percentile};
use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

const SAMPLES: usize = 30;

pub(crate) async fn measure(engine: &Engine, summary: &mut Summary) -> anyhow::Result<()> {
    let stack = Stack::start(Options::docker(1)).await?;
    let settings = settings(engine, &stack).await?;
    let mut starts = pin!(engine.starts(Stack::JOB_LABEL));
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        floor.push(engine.live(&["true"], &settings).await?.as_secs_f64() * 1e3);
        let before = now();
        let job = stack.submit(&engine.image, &["true"]).await?;
        let started = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let (id, at) = starts.next().await.context("the engine's events ended")?;
                if id == job {
                    return anyhow::Ok(at);
                }
            }
        });
        ours.push((started.await.context("no start within 30 s")?? - before) * 1e3);
        stack.wait(&[job]).await?;
    }
    for (name, share, goal) in [
        ("submit to started, over the floor, p50", 0.5, Goal::AtMost(25.0)),
        ("submit to started, over the floor, p95", 0.95, Goal::None),
    ] {
        let (ours, floor) = (percentile(&mut ours, share), percentile(&mut floor, share));
        summary.add(name, ours - floor, "ms", Some(floor), goal);
    }
    Ok(())
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
