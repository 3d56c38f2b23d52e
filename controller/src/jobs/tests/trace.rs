//! Placement at size: three machines of eight GPUs, played on a clock of their own over the real commands and the real
//! store. What is asserted is read from the grants alone: who had which GPU from when to when.

use super::{judged::Ran, *};
use crate::identity::{Project, Settings, Weight};
use longshore_common::{
    agent::Keeper,
    clock::Timestamp,
    ids::ShortId,
    job::GpuRequest,
    process::{Process, WallClock},
};
use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

const MACHINES: usize = 3;
pub(super) const EACH: u32 = 8;
/// Nothing is kept for anybody within a trace.
const NEVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A throw of dice that is the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(super) fn few(&mut self, sides: u32) -> u32 {
        u32::try_from(self.below(sides.into())).expect("below a small number")
    }
}

/// A job, and how long its container runs.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) at: u64,
    pub(super) project: &'static str,
    pub(super) gpus: u32,
    pub(super) seconds: u64,
}

struct Node {
    identity: AgentIdentity,
    free: BTreeSet<u32>,
    /// Just given back, until the next reading.
    leaving: Vec<(u64, u32)>,
    running: Vec<(u64, Grant)>,
}

/// Machines that ask when something ends or comes, as agents do.
struct Fleet {
    bench: Bench,
    clock: Arc<WallClock>,
    nodes: Vec<Node>,
    seconds: HashMap<ShortId, (u64, u64)>,
    ran: Vec<Ran>,
    /// Seconds between readings of a machine.
    reading: u64,
}

/// Plays a story in a process whose clock is moved by hand.
async fn played<T>(reserve_after: Duration, story: impl AsyncFnOnce(&mut Fleet) -> T) -> T {
    let clock = Arc::new(WallClock::new(Timestamp::from_micros(1_767_225_600_000_000)));
    let process = Process::new(Arc::clone(&clock));
    let play = async {
        let bench = Bench::new().await;
        let bench = bench.reopen(Config { reserve_after, ..Config::default() }).await;
        let (seconds, ran) = (HashMap::new(), Vec::new());
        let mut fleet = Fleet { bench, clock, nodes: Vec::new(), seconds, ran, reading: 0 };
        for number in 0..MACHINES {
            let node = Node {
                identity: identity(&format!("gpu-{number}")),
                free: (0..EACH).collect(),
                leaving: Vec::new(),
                running: Vec::new(),
            };
            let whole = Inventory { allocatable: amounts(EACH), ..inventory(64, gpus(0..EACH)) };
            fleet.bench.jobs.hello(node.identity.clone(), whole).await.expect("stored");
            fleet.nodes.push(node);
        }
        story(&mut fleet).await
    };
    boxed(process.clone().within(play)).await
}

fn boxed<'a, T>(work: impl Future<Output = T> + 'a) -> std::pin::Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(work)
}

pub(super) fn gpus(indices: impl IntoIterator<Item = u32>) -> Vec<Gpu> {
    let one = |index: u32| Gpu {
        index,
        uuid: format!("GPU-{index}"),
        model: "NVIDIA A100-SXM4-80GB".into(),
        memory_bytes: 80 * GIB,
        nvlink: Some(index / 4),
        numa: Some(index / 4),
        ..Gpu::default()
    };
    indices.into_iter().map(one).collect()
}

pub(super) fn amounts(gpus: u32) -> Capacity {
    Capacity { cpu_millis: 64_000, memory_bytes: 512 * GIB, scratch_bytes: 9_000 * GIB, gpus }
}

impl Order {
    pub(super) fn job(&self) -> NewJob {
        let mut spec = spec();
        spec.resources.cpu_millis = 100;
        spec.resources.gpu = Some(GpuRequest::of(self.gpus));
        spec.deadlines.prepare = Duration::from_secs(30);
        spec.deadlines.run = Duration::from_secs(2 * self.seconds);
        NewJob {
            request_id: None,
            project: self.project.into(),
            spec,
            retry_of: None,
            own: Vec::new(),
            submitter: None,
        }
    }
}

impl Fleet {
    async fn project(&self, name: &str, weight: u32) {
        let settings = Settings { weight: Weight::new(weight).expect("in range"), ..Settings::default() };
        self.bench.jobs.put_project(Project { settings, ..Project::new(name) }).await.expect("stored");
    }

