//! Resident memory of controller and agent, idle and with 10,000 jobs queued.

use crate::stack::{Options, Stack};
use anyhow::Context as _;
use longshore_tests::summary::{Goal, Summary};

const QUEUED: usize = 10_000;
const GOAL: Goal = Goal::AtMost(64.0);

pub(crate) async fn measure(summary: &mut Summary) -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::null()).await?;
    let warm = stack.submit("null", &["true"]).await?;
    stack.wait(&[warm]).await?;
    report(summary, &mut stack, "idle")?;
    // More memory than the machine has: they stay queued, and every claim has to look at them.
    stack.submit_unfittable("null", QUEUED).await?;
    report(summary, &mut stack, "10,000 queued")
}

fn report(summary: &mut Summary, stack: &mut Stack, when: &str) -> anyhow::Result<()> {
    summary.add(&format!("controller memory, {when}"), resident(stack.controller_pid())?, "MiB", None, GOAL);
    summary.add(&format!("agent memory, {when}"), resident(stack.agent_pid())?, "MiB", None, GOAL);
    Ok(())
}

fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}
