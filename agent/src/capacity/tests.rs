use super::*;
use crate::host::{Disk, GpuProcess, GpuReading, fake};
use longshore_common::{
    ids::{AttemptRef, Epoch, JobId},
    job::resources::{GIB, MIB},
};

const SECOND: Duration = Duration::from_secs(1);

fn machine() -> (Facts, Reading) {
    let facts = Facts { cpu_millis: 8000, memory_bytes: 32 * GIB, ..Facts::default() };
    let reading = Reading {
        memory_available_bytes: 32 * GIB,
        disk: Disk { free_bytes: 500 * GIB, total_bytes: 500 * GIB },
        ..Reading::default()
    };
    (facts, reading)
}

fn total() -> Capacity {
    Capacity { cpu_millis: 8000, memory_bytes: 32 * GIB, scratch_bytes: 500 * GIB, gpus: 0 }
}

/// Others' use after `seconds` of the same reading, our attempt growing by `our_millis`.
fn after(seconds: u32, reading: &Reading, our_millis: u64) -> Foreign {
    let (facts, _) = machine();
    let (mut meter, start) = (Meter::new(&Config::default()), Instant::now());
    let attempt = AttemptRef { job: JobId::new(), number: 1, epoch: Epoch(1) };
    let mut foreign = Foreign::default();
    for second in 0..=seconds {
        let spent = u64::from(second) * our_millis * 1000;
        let ours = Ours { cpu_micros: [(attempt, spent)].into(), ..Ours::default() };
        foreign = meter.observe(start + second * SECOND, &facts, reading, &ours);
    }
    foreign
}

#[test]
fn an_idle_machine_offers_all_that_is_allocatable() {
    let (_, reading) = machine();
    assert_eq!(after(60, &reading, 0), Foreign::default());
    assert_eq!(free(&total(), &total(), &Capacity::default(), &Foreign::default()), total());
}

#[test]
fn a_short_burst_of_others_does_not_count_and_a_long_one_does() {
    let (_, mut reading) = machine();
    reading.cpu_busy_millis = 6000;
    assert_eq!(after(2, &reading, 0).cpu_millis, 0, "2 s of 30 are 400 thousandths");
    let counted = after(60, &reading, 0).cpu_millis;
    assert!((5500..=6000).contains(&counted), "{counted}");
}

#[test]
fn our_own_containers_and_the_agent_itself_are_not_others() {
    let (_, mut reading) = machine();
    (reading.cpu_busy_millis, reading.agent_cpu_millis) = (6000, 1000);
    assert_eq!(after(60, &reading, 5000).cpu_millis, 0);
    let counted = after(60, &reading, 2000).cpu_millis;
    assert!((2500..=3000).contains(&counted), "{counted}");
}

#[test]
fn memory_of_others_is_what_neither_is_free_nor_ours() {
    let (facts, mut reading) = machine();
    reading.memory_available_bytes = 10 * GIB;
    let ours = Ours { memory_bytes: 12 * GIB, ..Ours::default() };
    let foreign = Meter::new(&Config::default()).observe(Instant::now(), &facts, &reading, &ours);
    assert_eq!(foreign.memory_bytes, 10 * GIB);
}

#[test]
fn small_changes_do_not_flutter() {
    let (facts, mut reading) = machine();
    let mut meter = Meter::new(&Config::default());
    let mut at = |available: u64| {
        reading.memory_available_bytes = available;
        meter.observe(Instant::now(), &facts, &reading, &Ours::default()).memory_bytes
    };
    assert_eq!(at(30 * GIB), 2 * GIB);
    assert_eq!(at(30 * GIB - 200 * MIB), 2 * GIB);
    assert_eq!(at(29 * GIB), 3 * GIB);
    assert_eq!(at(29 * GIB + 200 * MIB), 3 * GIB);
    assert_eq!(at(32 * GIB), 0);
}

#[test]
fn an_operator_may_say_that_others_do_not_count() {
    let (facts, mut reading) = machine();
    reading.memory_available_bytes = GIB;
    let config = Config { count: false, ..Config::default() };
    let foreign = Meter::new(&config).observe(Instant::now(), &facts, &reading, &Ours::default());
    assert_eq!(foreign, Foreign::default());
}

#[test]
fn others_take_first_from_what_is_kept_from_jobs() {
    let allocatable = Capacity { memory_bytes: 24 * GIB, ..total() };
    let granted = Capacity { memory_bytes: 4 * GIB, ..Capacity::default() };
    let left = |foreign: u64| {
        let foreign = Foreign { memory_bytes: foreign, ..Foreign::default() };
        free(&total(), &allocatable, &granted, &foreign).memory_bytes
    };
    assert_eq!(left(8 * GIB), 20 * GIB);
    assert_eq!(left(10 * GIB), 18 * GIB);
    assert_eq!(left(40 * GIB), 0);
}

