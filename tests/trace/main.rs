//! Three machines of eight GPUs each, played through NVML, over RabbitMQ, with containers that only take time: how a
//! mixed trace fills them, and who waits how long. What is asserted is read from the records of attempts alone.

use futures::{StreamExt as _, stream};
use longshore_proto::v1::{Deadlines, GetJobResponse, GpuRequest, JobSpec, JobState, Resources};
use longshore_tests::{
    env::{Client, Cluster, Plan, broker, fresh_dir, until_within},
    trace::{self, Ran},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// One story at a time: what waits how long is measured.
static ALONE: Mutex<()> = Mutex::const_new(());
const MACHINES: usize = 3;
const EACH: usize = 8;
const GPUS: u64 = (MACHINES * EACH) as u64;
/// Of a clock that counts microseconds.
const SECOND: u64 = 1_000_000;

/// Machines that differ in the UUIDs of their GPUs alone.
fn start(reserve_after: &str) -> Cluster {
    let folder = fresh_dir("nvml");
    for seat in 0..MACHINES {
        let folder = folder.join(seat.to_string());
        std::fs::create_dir(&folder).expect("make a folder");
        let library = fake_nvml::install(&folder);
        let gpu = |number: usize| fake_nvml::Gpu {
            uuid: format!("GPU-{seat:04}{number:04}-0000-4000-8000-000000000000"),
            pci: format!("00000000:{number:02X}:00.0"),
            nvlink: u32::try_from(number / 4).ok(),
            numa: u32::try_from(number / 4).ok(),
            ..fake_nvml::Gpu::default()
        };
        let described = fake_nvml::Description {
            gpus: (0..EACH).map(gpu).collect(),
            ..fake_nvml::Description::default()
        };
        described.write(&fake_nvml::description_of(&library));
    }
    let agent = format!(
        "[capacity]\ncpu_millis = 64000\nmemory_bytes = 549755813888\nscratch_bytes = 9895604649984\n\
         [runtime]\nkind = \"null\"\n[host]\nnvml_library = \"{}/{{seat}}/libnvidia-ml.so.1\"\n",
        folder.display()
    );
    let plan = Plan::default().agents(MACHINES as u32).agent_alone(&agent).amqp(&broker().url());
    plan.controller(&format!("[jobs]\nreserve_after = \"{reserve_after}\"\n")).start()
}

fn job(gpus: u32, millis: u64) -> JobSpec {
    let length = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    JobSpec {
        image: "played:1".into(),
        env: [("FAKE_RUN".to_owned(), format!("{millis}ms"))].into(),
        resources: Some(Resources {
            cpu_millis: Some(100),
            memory_bytes: Some(32 << 20),
            scratch_bytes: Some(1 << 20),
            gpu: Some(GpuRequest { count: gpus, ..GpuRequest::default() }),
            ..Resources::default()
        }),
        deadlines: Some(Deadlines { prepare: length(2), run: length(5), ..Deadlines::default() }),
        ..JobSpec::default()
    }
}

fn micros(time: Option<prost_types::Timestamp>) -> u64 {
    let time = time.expect("it is told");
    u64::try_from(time.seconds).expect("after 1970") * SECOND
        + u64::try_from(time.nanos).expect("not negative") / 1000
}

/// A job as it ran, and when its container began.
#[derive(Clone, Debug)]
struct Record {
    ran: Ran,
    began: u64,
}

/// The only attempt of a job, which succeeded.
fn record(told: GetJobResponse) -> Record {
    let job = told.job.expect("an answer holds the job");
    let [attempt] = &told.attempts[..] else { panic!("{} was tried again: {:?}", job.id, told.attempts) };
    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    let uuid = |gpu: &String| gpu.rsplit(' ').next().expect("a UUID").to_owned();
    let run = &job.spec.as_ref().expect("a job has a spec").env["FAKE_RUN"];
    let ran = Ran {
        gpus: attempt.gpus.iter().map(|gpu| format!("{} {}", attempt.agent, uuid(gpu))).collect(),
        project: job.project,
        queued: micros(job.created_at),
        from: micros(attempt.claimed_at),
        to: micros(attempt.exited_at),
        runs: 1000 * run.trim_end_matches("ms").parse::<u64>().expect("milliseconds"),
    };
    Record { ran, began: micros(attempt.started_at) }
}

async fn records(client: &Client, ids: Vec<String>) -> Vec<Record> {
    client.nothing_left().await;
    stream::iter(ids).map(async |id| record(client.get(&id).await)).buffered(16).collect().await
}

/// The middle one, and the one that 19 of 20 stay below, in milliseconds.
fn usual(mut lengths: Vec<u64>) -> (f64, f64) {
    lengths.sort_unstable();
    let at = |part: usize| trace::ratio(lengths[(lengths.len() - 1) * part / 20], 1000);
    (at(10), at(19))
}

/// From the end of one container to the grant of a GPU's next job, and from a grant to its container.
fn turns(records: &[Record]) -> ((f64, f64), (f64, f64)) {
    let mut of_gpu: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for record in records {
        for gpu in &record.ran.gpus {
            of_gpu.entry(gpu).or_default().push((record.ran.from, record.ran.to));
        }
    }
    let mut granted = Vec::new();
    for times in of_gpu.values_mut() {
        times.sort_unstable();
        granted.extend(times.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1)));
    }
    let begun = records.iter().map(|record| record.began.saturating_sub(record.ran.from));
    (usual(granted), usual(begun.collect()))
}

