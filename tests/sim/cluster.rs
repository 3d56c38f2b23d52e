//! A controller and its machines, with everybody's jobs and troubles, and a trace of what was done to them.

use crate::{
    check::Checker,
    controller::ControllerSeat,
    dice::Dice,
    jobs::{Script, Task},
    machine::Machine,
    monkey::Relief,
    wire::Silent,
};
use longshore_common::{clock::Timestamp, process::WallClock};
use longshore_controller::ControllerConfig;
use longshore_proto::v1::{CancelJobsRequest, SubmitRequest};
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Actions shown when something is wrong.
const TRACED: usize = 60;
/// 2026-01-01: the same in every run.
const NEW_YEAR: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Everything an unlucky job may still need: two leases, backoffs, a run.
const PATIENCE: Duration = Duration::from_secs(5400);

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) machines: Vec<Machine>,
    pub(crate) checker: Checker,
    pub(crate) trace: VecDeque<String>,
    controller: ControllerSeat,
    began: Instant,
    reliefs: BTreeMap<(Instant, u64), Relief>,
    planned: u64,
    submitted: usize,
}

impl Cluster {
    pub(crate) async fn start(seed: u64, seats: usize, dir: &Path, dice: &mut Dice) -> Self {
        let mut config = ControllerConfig::default();
        // The default is long beside a simulation; shorter ones run out more often.
        let lease = *dice.pick(&[20, 60, 600]).expect("there are some");
        config.jobs.disconnect_tolerance = Duration::from_secs(lease);
        // Clocks step by more than agents' keys usually last, and nobody joins here.
        config.enrolment.credential_valid = Duration::from_secs(50 * 365 * 24 * 3600);
        let clock = skewed(dice);
        let mut controller = ControllerSeat::new(dir.join("controller"), config, Arc::new(clock));
        controller.start().await;
        let mut machines = Vec::new();
        for seat in 0..seats {
            let dir = dir.join(format!("agent-{seat}"));
            let mut machine = Machine::new(seed, seat, dir, controller.door(), skewed(dice));
            machine.key = controller.enrol(machine.id()).await;
            machine.start().await;
            machines.push(machine);
        }
        Self {
            machines,
            checker: Checker::default(),
            trace: VecDeque::new(),
            controller,
            began: Instant::now(),
            reliefs: BTreeMap::new(),
            planned: 0,
            submitted: 0,
        }
    }

    pub(crate) fn note(&mut self, line: &str) {
        if self.trace.len() == TRACED {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9.3} {line}", self.began.elapsed().as_secs_f64()));
    }

    pub(crate) fn act(&mut self, seat: usize, deed: String) {
        self.machines[seat].idle_since = Instant::now();
        self.note(&format!("agent-{seat}: {deed}"));
    }

    pub(crate) fn later(&mut self, pause: Duration, relief: Relief) {
        self.planned += 1;
        self.reliefs.insert((Instant::now() + pause, self.planned), relief);
    }

    /// A job, sometimes asked for twice.
    pub(crate) async fn submit(&mut self, task: Task, again: bool) {
        let Some(mut jobs) = self.controller.jobs() else { return };
        self.submitted += 1;
        let request = SubmitRequest {
            request_id: format!("request-{}", self.submitted),
            spec: Some(task.spec(self.submitted)),
            ..SubmitRequest::default()
        };
        let submit = async |jobs: &mut longshore_proto::v1::jobs_client::JobsClient<_>| {
            let reply = jobs.submit(request.clone()).await.expect("a good job is accepted").into_inner();
            reply.job.expect("the reply has the job")
        };
        let job = submit(&mut jobs).await;
        if again {
            assert_eq!(submit(&mut jobs).await.id, job.id, "a repeated request is another job");
        }
        self.note(&format!("{} submitted: {task:?}", job.id));
        self.checker.accepted(task, job);
    }

    /// The job that `throw` falls on.
    pub(crate) async fn cancel(&mut self, throw: usize) {
        let open = self.checker.unfinished();
        if let Some(id) = open.get(throw % open.len().max(1)) {
            self.cancel_all(vec![id.clone()]).await;
        }
    }

    async fn cancel_all(&mut self, ids: Vec<String>) {
        let Some(mut jobs) = self.controller.jobs() else { return };
        for id in &ids {
            self.note(&format!("{id} is to be cancelled"));
            if let Some(known) = self.checker.jobs.get_mut(id) {
                known.cancel_asked = true;
            }
        }
        let request = CancelJobsRequest { jobs: ids, ..CancelJobsRequest::default() };
        jobs.cancel(request).await.expect("a cancel is taken");
    }