#[test]
fn a_full_machine_says_why() {
    let foreign = Foreign { memory_bytes: 28 * GIB, cpu_millis: 900, ..Foreign::default() };
    let free = Capacity { memory_bytes: 0, ..total() };
    assert_eq!(note(&free, &foreign).as_deref(), Some("others use 28.0 GiB of memory"));
    assert_eq!(note(&total(), &foreign), None);
}

/// What is said of a GPU with these processes, seen once.
fn judged(processes: Vec<GpuProcess>, granted: bool) -> Option<String> {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    reading.processes = processes;
    let granted = granted.then(|| (reading.gpu.uuid.clone(), "k3m9q2xw".to_owned())).into_iter().collect();
    let mut watch = GpuWatch::new(Config::default());
    watch.know(nameless(&reading));
    watch.observe(Instant::now(), &[reading], &granted).remove(0).busy
}

/// A container has it that no process names.
fn nameless(reading: &GpuReading) -> BTreeMap<String, Containers> {
    let played = Containers { coming: false, nameless: true, ..Containers::default() };
    [(reading.gpu.uuid.clone(), played)].into()
}

fn process(memory_bytes: u64) -> GpuProcess {
    GpuProcess {
        pid: 4711,
        name: "python".into(),
        user: "anna".into(),
        memory_bytes,
        ..GpuProcess::default()
    }
}

#[test]
fn a_stranger_makes_a_gpu_busy_and_is_named() {
    let busy = judged(vec![process(22 * GIB)], false);
    assert_eq!(busy.as_deref(), Some("python of anna (pid 4711) holds 22 GiB"));
    assert_eq!(judged(vec![process(512 * MIB)], false), None);
    assert!(judged(vec![process(300 * MIB), process(300 * MIB)], false).is_some());
}

#[test]
fn displays_and_daemons_do_not_make_a_gpu_busy() {
    let display = GpuProcess { graphics: true, ..process(2 * GIB) };
    let daemon = GpuProcess { name: "nv-hostengine".into(), ..process(2 * GIB) };
    assert_eq!(judged(vec![display, daemon], false), None);
}

#[test]
fn on_a_granted_gpu_the_jobs_own_process_is_no_stranger() {
    let own = GpuProcess { container: Some("4f2c".into()), ..process(20 * GIB) };
    assert_eq!(judged(vec![own.clone()], true), None);
    assert!(judged(vec![own], false).is_some(), "a container on a GPU nobody granted is foreign");
    assert!(judged(vec![process(20 * GIB)], true).is_some());
}

#[test]
fn memory_that_a_job_leaves_behind_keeps_its_gpu_reserved_until_it_is_free() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    let granted: BTreeMap<_, _> = [(reading.gpu.uuid.clone(), "k3m9q2xw".to_owned())].into();
    let mut watch = GpuWatch::new(Config { count: false, ..Config::default() });
    watch.know(nameless(&reading));
    let mut at = |reading: &GpuReading, granted: &BTreeMap<String, String>| {
        let gpus = watch.observe(Instant::now(), std::slice::from_ref(reading), granted);
        (gpus[0].busy.clone(), watch.leftovers().len())
    };
    let daemon = GpuProcess { pid: 1, container: Some("aa".into()), ..process(100 * MIB) };
    reading.processes = vec![daemon.clone()];
    assert_eq!(at(&reading, &BTreeMap::new()), (None, 0));
    reading.processes.push(GpuProcess { container: Some("4f2c".into()), ..process(20 * GIB) });
    assert_eq!(at(&reading, &granted), (None, 0));
    // Its container is gone with its cgroup, and there it is still, whatever little it holds.
    reading.processes = vec![daemon.clone(), process(MIB)];
    let reserved = "reserved: k3m9q2xw is over and python of anna (pid 4711) holds 1 MiB on GPU 0";
    assert_eq!(at(&reading, &BTreeMap::new()), (Some(reserved.to_owned()), 1));
    // The process is gone, its memory is not.
    reading.processes = vec![daemon];
    reading.gpu.memory_free_bytes = 4 * GIB;
    let (busy, told) = at(&reading, &BTreeMap::new());
    assert!(busy.is_some_and(|busy| busy.contains("k3m9q2xw") && busy.contains("20 GiB")) && told == 1);
    reading.gpu.memory_free_bytes = 24 * GIB;
    assert_eq!(at(&reading, &BTreeMap::new()), (None, 0), "the daemon was there before");
}