/// A throw of dice that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One, two, four and eight GPUs, of 0.3 to 0.6 s: long beside a claim, and 2,000 of them within a minute or so. Times
/// `LONGSHORE_TEST_TRACE_SCALE`, at most 3, for whoever wants to see how little a claim is beside longer ones.
fn mixed(dice: &mut Dice) -> JobSpec {
    let scale = std::env::var("LONGSHORE_TEST_TRACE_SCALE").map_or(1, |text| text.parse().expect("a number"));
    let gpus = match dice.below(20) {
        0..12 => 1,
        12..17 => 2,
        17..19 => 4,
        _ => 8,
    };
    job(gpus, scale * (300 + dice.below(301)))
}

#[tokio::test]
async fn two_thousand_jobs_of_two_projects_fill_twenty_four_gpus() {
    let _alone = ALONE.lock().await;
    let cluster = start("1h");
    let cli = cluster.cli();
    cli.call(&["projects", "create", "anna", "--weight", "2"]).expect(0);
    cli.call(&["projects", "create", "bert", "--weight", "1"]).expect(0);
    let anna = Client::of_project(&cluster, "anna").await;
    let bert = Client::of_project(&cluster, "bert").await;
    let (mut dice, mut ids, before) = (Dice(5), Vec::new(), Instant::now());
    for _ in 0..20 {
        for client in [&anna, &bert] {
            ids.extend(client.submit_all((0..50).map(|_| mixed(&mut dice)).collect()).await);
        }
    }
    let submitted = before.elapsed();
    let all = Client::connect(&cluster).await;
    all.nothing_left().await;
    let ended = before.elapsed();
    let records = records(&all, ids).await;
    let ran: Vec<_> = records.iter().map(|record| record.ran.clone()).collect();
    assert_eq!(ran.len(), 2000);
    trace::no_gpu_is_granted_twice(&ran, MACHINES * EACH);
    let idle = |sizes| trace::ratio(trace::longest_idle_beside_work(&ran, EACH, &sizes), SECOND);
    let (any, four) = (idle(1..=EACH), idle(4..=4));
    let (stretch, share) = (trace::stretch(&ran, GPUS), trace::share(&ran, "anna", "bert"));
    let (granted, begun) = turns(&records);
    println!(
        "2,000 jobs: submitted in {submitted:.1?}, all over after {ended:.1?}; makespan {stretch:.3} of an offline \
         packer's bound; longest idle beside work {any:.3} s (4 GPUs: {four:.3} s); share {share:.3} of 2:1; end to \
         next grant {:.0} ms (95 %: {:.0}), grant to start {:.0} ms (95 %: {:.0})",
        granted.0, granted.1, begun.0, begun.1
    );
    assert!(any <= 1.0, "idle for {any:.3} s beside work that fits");
    assert!(four <= 1.0, "four GPUs of one machine were free for {four:.3} s beside a job for them");
    assert!(stretch <= 1.25, "makespan is {stretch:.3} of the bound");
    assert!((share - 2.0 / 3.0).abs() <= 0.05, "shares of 2:1 are off: {share:.3}");
}

