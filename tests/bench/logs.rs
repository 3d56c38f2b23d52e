//! Log megabytes per second: following live, and reading again, beside `docker logs` on the same output.

use crate::{
    containers::settings,
    floor::Engine,
    stack::{Options, Stack},
};
use longshore_tests::summary::{Goal, Summary};
use std::time::Instant;

const BYTES: usize = 60 << 20;
const ROUNDS: usize = 3;
const MIB: f64 = (1 << 20) as f64;

pub(crate) async fn measure(engine: &Engine, summary: &mut Summary) -> anyhow::Result<()> {
    let line = "0123456789".repeat(10);
    let print = format!("yes {line} | head -c {BYTES}");
    let command = ["sh", "-c", print.as_str()];
    let stack = Stack::start(Options::docker(1)).await?;
    let settings = settings(engine, &stack).await?;
    let (mut live, mut live_floor, mut again, mut again_floor) = (0.0, 0.0, 0.0, 0.0);
    for _ in 0..ROUNDS {
        let (follow, read) = engine.log_rates(&command, &settings).await?;
        live_floor += follow / MIB / ROUNDS as f64;
        again_floor += read / MIB / ROUNDS as f64;
        let job = stack.submit(&engine.image, &command).await?;
        stack.running(&job).await?;
        live += followed(&stack, &job, true).await? / ROUNDS as f64;
        stack.wait(std::slice::from_ref(&job)).await?;
        again += followed(&stack, &job, false).await? / ROUNDS as f64;
    }
    summary.add("log followed live", live, "MiB/s", Some(live_floor), Goal::None);
    summary.add(
        "log followed live ÷ docker logs -f",
        live / live_floor,
        "ratio",
        Some(1.0),
        Goal::AtLeast(0.9),
    );
    summary.add("log read again", again, "MiB/s", Some(again_floor), Goal::None);
    summary.add("log read again ÷ docker logs", again / again_floor, "ratio", Some(1.0), Goal::AtLeast(0.9));
    Ok(())
}

async fn followed(stack: &Stack, job: &str, follow: bool) -> anyhow::Result<f64> {
    let before = Instant::now();
    let bytes = stack.log_bytes(job, follow).await?;
    anyhow::ensure!(bytes == BYTES, "the log has {bytes} bytes of {BYTES}");
    Ok(bytes as f64 / MIB / before.elapsed().as_secs_f64())
}