#[test]
fn memory_that_no_listed_process_holds_makes_a_gpu_busy() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    let busy = |reading: &GpuReading| {
        let mut watch = GpuWatch::new(Config::default());
        watch.observe(Instant::now(), std::slice::from_ref(reading), &BTreeMap::new()).remove(0).busy
    };
    reading.gpu.memory_free_bytes = 2 * GIB;
    let nobody = "22 GiB are held by no process that the driver lists with its memory";
    assert_eq!(busy(&reading).as_deref(), Some(nobody));
    // A driver that does not say how much each of them holds.
    reading.processes = vec![process(0)];
    assert_eq!(busy(&reading), Some(format!("{nobody}; python of anna (pid 4711) is on it")));
    reading.processes.clear();
    // What the driver keeps for itself, and what small contexts hold, is nobody's.
    (reading.gpu.memory_free_bytes, reading.reserved_bytes) = (23 * GIB, 800 * MIB);
    assert_eq!(busy(&reading), None);
    // What is listed is not counted twice: a screen's memory, and a stranger's.
    reading.gpu.memory_free_bytes = 20 * GIB;
    reading.processes = vec![GpuProcess { graphics: true, ..process(3 * GIB) }];
    assert_eq!(busy(&reading), None);
    reading.processes = vec![process(3 * GIB)];
    assert_eq!(busy(&reading).as_deref(), Some("python of anna (pid 4711) holds 3 GiB"));
}

#[test]
fn a_strangers_process_that_ran_before_the_jobs_container_is_not_left_by_the_job() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    let (uuid, job) = (reading.gpu.uuid.clone(), "k3m9q2xw".to_owned());
    let granted: BTreeMap<_, _> = [(uuid.clone(), job)].into();
    let mut watch = GpuWatch::new(Config::default());
    watch.observe(Instant::now(), std::slice::from_ref(&reading), &BTreeMap::new());
    // Anna's container comes while the image of the job is pulled.
    reading.processes = vec![GpuProcess { container: Some("aa".into()), ..process(20 * GIB) }];
    watch.observe(Instant::now(), std::slice::from_ref(&reading), &granted);
    assert_eq!(watch.strangers(), [], "it may be the job's own");
    let own = Containers { known: ["bb".to_owned()].into(), coming: false, nameless: false };
    watch.know([(uuid, own)].into());
    watch.observe(Instant::now(), std::slice::from_ref(&reading), &granted);
    assert_eq!(watch.strangers().len(), 1, "it is not");
    let busy = watch.observe(Instant::now(), &[reading], &BTreeMap::new()).remove(0).busy;
    assert_eq!(busy.as_deref(), Some("python of anna (pid 4711) holds 20 GiB"), "and stays hers");
}

#[test]
fn a_gpu_with_a_fault_is_set_aside() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    reading.fault = Some("it has fallen off the bus".into());
    let config = Config { count: false, ..Config::default() };
    let gpus = GpuWatch::new(config).observe(Instant::now(), &[reading], &BTreeMap::new());
    assert_eq!(gpus[0].busy.as_deref(), Some("set aside: it has fallen off the bus"));
}

#[test]
fn hidden_utilisation_makes_a_gpu_busy_until_it_ends() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    let (mut watch, start) = (GpuWatch::new(Config::default()), Instant::now());
    let mut at = |second: u32, percent: u32| {
        reading.gpu.utilisation_percent = percent;
        let readings = std::slice::from_ref(&reading);
        watch.observe(start + second * SECOND, readings, &BTreeMap::new()).remove(0).busy
    };
    assert!((0..60).all(|second| at(second, 4).is_none()));
    assert!((60..90).any(|second| at(second, 50).is_some()));
    assert!((90..130).map(|second| at(second, 0)).last().is_some_and(|busy| busy.is_none()));
}

#[test]
fn a_gpu_is_free_as_soon_as_our_own_job_has_left() {
    let mut reading = fake::gpu(0, "NVIDIA L4", 24 * GIB);
    reading.gpu.utilisation_percent = 100;
    let granted: BTreeMap<_, _> = [(reading.gpu.uuid.clone(), "k3m9q2xw".to_owned())].into();
    let (mut watch, start) = (GpuWatch::new(Config::default()), Instant::now());
    for second in 0..60 {
        let gpus = watch.observe(start + second * SECOND, std::slice::from_ref(&reading), &granted);
        assert_eq!((gpus[0].job.as_deref(), &gpus[0].busy), (Some("k3m9q2xw"), &None));
    }
    // NVML's mean still shows the job for a second.
    let gpus = watch.observe(start + 60 * SECOND, std::slice::from_ref(&reading), &BTreeMap::new());
    assert_eq!((&gpus[0].job, &gpus[0].busy), (&None, &None));
    reading.gpu.utilisation_percent = 0;
    let gpus = watch.observe(start + 62 * SECOND, &[reading], &BTreeMap::new());
    assert_eq!(gpus[0].busy, None);
}
