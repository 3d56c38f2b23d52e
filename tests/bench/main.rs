//! What Longshore costs, as ratios against a floor measured in the same run: `make bench`.
//!
//! Absolute times depend on the machine; a ratio against the raw engine, broker or reader hardly does. Every line is
//! printed and left in `target/bench/summary.json`.

mod broker_floor;
mod containers;
mod floor;
mod latency;
mod logs;
mod memory;
mod null_jobs;
mod stack;

use longshore_tests::{
    env::{broker, image},
    summary::Summary,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| o == name);
    let engine = floor::Engine::connect(&image()).await?;
    let mut summary = Summary::default();
    if wanted("containers") {
        containers::measure(&engine, &mut summary).await?;
    }
    if wanted("latency") {
        latency::measure(&engine, &mut summary).await?;
    }
    if wanted("null") {
        null_jobs::measure(broker(), &mut summary).await?;
    }
    if wanted("logs") {
        logs::measure(&engine, &mut summary).await?;
    }
    if wanted("memory") {
        memory::measure(&mut summary).await?;
    }
    summary.write("bench")
}
