use super::*;
use longshore_agent::host::{GpuProcess, MemoryErrors};
use longshore_common::agent::Gpu;

/// As a driver of the 550 series writes it, shortened.
const RECORDED: &str = include_str!("nvidia-smi.xml");
const MIB: u64 = 1 << 20;

fn facts() -> Facts {
    Facts { driver: Some("550.54.15".into()), cuda: Some("12.4".into()), ..Facts::default() }
}

fn ours() -> Vec<GpuReading> {
    let whole = Gpu {
        uuid: "GPU-11111111-0000-4000-8000-000000000001".into(),
        model: "NVIDIA A100-SXM4-80GB".into(),
        memory_bytes: 81_920 * MIB,
        memory_free_bytes: 58_000 * MIB,
        utilisation_percent: 91,
        pci: "00000000:07:00.0".into(),
        ecc: Some(true),
        temperature_c: Some(62),
        power_watts: Some(318),
        power_limit_watts: Some(400),
        ..Gpu::default()
    };
    let train = GpuProcess { pid: 4711, memory_bytes: 22_528 * MIB, ..GpuProcess::default() };
    let part = Gpu {
        index: 1,
        uuid: "MIG-1".into(),
        parent: Some("GPU-22222222-0000-4000-8000-000000000002".into()),
        mig: Some("1g.10gb".into()),
        pci: "00000000:0F:00.0".into(),
        temperature_c: Some(30),
        power_watts: Some(60),
        throttled: vec!["thermal".into()],
        ..whole.clone()
    };
    vec![
        GpuReading {
            gpu: whole,
            processes: vec![train],
            tells_utilisation: true,
            memory_errors: MemoryErrors::NONE,
            ..GpuReading::default()
        },
        GpuReading {
            gpu: part.clone(),
            memory_errors: MemoryErrors {
                uncorrected: Some(2),
                needs_reset: Some(true),
                worn_out: Some(false),
            },
            ..GpuReading::default()
        },
        GpuReading {
            gpu: Gpu { uuid: "MIG-2".into(), ..part },
            memory_errors: MemoryErrors {
                uncorrected: Some(2),
                needs_reset: Some(true),
                worn_out: Some(false),
            },
            ..GpuReading::default()
        },
    ]
}

fn differing(ours: &[GpuReading]) -> Vec<&'static str> {
    let rows = compare(&facts(), ours, RECORDED).expect("it can be read");
    assert!(rows.len() > 10, "{rows:#?}");
    rows.iter().filter(|row| !row.agrees).map(|row| row.field).collect()
}

#[test]
fn what_both_say_alike_agrees() {
    assert_eq!(differing(&ours()), [""; 0]);
}

#[test]
fn whatever_differs_is_named() {
    let mut wrong = ours();
    wrong[0].gpu.memory_bytes -= 1024 * MIB;
    wrong[0].gpu.power_limit_watts = None;
    wrong[0].gpu.ecc = None;
    wrong[0].processes[0].pid = 1;
    wrong[1].memory_errors.needs_reset = Some(false);
    wrong[1].gpu.throttled.clear();
    assert_eq!(
        differing(&wrong),
        ["ECC", "power limit W", "memory MiB", "processes", "reset pending", "thermal"]
    );
    assert_eq!(differing(&ours()[..1]), ["GPUs", "there"]);
    assert_eq!(differing(&ours()[..2]), ["MIG instances"]);
}

#[test]
fn the_table_ends_with_the_sum_and_what_is_no_xml_is_refused() {
    let rows = compare(&facts(), &ours(), RECORDED).expect("it can be read");
    assert!(table(&rows, 0).ends_with("all agree\n") && table(&rows, 2).ends_with("2 differ\n"));
    assert!(compare(&facts(), &ours(), "NVIDIA-SMI has failed").is_err());
}
