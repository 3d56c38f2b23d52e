//! Nothing is lost: a stream of jobs runs while a seeded monkey kills, stops and cuts off every part, and a checker
//! that reads only the public API, the engine and the agents' folders says what came of it. `make chaos`.
//!
//! `CHAOS_SEED` names the run, `CHAOS_SECONDS` its length; alone, `make test` runs a short one with a fixed seed.

mod check;
mod client;
mod faults;
mod health;
mod jobs;
mod monkey;
mod recovery;
mod report;
mod stack;
mod starts;
mod stream;
mod timeline;

use longshore_tests::env::S3;
use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

/// As a filter of `cargo test` would name it.
const STORY: &str = "jobs_outlive_every_part_that_is_killed";

/// Of the run inside `make test`.
const SHORT: Duration = Duration::from_secs(75);
const SHORT_SEED: u64 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // This very program is also the object store, so that there is a process to kill.
        ["--serve-s3", folder, port] => {
            S3::serve(&PathBuf::from(folder), port.parse().expect("a port"));
            ExitCode::SUCCESS
        }
        ["--list", ..] => {
            println!("{STORY}: test");
            ExitCode::SUCCESS
        }
        ref filters => {
            let filters: Vec<_> = filters.iter().filter(|word| !word.starts_with('-')).collect();
            if !filters.is_empty() && !filters.iter().any(|name| STORY.contains(**name)) {
                return ExitCode::SUCCESS;
            }
            run()
        }
    }
}

fn run() -> ExitCode {
    let seed = setting("CHAOS_SEED").unwrap_or(SHORT_SEED);
    let length = setting("CHAOS_SECONDS").map_or(SHORT, Duration::from_secs);
    println!("chaos: seed {seed}, {} s (again: CHAOS_SEED={seed} make chaos)", length.as_secs());
    // As the binary does; a second installation would be this one again.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().expect("build a runtime");
    let held = runtime.block_on(story(seed, length)).unwrap_or_else(|error| {
        println!("chaos: seed {seed}: {error:#}");
        false
    });
    println!("test {STORY} ... {}", if held { "ok" } else { "FAILED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every promise was held.
async fn story(seed: u64, length: Duration) -> anyhow::Result<bool> {
    let mut stack = stack::Stack::start().await?;
    let client = client::Client::new(&stack.url, &stack.data(), seed)?;
    let starts = starts::Starts::listen(&stack.engine_socket());
    let timeline = timeline::Timeline::begin();
    let watched = stream::watch(&client);
    let health = health::Health::ask(&client, &timeline);
    let plan = faults::plan(seed, length);
    let monkey = {
        let timeline = timeline.clone();
        tokio::task::spawn_blocking(move || {
            monkey::run(&mut stack, plan, length, &timeline);
            stack
        })
    };
    let orders = Box::pin(stream::submit(&client, &watched, seed, &timeline, length)).await?;
    let stack = monkey.await?;
    timeline.note(&format!("healed; {} jobs accepted", orders.accepted.len()));
    stream::settle(&client, &orders.accepted, &timeline).await;
    let evidence = check::Evidence {
        seed,
        client: &client,
        stack: &stack,
        orders: &orders,
        watched: &watched.stop(),
        starts: &starts.counts(),
        queue_well: &health.queue_well(),
        timeline: &timeline,
    };
    let findings = evidence.examine().await?;
    report::tell(&evidence, &findings)
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name} is `{text}`: it must be a whole number"),
    }
}