    /// Until every job has run. `orders` by time.
    async fn run(&mut self, orders: &[Order]) {
        let mut coming = orders.iter().peekable();
        loop {
            let runs = self.nodes.iter().flat_map(|node| node.running.iter().map(|(end, _)| *end));
            let reads = self.nodes.iter().flat_map(|node| node.leaving.iter().map(|(until, _)| *until));
            let ends = runs.chain(reads).min();
            let comes = coming.peek().map(|order| order.at);
            let Some(now) = ends.into_iter().chain(comes).min() else { return };
            self.clock.set_ahead(Duration::from_secs(now));
            let mut new = Vec::new();
            while let Some(order) = coming.next_if(|order| order.at == now) {
                new.push(order);
            }
            self.submit(now, &new).await;
            let freed = self.finish(now).await;
            for number in 0..self.nodes.len() {
                // Who was rung, who has just freed something, and who asks now and then.
                if !self.nodes[number].free.is_empty() && (!new.is_empty() || freed) {
                    self.claim(now, number).await;
                }
            }
        }
    }

    async fn submit(&mut self, now: u64, orders: &[&Order]) {
        for orders in orders.chunks(500) {
            let jobs = orders.iter().map(|order| order.job()).collect();
            let answers = self.bench.jobs.submit(jobs).await.expect("stored");
            for (order, answer) in orders.iter().zip(answers) {
                self.seconds.insert(answer.expect("taken").job.short_id, (now, order.seconds));
            }
        }
    }

    /// Whether anything ended.
    async fn finish(&mut self, now: u64) -> bool {
        let mut reports = Vec::new();
        for node in &mut self.nodes {
            let (ended, running) =
                std::mem::take(&mut node.running).into_iter().partition(|(end, _)| *end == now);
            node.running = running;
            let ended: Vec<(u64, Grant)> = ended;
            for (_, grant) in ended {
                node.leaving.extend(grant.gpus.iter().map(|gpu| (now + self.reading, index(gpu))));
                reports.push(report(grant.attempt, Outcome::Succeeded));
            }
        }
        let mut any = !reports.is_empty();
        for node in &mut self.nodes {
            let before = node.free.len();
            let free = &mut node.free;
            node.leaving.retain(|(until, gpu)| *until > now || !free.insert(*gpu));
            any |= node.free.len() > before;
        }
        let answers = self.bench.jobs.finish(reports).await.expect("stored");
        assert!(answers.iter().all(Result::is_ok));
        any
    }

    async fn claim(&mut self, now: u64, number: usize) {
        let node = &self.nodes[number];
        let told = gpus(0..EACH).into_iter().map(|gpu| {
            let leaves = node.leaving.iter().any(|(_, index)| *index == gpu.index);
            let job = (!leaves && !node.free.contains(&gpu.index)).then(|| "other".to_owned());
            let busy = leaves.then(|| "other has just given it back".to_owned());
            Gpu { job, busy, keeper: leaves.then_some(Keeper::Leaving), ..gpu }
        });
        let left = amounts(u32::try_from(node.free.len()).expect("few"));
        let report = AgentReport { free: left, gpus: told.collect(), ..AgentReport::default() };
        self.bench.jobs.agent_report(node.identity.id, report);
        let mut offer = offer(64, 64);
        offer.gpus = gpus(node.free.iter().copied());
        offer.free = left;
        let claimed = self.bench.claim(node.identity.id, offer).await;
        let node = &mut self.nodes[number];
        for grant in claimed.grants {
            for gpu in &grant.gpus {
                assert!(node.free.remove(&index(gpu)), "{gpu} of {} was granted twice", node.identity.name);
            }
            let (queued, seconds) = self.seconds[&grant.short_id];
            let name = &node.identity.name;
            self.ran.push(Ran {
                project: grant.project.clone(),
                gpus: grant.gpus.iter().map(|gpu| format!("{name} {gpu}")).collect(),
                queued,
                from: now,
                to: now + seconds,
                runs: seconds,
            });
            node.running.push((now + seconds, grant));
        }
    }
}

fn index(gpu: &str) -> u32 {
    gpu.trim_start_matches("GPU-").parse().expect("as in the offer")
}

