use super::*;
use longshore_common::{
    agent::{Capacity, Gpu, Inventory},
    job::{GpuRequest, resources::GIB},
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
    let whole = fit::Whole { allocatable: free, gpus: gpus.clone() };
    Machine {
        pool: "default".into(),
        labels: BTreeMap::from([("arch".into(), "amd64".into()), ("site".into(), "bern".into())]),
        free,
        gpus,
        slots: 100,
        whole: Some(whole),
        note: String::new(),
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

fn why(spec: &JobSpec, machine: &Machine) -> (String, bool) {
    let reason = explain(spec, machine).expect("does not fit");
    (reason.text, reason.permanent)
}

#[test]
fn several_are_placed_at_once_and_the_large_one_is_passed_over() {
    let jobs = [job(1000, 1, None), job(8000, 1, None), job(2000, 1, None), job(2000, 1, None)];
    let mut machine = machine(4000, 64, vec![]);
    let placement = place(jobs.iter().map(|job| ("default", job)), &mut machine, &mut Tenants::default());
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
    let placement = place(jobs.iter().map(|job| ("default", job)), &mut machine, &mut Tenants::default());
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
        Machine::described(("default", &BTreeMap::new()), &inventory, Capacity::default(), &[], "");
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
    assert_eq!(
        place(jobs.iter().map(|job| ("default", job)), &mut machine, &mut Tenants::default()).grants.len(),
        2
    );
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
        let placement = place(jobs.iter().map(|job| ("default", job)), &mut machine, &mut Tenants::default());
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