/// One after the other, four of a machine's eight become free: not before, and not long after.
#[tokio::test]
async fn a_job_of_four_gpus_begins_as_soon_as_one_machine_has_four() {
    let _alone = ALONE.lock().await;
    let cluster = start("1h");
    let client = Client::connect(&cluster).await;
    // Two machines that are full for longer, and one that empties: which it is, placement says.
    let long = (0..20).map(|_| job(1, 4000));
    let short = [1500, 1700, 1900, 2100].map(|millis| job(1, millis));
    let mut ids = client.submit_all(long.chain(short).collect()).await;
    until_within(Duration::from_secs(20), "all GPUs are granted", || async {
        let mut held = 0;
        for seat in 0..MACHINES {
            held += client.agent(&longshore_tests::env::agent_name(seat)).await.jobs.len();
        }
        if held == MACHINES * EACH { Ok(()) } else { Err(held) }
    })
    .await;
    ids.push(client.submit(job(4, 100)).await);
    let ran: Vec<_> = records(&client, ids).await.into_iter().map(|record| record.ran).collect();
    trace::no_gpu_is_granted_twice(&ran, MACHINES * EACH);
    let idle = trace::longest_idle_beside_work(&ran, EACH, &(4..=4));
    let four = ran.last().expect("it ran");
    assert!(four.from > four.queued + SECOND / 10, "it found room at once: {four:?}");
    let idle = trace::ratio(idle, SECOND);
    println!("a job of 4 GPUs began {idle:.3} s after a machine had 4 free");
    assert!(idle <= 1.0, "four GPUs were free for {idle:.3} s beside it");
}

/// It begins within the reserve time, and the longest for which a job may still hold a GPU then: its deadlines.
#[tokio::test]
async fn a_job_of_eight_gpus_is_not_starved_by_a_stream_of_single_ones_over_rabbitmq() {
    let _alone = ALONE.lock().await;
    let reserve = 3;
    let cluster = start(&format!("{reserve}s"));
    let client = Client::connect(&cluster).await;
    let mut dice = Dice(6);
    let mut few = |count: usize| (0..count).map(|_| job(1, 600 + dice.below(601))).collect::<Vec<_>>();
    // More than 24 GPUs can do, and more all the time.
    let mut ids = client.submit_all(few(72)).await;
    let large = client.submit(job(8, 200)).await;
    while client.get(&large).await.job.expect("a job").state() == JobState::Queued {
        ids.extend(client.submit_all(few(12)).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    ids.push(large);
    let ran: Vec<_> = records(&client, ids).await.into_iter().map(|record| record.ran).collect();
    trace::no_gpu_is_granted_twice(&ran, MACHINES * EACH);
    let large = ran.last().expect("it ran");
    let overtook = ran.iter().filter(|job| job.queued > large.queued && job.from < large.from).count();
    // Prepare and run deadline, and two seconds for whoever asks next.
    let (waited, bound) = (trace::ratio(large.from - large.queued, SECOND), f64::from(reserve + 2 + 5 + 2));
    println!("a job of 8 GPUs waited {waited:.1} s (bound {bound} s), overtaken by {overtook} of 1 GPU");
    assert!(
        waited >= f64::from(reserve) && overtook > 0,
        "the stream was too thin to show anything: {waited} s"
    );
    assert!(waited <= bound, "waited {waited:.1} s, the bound is {bound} s");
}
