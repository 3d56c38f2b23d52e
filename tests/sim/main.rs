//! A cluster in one process: the real controller on its database, real agents with scripted engines, and between
//! them a network and a monkey that do what a seed says. Calls are lost, late, repeated and out of order, connections
//! cut or silent, agents, machines, engines and the controller end and come back, clocks are wrong by up to ten
//! minutes. After every step the invariants are checked; at the end everything must have ended.
//!
//! `SIM_SEED=7` plays one seed, `SIM_SEEDS=100` that many, `SIM_AGENTS` and `SIM_STEPS` make them larger.
//! `SIM_LOG=debug` shows what the parts say.
//!
//! How far a seed repeats: the deeds, their times and the fate of every call are the same. Time is played: it moves
//! only when no task and no thread has anything to do, so that a slow machine changes nothing. Not repeated are ids,
//! the jitter of backoffs and the order in which tasks that are ready at the same moment run; a failure that depends
//! on them may need its seed to be played a few times. Artifacts and inputs go over sockets and are left to the live
//! tests.

mod check;
mod cluster;
mod controller;
mod dice;
mod engine;
mod jobs;
mod link;
mod machine;
mod monkey;
mod quiet;
mod weather;
mod wire;

use cluster::Cluster;
use dice::Dice;
use std::{
    env,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Played by a plain `cargo test`.
const SEEDS: u64 = 2;
const STEPS: usize = 50;
const AGENTS: usize = 4;
/// One seed of each plain run has the most machines.
const MANY: (usize, usize) = (50, 5);

#[test]
fn nothing_is_lost_whatever_happens() {
    quieten();
    let number = |name| env::var(name).ok().map(|text| text.parse().expect(name));
    let seeds = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, count) => 1..=count.unwrap_or(SEEDS),
    };
    let size = |name, default: usize| number(name).map_or(default, |n| usize::try_from(n).expect(name));
    let (agents, steps) = (size("SIM_AGENTS", AGENTS), size("SIM_STEPS", STEPS));
    let failed: Vec<u64> = seeds.filter(|seed| !play(*seed, agents, steps)).collect();
    assert_eq!(failed, [] as [u64; 0], "seeds that failed; play one again with SIM_SEED=N");
}

#[test]
fn nothing_is_lost_among_fifty_machines() {
    quieten();
    if env::var_os("SIM_SEED").is_none() {
        assert!(play(0, MANY.0, MANY.1), "seed 0 with {MANY:?} machines and steps failed");
    }
}

/// Whether all went well; prints what happened.
fn play(seed: u64, agents: usize, steps: usize) -> bool {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().expect("a folder for the simulation");
    let began = Instant::now();
    let story = quiet::run(async {
        let mut dice = Dice::new(seed);
        let mut cluster = Cluster::start(seed, agents, dir.path(), &mut dice).await;
        for step in 1..=steps {
            monkey::step(&mut cluster, &mut dice).await;
            if let Err(wrong) = cluster.check().await {
                return Err((format!("step {step}: {wrong}"), cluster.trace));
            }
        }
        match cluster.settle().await {
            Ok(()) => Ok(cluster.told()),
            Err(wrong) => Err((format!("after {steps} steps: {wrong}"), cluster.trace)),
        }
    });
    let took = began.elapsed().as_secs_f64();
    match story {
        Ok(told) => {
            println!("seed {seed}: {told} in {took:.1} s");
            true
        }
        Err((wrong, trace)) => {
            for line in trace {
                println!("{line}");
            }
            println!("seed {seed} FAILED after {took:.1} s: {wrong}");
            false
        }
    }
}

/// What every program does first, once.
fn quieten() {
    drop(rustls::crypto::ring::default_provider().install_default());
    if let Ok(filter) = env::var("SIM_LOG") {
        let started = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        drop(started);
    }
}
