//! One machine with its agent: engine, clock, wire and home stay, the agent's process comes and goes.

use crate::{
    engine::Engine,
    link,
    weather::Weather,
    wire::{Door, Silent, Wire},
};
use longshore_agent::{
    self as agent, AgentConfig, OnShutdown, Parts, credential::Authorities, home::Home, host::fake::FakeHost,
    runtime::Runtime,
};
use longshore_common::{
    ids::AgentId,
    process::{Process, WallClock},
    shutdown::Shutdown,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// What it shows to the controller.
    pub(crate) key: String,
    pub(crate) wire: Arc<Wire>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Arc<WallClock>,
    weather: Arc<Weather>,
    host: Arc<FakeHost>,
    dir: PathBuf,
    boots: u32,
    /// When it is told to stop; others leave their containers to the next process.
    drains: bool,
    up: Option<Up>,
    /// When agent or engine were in trouble last.
    pub(crate) troubled: Instant,
    /// Since when nothing was done to it, and it has nothing to do.
    pub(crate) idle_since: Instant,
}

#[derive(Debug)]
struct Up {
    process: Process,
    running: agent::Running,
}

impl Machine {
    pub(crate) fn new(seed: u64, seat: usize, dir: PathBuf, door: Door, clock: WallClock) -> Self {
        let mut machine = Self {
            name: format!("agent-{seat}"),
            key: String::new(),
            wire: Wire::new(door),
            engine: Arc::new(Engine::new(Weather::new(seed, seat))),
            clock: Arc::new(clock),
            weather: Arc::new(Weather::new(seed, seat)),
            host: Arc::new(FakeHost::new()),
            dir,
            boots: 0,
            drains: seat.is_multiple_of(3),
            up: None,
            troubled: Instant::now(),
            idle_since: Instant::now(),
        };
        machine.boot();
        machine
    }

    /// While its agent is not up.
    pub(crate) fn id(&self) -> AgentId {
        Home::open(&self.dir).expect("an agent's folder is free when the agent is gone").id()
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Its agent works and its engine does what it is asked.
    pub(crate) fn is_well(&self) -> bool {
        self.is_up() && self.engine.is_well()
    }

    /// It could take a job.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_well() && self.weather.is_fine() && self.wire.is_fine() && self.held() == 0
    }

    /// Attempts its agent holds.
    pub(crate) fn held(&self) -> usize {
        self.up.as_ref().map_or(0, |up| up.running.held.len())
    }

    /// When the last call from before arrives once more.
    pub(crate) fn echoes_until(&self) -> Option<Instant> {
        self.weather.echoes_until()
    }

    pub(crate) fn trouble(&self, network: f64, engine: f64) {
        self.weather.set(network);
        self.engine.trouble(engine);
    }

    pub(crate) fn heal(&self) {
        self.trouble(0.0, 0.0);
        self.engine.away(false);
        self.wire.silence(Silent::default());
        self.wire.slow(Duration::ZERO);
    }

    pub(crate) async fn start(&mut self) {
        let process = Process::new(Arc::clone(&self.clock));
        let mut config = AgentConfig {
            name: Some(self.name.clone()),
            data_dir: self.dir.clone(),
            ..AgentConfig::default()
        };
        if self.drains {
            config.on_shutdown = OnShutdown::Drain;
        }
        // Played containers use nothing of their own.
        config.capacity.others.count = false;
        let (wire, weather) = (Arc::clone(&self.wire), Arc::clone(&self.weather));
        let key = self.key.clone();
        let engine: Arc<dyn Runtime> = Arc::<Engine>::clone(&self.engine);
        let parts = Parts {
            runtime: engine,
            host: Arc::<FakeHost>::clone(&self.host),
            connect: Box::new(move |identity, reporter, leave| {
                Ok(link::open(&wire, weather, (identity, key), reporter, leave))
            }),
            authorities: Authorities::default(),
        };
        let home = Home::open(&self.dir).expect("an agent's folder is free when the agent is gone");
        let starting = agent::start_with(config, home, parts, Shutdown::new());
        let running = process.clone().within(starting).await.expect("an agent starts on what it left");
        self.up = Some(Up { process, running });
    }

    /// As SIGKILL.
    pub(crate) async fn kill(&mut self) {
        let Some(Up { process, running }) = self.up.take() else { return };
        drop(running);
        self.wire.cut();
        process.kill().await;
    }

    /// As SIGTERM: returns when the process has left.
    pub(crate) async fn stop(&mut self) {
        let Some(Up { process, running }) = self.up.take() else { return };
        running.stop().await;
        process.kill().await;
        self.wire.cut();
    }

    /// Power off and on: no container outlives it.
    pub(crate) async fn reboot(&mut self) {
        self.kill().await;
        self.engine.crash().await;
        self.boot();
    }

    fn boot(&mut self) {
        self.boots += 1;
        let boot = format!("{}-{}", self.name, self.boots);
        self.host.change_facts(|facts| facts.boot_id = boot);
    }
}