/// One, two, four and eight GPUs for five seconds to a minute, of two projects.
fn mixed(dice: &mut Dice, count: usize) -> Vec<Order> {
    let mut order = || Order {
        at: 0,
        project: if dice.below(2) == 0 { "anna" } else { "bert" },
        gpus: match dice.below(20) {
            0..10 => 1,
            10..15 => 2,
            15..18 => 4,
            _ => 8,
        },
        seconds: 5 + dice.below(56),
    };
    (0..count).map(|_| order()).collect()
}

/// Prints what it measured, in seconds.
fn judge(name: &str, ran: &[Ran], weights: (u64, u64)) -> (f64, u64, f64) {
    let every = MACHINES * EACH as usize;
    judged::no_gpu_is_granted_twice(ran, every);
    let idle = judged::longest_idle_beside_work(ran, EACH as usize, &(1..=EACH as usize));
    let stretch = judged::stretch(ran, every as u64);
    let share = judged::share(ran, "anna", "bert");
    let off = (share - judged::ratio(weights.0, weights.0 + weights.1)).abs();
    println!(
        "{name}: {} jobs, makespan {stretch:.3} of an offline packer's bound; longest idle beside work {idle} s; share \
         {share:.3} of {weights:?}",
        ran.len()
    );
    (stretch, idle, off)
}

#[tokio::test]
async fn two_thousand_jobs_fill_twenty_four_gpus_fairly() {
    let ran = played(NEVER, async |fleet: &mut Fleet| {
        fleet.project("anna", 2).await;
        fleet.project("bert", 1).await;
        fleet.run(&mixed(&mut Dice(5), 2000)).await;
        std::mem::take(&mut fleet.ran)
    });
    let ran = ran.await;
    assert_eq!(ran.len(), 2000);
    let (stretch, idle, off) = judge("nothing kept", &ran, (2, 1));
    assert!(idle <= 1, "idle for {idle} s beside work that fits");
    assert!(stretch <= 1.10, "makespan is {stretch:.3} of the bound");
    assert!(off <= 0.05, "shares are off by {off:.3}");
}

#[tokio::test]
async fn keeping_machines_for_large_jobs_costs_little() {
    let ran = played(Duration::from_secs(600), async |fleet: &mut Fleet| {
        fleet.reading = 1;
        fleet.project("anna", 3).await;
        fleet.project("bert", 1).await;
        fleet.run(&mixed(&mut Dice(7), 400)).await;
        std::mem::take(&mut fleet.ran)
    });
    let ran = ran.await;
    assert_eq!(ran.len(), 400);
    let (stretch, _, off) = judge("kept after ten minutes", &ran, (3, 1));
    assert!(stretch <= 1.30, "makespan is {stretch:.3} of the bound");
    assert!(off <= 0.05, "shares are off by {off:.3}");
}

/// It begins within the reserve time and the longest time for which a job may still hold a GPU then.
#[tokio::test]
async fn a_job_of_eight_gpus_is_not_starved_by_a_stream_of_single_ones() {
    let reserve = 300;
    let ran = played(Duration::from_secs(reserve), async |fleet: &mut Fleet| {
        let mut dice = Dice(6);
        fleet.reading = 2;
        let small = |at: u64, seconds: u64| Order { at, project: "default", gpus: 1, seconds };
        let mut orders: Vec<_> = (0..48).map(|_| small(0, 60 + dice.below(61))).collect();
        orders.push(Order { at: 5, project: "default", gpus: 8, seconds: 60 });
        // More than 24 GPUs can do.
        for at in 1..100 {
            orders.extend((0..3).map(|_| small(10 * at, 60 + dice.below(61))));
        }
        fleet.run(&orders).await;
        std::mem::take(&mut fleet.ran)
    });
    let ran = ran.await;
    judged::no_gpu_is_granted_twice(&ran, MACHINES * EACH as usize);
    let large = ran.iter().find(|job| job.gpus.len() == 8).expect("it ran");
    let (waited, bound) = (large.from - large.queued, reserve + 30 + 2 * 120 + 10 + 10);
    let overtook = ran.iter().filter(|job| job.queued > large.queued && job.from < large.from).count();
    println!("a job of 8 GPUs waited {waited} s (bound {bound} s), overtaken by {overtook} of 1 GPU");
    assert!(waited >= reserve && overtook > 0, "the stream was too thin to show anything: {waited} s");
    assert!(waited <= bound, "waited {waited} s, the bound is {bound} s");
}