    pub(crate) async fn kill_controller(&mut self, pause: Duration) {
        self.note(&format!("controller: kill for {pause:?}"));
        self.controller.kill(self.machines.iter().map(|machine| &machine.wire)).await;
        self.later(pause, Relief::StartController);
    }

    /// Lets time go by; troubles end in it when they are due.
    pub(crate) async fn pass(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while let Some(entry) = self.reliefs.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((due, _), relief) = entry.remove_entry();
            sleep_until(due).await;
            self.relieve(relief).await;
        }
        sleep_until(end).await;
    }

    async fn relieve(&mut self, relief: Relief) {
        let now = Instant::now();
        match relief {
            Relief::StartController => {
                if self.controller.jobs().is_none() {
                    self.note("controller: starts");
                    self.controller.start().await;
                }
                return;
            }
            Relief::StartAgent(seat) if !self.machines[seat].is_up() => {
                self.machines[seat].start().await;
                self.machines[seat].troubled = now;
            }
            Relief::StartAgent(_) => {}
            Relief::EngineBack(seat) => {
                self.machines[seat].engine.away(false);
                self.machines[seat].troubled = now;
            }
            Relief::WireSpeaks(seat) => self.machines[seat].wire.silence(Silent::default()),
            Relief::WireFast(seat) => self.machines[seat].wire.slow(Duration::ZERO),
            Relief::Calm(seat) => {
                self.machines[seat].trouble(0.0, 0.0);
                self.machines[seat].troubled = now;
            }
        }
        let (Relief::StartAgent(seat)
        | Relief::EngineBack(seat)
        | Relief::WireSpeaks(seat)
        | Relief::WireFast(seat)
        | Relief::Calm(seat)) = relief
        else {
            return;
        };
        self.act(seat, format!("{relief:?}"));
    }

    /// What must hold at any time.
    pub(crate) async fn check(&mut self) -> Result<(), String> {
        if let Some(mut jobs) = self.controller.jobs() {
            for line in self.checker.look(&mut jobs).await? {
                self.note(&line);
            }
        }
        for machine in self.machines.iter_mut().filter(|machine| !machine.is_idle()) {
            machine.idle_since = Instant::now();
        }
        self.checker.waiting(&self.machines, self.controller.up_since())?;
        self.checker.engines(&self.machines).await
    }

    /// Every trouble ends; then everything that was accepted ends, as it may and for ever.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        self.note("all troubles end");
        self.reliefs.clear();
        self.relieve(Relief::StartController).await;
        for machine in &mut self.machines {
            machine.heal();
            machine.idle_since = Instant::now();
            if !machine.is_up() {
                machine.start().await;
            }
        }
        self.check().await?;
        let endless = self.checker.jobs.values().filter(|known| known.task.script == Script::NeverEnds);
        let endless = endless.map(|known| known.seen.id.clone()).collect();
        self.cancel_all(endless).await;
        let healed = Instant::now();
        loop {
            self.check().await?;
            let left = self.checker.left_over(&self.machines).await;
            let open = self.checker.unfinished();
            if open.is_empty() && left.is_ok() {
                break;
            }
            if healed.elapsed() > PATIENCE {
                left?;
                return Err(format!("not ended after {PATIENCE:?} without trouble: {open:?}"));
            }
            self.pass(Duration::from_secs(10)).await;
        }
        self.note("all has ended");
        let echoes = self.machines.iter().filter_map(Machine::echoes_until).max();
        self.pass(echoes.map_or(Duration::ZERO, |until| until.duration_since(Instant::now()))).await;
        self.check().await?;
        self.checker.left_over(&self.machines).await?;
        let mut jobs = self.controller.jobs().expect("it was started");
        self.checker.logs(&mut jobs).await
    }

    /// One line about what happened.
    pub(crate) fn told(&self) -> String {
        let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
        let mut attempts = 0;
        for known in self.checker.jobs.values() {
            attempts += known.seen.attempts;
            let name = known.seen.outcome.as_ref().map_or("unfinished", |outcome| &outcome.name);
            *ends.entry(name).or_default() += 1;
        }
        let starts: u64 = self.machines.iter().map(|machine| machine.engine.starts()).sum();
        format!(
            "{} machines, {} jobs, {attempts} attempts, {starts} starts, {:.0} min: {ends:?}",
            self.machines.len(),
            self.checker.jobs.len(),
            self.began.elapsed().as_secs_f64() / 60.0
        )
    }
}

/// Up to ten minutes ahead or behind.
fn skewed(dice: &mut Dice) -> WallClock {
    let clock = WallClock::new(NEW_YEAR);
    let by = Duration::from_secs(dice.below(600) as u64);
    if dice.chance(0.5) {
        clock.set_ahead(by)
    } else {
        clock.set_behind(by)
    }
    clock
}
