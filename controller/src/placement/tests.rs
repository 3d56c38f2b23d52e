use super::*;
use longshore_common::{
    agent::{Capacity, Gpu, Inventory},
    job::{
        GpuRequest, Input, SHARE_READ_ONLY, SHARE_WRITABLE, ShareInput, resources::GIB, share_label,
        share_value,
    },
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn gpu(index: u32, model: &str, gib: u64) -> Gpu {
    Gpu {
        index,
        uuid: format!("GPU-{index}"),
        model: model.into(),
        memory_bytes: gib * GIB,
        ..Gpu::default()
    }
}

fn machine(cpu: u32, gib: u64, gpus: Vec<Gpu>) -> Machine {
    let count = u32::try_from(gpus.len()).expect("few");
    let free = Capacity { cpu_millis: cpu, memory_bytes: gib * GIB, scratch_bytes: 1000 * GIB, gpus: count };
    let whole = Whole { allocatable: free, gpus: gpus.clone() };
    Machine {
        pool: "default".into(),
        labels: BTreeMap::from([("arch".into(), "amd64".into()), ("site".into(), "bern".into())]),
        free,
        gpus,
        slots: 100,
        whole: Some(whole),
        ..Machine::default()
    }
}

fn job(cpu: u32, gib: u64, gpu: Option<(u32, u64, Option<&str>)>) -> JobSpec {
    let mut spec = JobSpec::for_image("x");
    spec.resources.cpu_millis = cpu;
    spec.resources.memory_bytes = gib * GIB;
    spec.resources.gpu = gpu.map(|(count, gib, model)| GpuRequest {
        memory_bytes: gib * GIB,
        model: model.into_iter().map(str::to_owned).collect(),
        ..GpuRequest::of(count)
    });
    spec
}

/// What one round of placing came to: indices with GPUs, and with reasons.
struct Placement {
    grants: Vec<(usize, Vec<String>)>,
    refused: Vec<(usize, Reason)>,
}

fn round(machine: &Machine) -> Round {
    let now = Timestamp::from_micros(0);
    Round {
        machine: machine.clone(),
        tenants: Tenants::default(),
        kept: None,
        locality: Locality::default(),
        now,
    }
}

fn place(jobs: &[JobSpec], machine: &mut Machine) -> Placement {
    let mut round = round(machine);
    let mut placement = Placement { grants: Vec::new(), refused: Vec::new() };
    for (index, spec) in jobs.iter().enumerate() {
        let candidate =
            Candidate { id: JobId::new(), project: "default", spec, queued_at: Timestamp::from_micros(0) };
        match round.judge(&candidate) {
            Ok(gpus) => {
                round.take(&candidate, &gpus);
                placement.grants.push((index, gpus));
            }
            Err(reason) => placement.refused.push((index, reason)),
        }
    }
    *machine = round.machine;
    placement
}

#[test]
fn a_job_runs_where_its_share_is() {
    let mut spec = job(1, 1, None);
    let mut machine = machine(8, 8, Vec::new());
    let mut ask = |writable| {
        let share = ShareInput { share: "data".into(), path: String::new(), writable };
        spec.inputs.insert("scans".into(), Input::Share(share));
        spec.clone()
    };
    let (reads, writes) = (ask(false), ask(true));
    assert_eq!(why(&reads, &machine), ("has no share `data`".into(), true));
    // The agent refused such a job, and the next one, though another machine would have done.
    machine.labels.insert(share_label("data"), share_value(true, &["lab".into(), "bern".into()]));
    let judge = |project: &str| {
        round(&machine)
            .judge(&Candidate {
                id: JobId::new(),
                project,
                spec: &writes,
                queued_at: Timestamp::from_micros(0),
            })
            .map_err(|why| why.text)
    };
    assert_eq!(judge("lab"), Ok(Vec::new()));
    assert_eq!(judge("default"), Err("has the share `data`, but not for project `default`".into()));
    machine.labels.insert(share_label("data"), SHARE_READ_ONLY.into());
    assert_eq!(fit(&reads, &machine), Ok(Vec::new()));
    assert_eq!(why(&writes, &machine), ("has the share `data` read-only".into(), true));
    machine.labels.insert(share_label("data"), SHARE_WRITABLE.into());
    assert_eq!(fit(&writes, &machine), Ok(Vec::new()));
}

fn why(spec: &JobSpec, machine: &Machine) -> (String, bool) {
    let reason = explain(spec, machine).expect("does not fit");
    (reason.text, reason.permanent)
}

#[test]
fn several_are_placed_at_once_and_the_large_one_is_passed_over() {
    let jobs = [job(1000, 1, None), job(8000, 1, None), job(2000, 1, None), job(2000, 1, None)];
    let mut machine = machine(4000, 64, vec![]);
    let placement = place(&jobs, &mut machine);
    assert_eq!(placement.grants.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(machine.free.cpu_millis, 1000);
    assert_eq!(placement.refused[0].1, Reason { text: "needs 8 cpu, has 4".into(), permanent: true });
    assert_eq!(placement.refused[1].1, Reason { text: "needs 2 cpu, 1 free".into(), permanent: false });
}

#[test]
fn the_tightest_gpu_is_taken_first() {
    let gpus = vec![gpu(0, "NVIDIA A100 80GB PCIe", 80), gpu(1, "NVIDIA A10", 24), gpu(2, "NVIDIA A40", 48)];
    let mut machine = machine(64_000, 512, gpus);
    let jobs =
        [job(1, 1, Some((1, 20, None))), job(1, 1, Some((1, 20, None))), job(1, 1, Some((1, 0, None)))];
    let placement = place(&jobs, &mut machine);
    let got: Vec<_> = placement.grants.iter().map(|(_, gpus)| gpus[0].as_str()).collect();
    assert_eq!(got, ["GPU-1", "GPU-2", "GPU-0"]);
}

#[test]
fn a_model_is_named_by_any_word_in_any_case() {
    let machine = machine(64_000, 512, vec![gpu(0, "NVIDIA A100-SXM4-80GB", 80)]);
    for good in ["A100*", "a100*", "NVIDIA A100*", "*A100*", "nvidia*"] {
        assert_eq!(explain(&job(1, 1, Some((1, 0, Some(good)))), &machine), None, "{good}");
    }
    for bad in ["A100", "100*", "H100*", "A10", "[", ""] {
        assert!(explain(&job(1, 1, Some((1, 0, Some(bad)))), &machine).is_some(), "{bad}");
    }
}

#[test]
fn reasons_say_what_is_missing_and_whether_waiting_helps() {
    let mut shared = machine(8000, 64, vec![gpu(0, "NVIDIA A10", 24), gpu(1, "NVIDIA A10", 24)]);
    assert_eq!(why(&job(1, 128, None), &shared), ("needs 128 GiB memory, has 64 GiB".into(), true));
    assert_eq!(why(&job(1, 1, Some((3, 0, None))), &shared), ("needs 3 GPUs, has 2".into(), true));
    assert_eq!(
        why(&job(1, 1, Some((1, 40, None))), &shared),
        ("needs 1 GPU with 40 GiB, has 0 such of 2".into(), true)
    );
    let whole = shared.whole.as_mut().expect("set");
    whole.gpus[1].busy = Some("python of anna (pid 4711) holds 22 GiB".into());
    shared.gpus.truncate(1);
    assert_eq!(
        why(&job(1, 1, Some((2, 0, None))), &shared),
        ("needs 2 GPUs, 1 free; GPU 1: python of anna (pid 4711) holds 22 GiB".into(), false)
    );
    shared.note = "disk nearly full".into();
    assert_eq!(why(&job(1, 1, None), &shared), ("disk nearly full".into(), false));
}

#[test]
fn selector_and_pool_are_matched_and_arch_is_built_in() {
    let inventory = Inventory { arch: "arm64".into(), ..Inventory::default() };
    let described =
        Machine::described(("default", &BTreeMap::new()), &inventory, (Capacity::default(), &[], None), "");
    assert_eq!(described.labels["arch"], "arm64");
    let machine = machine(8000, 64, vec![]);
    let mut spec = job(1, 1, None);
    spec.agents = BTreeMap::from([("site".into(), vec!["zurich".into(), "bern".into()])]);
    assert_eq!(explain(&spec, &machine), None);
    spec.agents.insert("arch".into(), vec!["arm64".into()]);
    assert_eq!(why(&spec, &machine), ("wants arch=arm64, has arch=amd64".into(), true));
    spec.agents = BTreeMap::from([("rack".into(), vec!["4".into()])]);
    assert_eq!(why(&spec, &machine), ("wants rack=4, has no label rack".into(), true));
    spec.pool = "night".into();
    assert_eq!(why(&spec, &machine), ("is in pool `default`, not `night`".into(), true));
}

#[test]
fn slots_bound_the_grants() {
    let mut machine = Machine { slots: 2, ..machine(64_000, 512, vec![]) };
    let jobs = vec![job(1, 1, None); 5];
    assert_eq!(place(&jobs, &mut machine).grants.len(), 2);
}

/// 8 GPUs: two NVLink groups of four, each on a NUMA node of its own.
fn pod() -> Machine {
    let gpus = (0..8).map(|index| Gpu {
        nvlink: Some(index / 4),
        numa: Some(index / 4),
        capability: Some((8, 0)),
        ..gpu(index, "NVIDIA A100-SXM4-80GB", 80)
    });
    Machine {
        driver: "535.104.05".parse().ok(),
        cuda: "12.2".parse().ok(),
        ..machine(64_000, 512, gpus.collect())
    }
}

fn gpus(change: impl FnOnce(&mut GpuRequest)) -> JobSpec {
    let mut spec = job(1000, 1, Some((1, 0, None)));
    change(spec.resources.gpu.as_mut().expect("asked for"));
    spec
}

#[test]
fn gpus_that_belong_together_are_given_together() {
    let mut pod = pod();
    let got = |placement: Placement| {
        placement.grants.into_iter().map(|(_, gpus)| gpus.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(got(place(&[gpus(|_| {})], &mut pod)), ["GPU-0"]);
    assert_eq!(got(place(&[gpus(|gpu| gpu.count = 4)], &mut pod)), ["GPU-4 GPU-5 GPU-6 GPU-7"]);
    let joined = |count| gpus(|gpu| (gpu.count, gpu.nvlink) = (count, true));
    assert_eq!(why(&joined(4), &pod).0.split(';').next(), Some("needs 4 GPUs, joined by NVLink, 3 free"));
    assert_eq!(why(&joined(8), &pod).0, "needs 8 GPUs, joined by NVLink, has 4 such in one group at most");
    assert!(why(&joined(8), &pod).1);
    assert_eq!(got(place(&[joined(2), gpus(|_| {})], &mut pod)), ["GPU-1 GPU-2", "GPU-3"]);
}

#[test]
fn a_single_gpu_comes_out_of_the_group_that_is_broken_already() {
    let mut pod = pod();
    pod.gpus.retain(|gpu| gpu.index != 6);
    assert_eq!(place(&[gpus(|_| {})], &mut pod).grants[0].1, ["GPU-4"]);
}

#[test]
fn models_and_versions_are_kept_to() {
    let pod = pod();
    let fits = |change: fn(&mut GpuRequest)| explain(&gpus(change), &pod);
    assert_eq!(fits(|gpu| gpu.model = vec!["H100*".into(), "A100*".into(), "!*PCIe*".into()]), None);
    assert!(fits(|gpu| gpu.model = vec!["!*SXM*".into()]).is_some());
    assert_eq!(fits(|gpu| gpu.capability = "8.0".parse().ok()), None);
    assert_eq!(fits(|gpu| gpu.capability = "9.0".parse().ok()).map(|reason| reason.permanent), Some(true));
    assert_eq!(fits(|gpu| (gpu.driver, gpu.cuda) = ("535".parse().ok(), "12.2".parse().ok())), None);
    let reason = fits(|gpu| gpu.cuda = "12.4".parse().ok()).expect("too old");
    assert_eq!((reason.text.as_str(), reason.permanent), ("needs CUDA 12.4, has 12.2", true));
    assert_eq!(fits(|gpu| gpu.mig = Some("1g.10gb".into())).map(|reason| reason.permanent), Some(true));
}

#[test]
fn instances_go_by_profile_and_their_gpu_is_nobodys() {
    let part = |index: u32, profile: &str| Gpu {
        mig: Some(profile.into()),
        parent: Some("GPU-0".into()),
        ..gpu(index, "NVIDIA A100", 10)
    };
    let all = vec![gpu(0, "NVIDIA A100", 80), part(1, "1g.10gb"), part(2, "2g.20gb")];
    let inventory = Inventory { allocatable: machine(64_000, 512, vec![]).free, ..Inventory::default() };
    let free = Capacity { gpus: 2, ..inventory.allocatable };
    let mut split = Machine::described(("default", &BTreeMap::new()), &inventory, (free, &all, None), "");
    assert_eq!(why(&gpus(|_| {}), &split).0, "needs 1 GPU, has 0 such of 2");
    let mig = |profile: &str| gpus(|gpu| gpu.mig = Some(profile.into()));
    assert_eq!(place(&[mig("2g.20gb"), mig("1g.10gb")], &mut split).grants.len(), 2);
}

#[test]
fn what_shared_jobs_leave_of_a_gpu_is_there_for_the_next_claim() {
    let part = |gib: u64| {
        let mut spec = job(1000, 1, Some((1, gib, None)));
        spec.resources.gpu.as_mut().expect("asked for").shared = true;
        spec
    };
    let hold = |gib: u64, index: u32| Hold {
        job: "k3m9q2xw".parse().expect("an id"),
        project: "default".into(),
        load: Load::of(&part(gib)),
        gpus: vec![format!("GPU-{index}")],
        until: Timestamp::from_micros(0),
        exited: false,
        listed: true,
    };
    let known = [gpu(0, "NVIDIA A10", 24), gpu(1, "NVIDIA A10", 24)];
    // Nothing is free: one GPU is shared, the other is somebody's alone.
    let alone = Hold { load: Load::of(&job(1000, 1, Some((1, 0, None)))), ..hold(0, 1) };
    let bare = machine(8000, 64, Vec::new());
    let shared = Machine { whole: None, ..bare }.sharing(&known, &[hold(16, 0), alone]);
    assert_eq!(
        shared.shared_free.iter().map(|(gpu, left)| (gpu.index, *left)).collect::<Vec<_>>(),
        [(0, 8 * GIB)]
    );
    assert_eq!(fit(&part(8), &shared), Ok(vec!["GPU-0".to_owned()]));
    assert!(fit(&part(9), &shared).is_err() && fit(&job(1000, 1, Some((1, 0, None))), &shared).is_err());
    // A sick one is nobody's, and one whose only job has ended is free again.
    let sick = [Gpu { health: Some("Xid 79".into()), ..known[0].clone() }];
    assert!(shared.clone().sharing(&sick, &[hold(16, 0)]).shared_free.is_empty());
    let over = Hold { exited: true, ..hold(16, 0) };
    assert!(shared.sharing(&known, &[over]).shared_free.is_empty());
}

#[test]
fn shared_jobs_are_packed_and_whole_ones_keep_away_from_them() {
    let mut two = machine(64_000, 512, vec![gpu(0, "NVIDIA A10", 24), gpu(1, "NVIDIA A10", 24)]);
    let part = |gib: u64| gpus(|gpu| (gpu.shared, gpu.memory_bytes) = (true, gib * GIB));
    let jobs = [part(10), part(10), gpus(|_| {}), part(4), gpus(|_| {}), part(1)];
    let placement = place(&jobs, &mut two);
    let got: Vec<_> = placement.grants.iter().map(|(index, gpus)| (*index, gpus[0].as_str())).collect();
    assert_eq!(got, [(0, "GPU-0"), (1, "GPU-0"), (2, "GPU-1"), (3, "GPU-0")]);
    assert_eq!((two.free.gpus, two.shared_free[0].1), (0, 0));
}

#[test]
fn a_job_that_wants_a_machine_alone_waits_for_the_others_and_keeps_them_out() {
    let mut alone = job(1000, 1, None);
    alone.resources.exclusive = true;
    let mut machine = machine(8000, 64, vec![]);
    machine.jobs = 2;
    assert_eq!(why(&alone, &machine).0, "wants the machine to itself, 2 jobs run on it");
    machine.jobs = 0;
    let placement = place(&[alone, job(1, 1, None)], &mut machine);
    assert_eq!(
        (placement.grants.len(), placement.refused[0].1.text.as_str()),
        (1, "a job has the machine to itself")
    );
}

fn hold(gpus: &[&str], spec: &JobSpec, until: i64) -> Hold {
    Hold {
        job: longshore_common::ids::ShortId::random(),
        project: "default".into(),
        load: Load::of(spec),
        gpus: gpus.iter().map(|&uuid| uuid.to_owned()).collect(),
        until: Timestamp::from_micros(until * 1_000_000),
        exited: false,
        listed: true,
    }
}

#[test]
fn a_machine_kept_for_a_large_job_takes_what_ends_before_it_or_leaves_its_place() {
    let mut pod = pod();
    let known = pod.gpus.clone();
    let one = |minutes: u64| {
        let mut spec = gpus(|_| {});
        spec.deadlines.run = std::time::Duration::from_secs(minutes * 60);
        spec.deadlines.prepare = std::time::Duration::from_secs(60);
        spec
    };
    pod.gpus.retain(|gpu| gpu.index >= 2);
    pod.free.gpus = 6;
    pod.jobs = 2;
    let holds = [hold(&["GPU-0"], &one(60), 3600), hold(&["GPU-1"], &one(60), 7200)];
    let large = std::sync::Arc::new(gpus(|gpu| gpu.count = 8));
    let (id, now) = (JobId::new(), Timestamp::from_micros(0));
    let kept = Kept::new((id, std::sync::Arc::clone(&large)), &pod, (&holds, &known), now);
    assert_eq!(kept.at(), Some(Timestamp::from_micros(7_200_000_000)));
    let round = Round {
        machine: pod.clone(),
        tenants: Tenants::default(),
        kept: Some(kept),
        locality: Locality::default(),
        now,
    };
    let judge = |spec: &JobSpec| {
        round.judge(&Candidate {
            id: JobId::new(),
            project: "default",
            spec,
            queued_at: Timestamp::from_micros(0),
        })
    };
    assert!(judge(&one(100)).is_ok(), "over before then");
    assert!(judge(&one(600)).expect_err("in its way").text.starts_with("is kept for a job"));
    assert!(judge(&JobSpec { priority: 1, ..one(600) }).is_ok(), "more urgent");
    assert!(judge(&job(1000, 1, None)).is_ok(), "no GPU, so not in its way");
    let seven = std::sync::Arc::new(gpus(|gpu| gpu.count = 7));
    let holds = [hold(&["GPU-0"], &one(60), 3600), hold(&["GPU-1"], &one(60), 3600)];
    let kept = Some(Kept::new((id, seven), &pod, (&holds, &known), now));
    let mut round = Round { kept, ..round };
    let (first, second) = (one(600), one(600));
    let first = Candidate { id: JobId::new(), project: "default", spec: &first, queued_at: now };
    let gpus = round.judge(&first).expect("the eighth is nobody's");
    round.take(&first, &gpus);
    let second = Candidate { id: JobId::new(), project: "default", spec: &second, queued_at: now };
    assert!(round.judge(&second).is_err(), "the seventh is somebody's");
}

#[test]
fn what_can_never_be_is_told_with_what_to_ask_for() {
    let pod = pod();
    let told = |change: fn(&mut GpuRequest)| changes(&gpus(change), &pod);
    assert_eq!(told(|_| {}), Vec::<String>::new());
    assert_eq!(told(|gpu| gpu.count = 9), ["resources.gpu.count: 8 at most"]);
    assert_eq!(told(|gpu| gpu.memory_bytes = 96 * GIB), ["resources.gpu.memory: 80 GiB at most"]);
    assert_eq!(
        told(|gpu| gpu.model = vec!["H100*".into()]),
        ["resources.gpu.model: one of NVIDIA A100-SXM4-80GB"]
    );
    assert_eq!(told(|gpu| (gpu.count, gpu.nvlink) = (8, true)), ["resources.gpu.nvlink: leave it out"]);
    let mut spec = job(100_000, 1024, None);
    spec.pool = "night".into();
    let all = ["pool: default", "resources.cpu: 64 at most", "resources.memory: 512 GiB at most"];
    assert_eq!(changes(&spec, &pod), all);
}

proptest! {
    #[test]
    fn nothing_is_given_twice_or_beyond_what_is_free(
        jobs in proptest::collection::vec((0..5000_u32, 0..20_u64, proptest::option::of((1..3_u32, 0..60_u64))), 0..30),
        cpu in 0..20_000_u32, gib in 0..100_u64, gpus in proptest::collection::vec(0..100_u64, 0..6),
    ) {
        let jobs: Vec<_> = jobs.into_iter()
            .map(|(cpu, gib, gpu)| job(cpu, gib, gpu.map(|(count, gib)| (count, gib, None)))).collect();
        let gpus = (0..).zip(gpus).map(|(index, gib)| gpu(index, "NVIDIA A10", gib)).collect();
        let whole = machine(cpu, gib, gpus);
        let mut machine = Machine { whole: None, ..whole.clone() };
        let placement = place(&jobs, &mut machine);
        let granted = || placement.grants.iter().map(|(index, _)| &jobs[*index].resources);
        prop_assert!(granted().map(|r| u64::from(r.cpu_millis)).sum::<u64>() <= u64::from(cpu));
        prop_assert!(granted().map(|r| r.memory_bytes).sum::<u64>() <= gib * GIB);
        let mut uuids: Vec<_> = placement.grants.iter().flat_map(|(_, gpus)| gpus).collect();
        let count = uuids.len();
        uuids.sort();
        uuids.dedup();
        prop_assert_eq!(uuids.len(), count);
        for (index, gpus) in &placement.grants {
            prop_assert_eq!(gpus.len(), jobs[*index].resources.gpu_count() as usize);
        }
        prop_assert_eq!(placement.grants.len() + placement.refused.len(), jobs.len());
        // Claim and explain agree on an untouched machine.
        for (index, _) in placement.grants.iter().take(1) {
            prop_assert_eq!(explain(&jobs[*index], &whole), None);
        }
    }
}
