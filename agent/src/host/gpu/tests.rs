use super::*;
use crate::capacity::{self, GpuWatch};
use crate::host::{Age, MemoryErrors, Nvml as State, Xid};
use crate::host::{Config, Host as _, Machine, contract};
use fake_nvml::{Description, Event, Fault, Instance, Process};
use longshore_common::job::resources::{GIB, MIB};
use std::fs;

/// A machine whose NVML plays what the test describes.
struct Played {
    machine: Machine,
    library: PathBuf,
    folder: tempfile::TempDir,
}

fn gpu(number: u32) -> fake_nvml::Gpu {
    fake_nvml::Gpu {
        uuid: format!("GPU-{number:08}-0000-4000-8000-000000000000"),
        ..fake_nvml::Gpu::default()
    }
}

fn described(gpus: Vec<fake_nvml::Gpu>) -> Description {
    Description { gpus, ..Description::default() }
}

/// Device nodes for as many GPUs as are described.
fn played(description: &Description) -> Played {
    let folder = tempfile::tempdir().expect("a folder");
    let library = fake_nvml::install(folder.path());
    let devices = folder.path().join("dev");
    fs::create_dir(&devices).expect("a folder for device nodes");
    let config = Config { nvml_library: Some(library.clone()), nvml_answer_seconds: 1 };
    let machine = Machine::with_devices(&config, folder.path(), &devices).expect("a machine");
    let played = Played { machine, library, folder };
    played.set(description);
    played
}

impl Played {
    fn set(&self, description: &Description) {
        description.write(&fake_nvml::description_of(&self.library));
        for index in 0..description.gpus.len() {
            self.node(&format!("nvidia{index}"));
        }
    }

    fn node(&self, name: &str) {
        fs::write(self.folder.path().join("dev").join(name), "").expect("a device node");
    }
}

#[test]
fn the_contract_holds() {
    let model = "NVIDIA L4".to_owned();
    let other = fake_nvml::Gpu { model, memory_mib: 23_034, utilisation: 40, ..gpu(2) };
    contract::run(&played(&described(vec![gpu(1), other])).machine);
}

#[test]
fn gpus_are_told_with_what_they_are_and_use() {
    let process = Process { pid: std::process::id(), memory_mib: 1024, graphics: false };
    let desktop = Process { pid: 1, memory_mib: 200, graphics: true };
    let busy = fake_nvml::Gpu { utilisation: 87, processes: vec![process, desktop], ..gpu(1) };
    let reading = played(&described(vec![busy])).machine.read();
    let [told] = reading.gpus.as_slice() else { panic!("one GPU: {reading:?}") };
    assert_eq!(told.gpu.model, "NVIDIA A100-SXM4-80GB");
    assert_eq!(told.gpu.memory_bytes, 80 * GIB);
    assert_eq!(told.gpu.memory_free_bytes, 80 * GIB - (1024 + 200 + 500) * MIB);
    assert_eq!(told.gpu.utilisation_percent, 87);
    let [mine, drawing] = told.processes.as_slice() else { panic!("two processes: {told:?}") };
    assert_eq!((mine.pid, mine.memory_bytes, mine.graphics), (std::process::id(), GIB, false));
    assert!(!mine.name.is_empty() && !mine.user.is_empty(), "{mine:?}");
    assert!(drawing.graphics);
}

#[test]
fn a_process_that_computes_and_draws_is_told_once() {
    let both = [false, true].map(|graphics| Process { pid: 4711, memory_mib: 100, graphics });
    let reading =
        played(&described(vec![fake_nvml::Gpu { processes: both.into(), ..gpu(1) }])).machine.read();
    assert_eq!(reading.gpus[0].processes.len(), 1);
    assert!(!reading.gpus[0].processes[0].graphics);
}

#[test]
fn a_gpu_that_is_lost_keeps_its_name_and_has_a_fault() {
    let played = played(&described(vec![gpu(1), gpu(2)]));
    let before = played.machine.read().gpus;
    for fault in [Fault::Lost, Fault::Failing] {
        let lost = fake_nvml::Gpu { fault: Some(fault), ..gpu(2) };
        played.set(&described(vec![gpu(1), lost]));
        let after = played.machine.read().gpus;
        assert_eq!(after[0], before[0], "its neighbour is well");
        assert_eq!(after[1].gpu.uuid, before[1].gpu.uuid);
        assert!(after[1].fault.as_deref().is_some_and(|fault| fault.contains("bus")), "{after:?}");
    }
    played.set(&described(vec![gpu(1), gpu(2)]));
    assert_eq!(played.machine.read().gpus, before);
}

#[test]
fn a_gpu_lost_before_it_was_ever_seen_has_a_fault() {
    let lost = fake_nvml::Gpu { fault: Some(Fault::Lost), ..gpu(1) };
    let gpus = played(&described(vec![lost])).machine.read().gpus;
    assert!(gpus[0].fault.is_some() && gpus[0].gpu.uuid.is_empty(), "{gpus:?}");
}

#[test]
fn gpus_come_and_go() {
    let played = played(&described(vec![gpu(1)]));
    assert_eq!(played.machine.read().gpus.len(), 1);
    played.set(&described(vec![gpu(1), gpu(2)]));
    let uuids: Vec<String> = played.machine.read().gpus.into_iter().map(|told| told.gpu.uuid).collect();
    assert_eq!(uuids, [gpu(1).uuid, gpu(2).uuid]);
    played.set(&described(vec![gpu(2)]));
    let gpus = played.machine.read().gpus;
    assert_eq!(gpus.len(), 1);
    assert_eq!((gpus[0].gpu.uuid.clone(), &gpus[0].fault), (gpu(2).uuid, &None));
}

fn instance(number: u32) -> Instance {
    Instance {
        uuid: format!("MIG-{number:08}-0000-5000-8000-000000000000"),
        profile: "1g.10gb".into(),
        memory_mib: 9_728,
        processes: Vec::new(),
    }
}

#[test]
fn a_gpu_in_mig_mode_is_its_instances_with_the_memory_and_the_processes_of_each() {
    let process = Process { pid: 4711, memory_mib: 1024, graphics: false };
    let used = Instance { processes: vec![process], ..instance(2) };
    let divided = fake_nvml::Gpu { mig: true, instances: vec![instance(1), used], utilisation: 50, ..gpu(1) };
    let played = played(&described(vec![divided, gpu(2)]));
    contract::run(&played.machine);
    let readings = played.machine.read().gpus;
    let [free, used, whole] = readings.as_slice() else { panic!("two instances and a GPU: {readings:?}") };
    assert_eq!((&free.gpu.uuid, free.gpu.index), (&instance(1).uuid, 0));
    assert_eq!((free.gpu.mig.as_deref(), free.gpu.parent.as_ref()), (Some("1g.10gb"), Some(&gpu(1).uuid)));
    assert_eq!((free.gpu.memory_bytes, free.gpu.model.as_str()), (9_728 * MIB, "NVIDIA A100-SXM4-80GB"));
    assert_eq!(used.gpu.memory_free_bytes, (9_728 - 1024) * MIB);
    assert_eq!(used.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [4711]);
    assert!(!used.tells_utilisation && whole.tells_utilisation);
    let mut watch = GpuWatch::new(capacity::Config::default());
    let shown = watch.observe(std::time::Instant::now(), &readings, &BTreeMap::new());
    assert_eq!(shown.iter().map(|gpu| gpu.busy.is_some()).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_gpu_in_mig_mode_that_is_not_divided_is_shown_with_the_reason() {
    let undivided = fake_nvml::Gpu { mig: true, ..gpu(1) };
    let played = played(&described(vec![undivided, gpu(2)]));
    let readings = played.machine.read().gpus;
    assert_eq!(
        readings[0].fault.as_deref(),
        Some("it is in MIG mode and not divided (nvidia-smi mig -i 0 -lgi)")
    );
    assert_eq!((readings.len(), &readings[1].fault), (2, &None));
    played.set(&described(vec![gpu(1), gpu(2)]));
    assert_eq!(played.machine.read().gpus[0].fault, None, "the mode was turned off");
}

#[test]
fn what_a_gpu_is_where_it_sits_and_how_it_does_is_told() {
    let hot = fake_nvml::Gpu {
        capability: (9, 0),
        pci: "00000000:1B:00.0".into(),
        numa: Some(1),
        temperature: 91,
        power_mw: 699_600,
        power_limit_mw: 700_000,
        // A thermal slowdown in hardware, and what every busy GPU does: run at its power limit.
        throttle: 0x40 | 0x8 | 0x4,
        uncorrected: 2,
        remap_pending: true,
        ..gpu(1)
    };
    let plain = fake_nvml::Gpu { ecc: None, remap_failed: true, ..gpu(2) };
    let readings = played(&described(vec![hot, plain])).machine.read().gpus;
    let gpu = &readings[0].gpu;
    assert_eq!((gpu.capability, gpu.pci.as_str(), gpu.numa), (Some((9, 0)), "00000000:1B:00.0", Some(1)));
    assert_eq!((gpu.temperature_c, gpu.power_watts, gpu.power_limit_watts), (Some(91), Some(700), Some(700)));
    assert_eq!((gpu.throttled.as_slice(), gpu.ecc), (&["thermal".to_owned()][..], Some(true)));
    let errors = readings[0].memory_errors;
    assert_eq!((errors.uncorrected, errors.needs_reset, errors.worn_out), (Some(2), Some(true), Some(false)));
    assert_eq!((readings[1].gpu.ecc, readings[1].gpu.numa), (None, None));
    let errors = readings[1].memory_errors;
    assert_eq!((errors.worn_out, errors.uncorrected), (Some(true), Some(0)), "without ECC there are none");
}

#[test]
fn gpus_on_one_nvlink_are_one_group() {
    let linked = |number: u32, nvlink| fake_nvml::Gpu { nvlink, ..gpu(number) };
    let all =
        vec![linked(1, Some(7)), linked(2, None), linked(3, Some(9)), linked(4, Some(7)), linked(5, Some(9))];
    let played = played(&described(all.clone()));
    let groups = || played.machine.read().gpus.iter().map(|told| told.gpu.nvlink).collect::<Vec<_>>();
    assert_eq!(groups(), [Some(0), None, Some(1), Some(0), Some(1)]);
    played.set(&described(all[..3].to_vec()));
    assert_eq!(groups(), [None, None, None], "their neighbours have gone");
}

fn until(machine: &Machine, done: impl Fn(&crate::host::Reading) -> bool) -> crate::host::Reading {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let reading = machine.read();
        if done(&reading) {
            return reading;
        }
        assert!(std::time::Instant::now() < end, "it does not come: {reading:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn an_error_is_told_once_with_its_gpu_and_without_where_that_is_lost() {
    let mut description = described(vec![gpu(1), gpu(2)]);
    let played = played(&description);
    assert_eq!(played.machine.read().xids, []);
    description.events.push(Event { gpu: gpu(2).uuid, xid: 31 });
    played.set(&description);
    let told = until(&played.machine, |reading| !reading.xids.is_empty()).xids;
    assert_eq!(told, [Xid { gpu: Some(gpu(2).uuid), code: 31 }]);
    assert_eq!(played.machine.read().xids, [], "once");
    description.gpus[0].fault = Some(Fault::Lost);
    description.events.push(Event { gpu: gpu(1).uuid, xid: 79 });
    played.set(&description);
    let told = until(&played.machine, |reading| !reading.xids.is_empty()).xids;
    assert_eq!(told, [Xid { gpu: None, code: 79 }]);
}

#[test]
fn a_driver_that_hangs_is_said_to_and_answers_again() {
    let mut description = described(vec![gpu(1)]);
    let played = played(&description);
    let before = played.machine.read();
    assert_eq!(before.nvml, State::Answers);
    description.hang = true;
    played.set(&description);
    let hanging = until(&played.machine, |reading| reading.nvml == State::Hangs);
    assert_eq!(hanging.gpus, before.gpus, "as it was");
    let asked = std::time::Instant::now();
    assert!(played.machine.read().memory_available_bytes > 0);
    assert!(asked.elapsed() < std::time::Duration::from_millis(500), "nobody waits for it any more");
    description.hang = false;
    description.gpus[0].utilisation = 12;
    played.set(&description);
    let after = until(&played.machine, |reading| reading.nvml == State::Answers);
    assert!(after.gpus.len() == 1, "{after:?}");
    until(&played.machine, |reading| reading.gpus[0].gpu.utilisation_percent == 12);
}

#[test]
fn a_driver_that_comes_later_is_found() {
    let played = played(&Description { init_error: Some(9), ..Description::default() });
    assert_eq!((played.machine.read().gpus, played.machine.facts().driver), (vec![], None));
    assert_eq!(played.machine.facts().driver_problem, None, "no device node, no problem");
    played.set(&described(vec![gpu(1)]));
    assert_eq!(played.machine.read().gpus.len(), 1);
    assert_eq!(played.machine.facts().driver.as_deref(), Some("550.54.15"));
}

#[test]
fn a_driver_that_goes_away_and_comes_back_is_found() {
    let played = played(&described(vec![gpu(1)]));
    assert_eq!(played.machine.read().gpus.len(), 1);
    fs::remove_file(fake_nvml::description_of(&played.library)).expect("the driver goes");
    assert!(played.machine.read().gpus.is_empty());
    played.set(&described(vec![gpu(1)]));
    assert_eq!(played.machine.read().gpus.len(), 1);
}

#[test]
fn devices_without_nvml_are_a_problem_and_no_gpu() {
    let played = played(&Description { init_error: Some(18), ..Description::default() });
    played.node("nvidia0");
    let facts = played.machine.facts();
    let problem = facts.driver_problem.expect("a problem");
    assert!(problem.contains("nvidia*") && problem.contains("NVML"), "{problem}");
    assert_eq!(facts.driver, None);
    assert!(played.machine.read().gpus.is_empty());
}

#[test]
fn no_driver_at_all_is_no_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { nvml_library: Some(folder.path().join("nothing.so")), ..Config::default() };
    let machine = Machine::with_devices(&config, folder.path(), folder.path()).expect("a machine");
    contract::run(&machine);
    assert_eq!((machine.facts().driver_problem, machine.read().gpus), (None, vec![]));
}

#[test]
fn only_numbered_nodes_are_gpus() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia", "null"] {
        fs::write(folder.path().join(name), "").expect("a node");
    }
    let nodes = gpu_nodes(folder.path());
    assert_eq!(nodes, ["nvidia0", "nvidia12"].map(OsString::from).into());
}

#[test]
fn a_question_that_fails_does_not_say_that_there_are_no_errors_of_memory() {
    let bad = fake_nvml::Gpu { uncorrected: 2, remap_pending: true, ..gpu(1) };
    let played = played(&described(vec![bad.clone()]));
    let errors = || played.machine.read().gpus[0].memory_errors;
    assert_eq!((errors().uncorrected, errors().needs_reset), (Some(2), Some(true)));
    played.set(&described(vec![fake_nvml::Gpu { memory_error: Some(999), ..bad }]));
    let told = played.machine.read();
    assert_eq!((told.gpus[0].memory_errors, &told.gpus[0].fault), (MemoryErrors::default(), &None));
}

#[test]
fn a_listener_that_nvml_refused_once_is_not_deaf_for_good() {
    let mut description = described(vec![gpu(1), gpu(2)]);
    description.event_error = Some(999);
    let played = played(&description);
    assert_eq!(played.machine.read().xids, []);
    // It has been refused by now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    description.event_error = None;
    description.events.push(Event { gpu: gpu(2).uuid, xid: 48 });
    played.set(&description);
    let told = until(&played.machine, |reading| !reading.xids.is_empty()).xids;
    assert_eq!(told, [Xid { gpu: Some(gpu(2).uuid), code: 48 }]);
}

#[test]
fn an_error_of_a_gpu_that_could_not_say_its_name_is_told_with_it_when_it_can() {
    let mut description = described(vec![gpu(1), gpu(2)]);
    let played = played(&description);
    assert_eq!(played.machine.read().xids, []);
    description.gpus[1].fault = Some(Fault::Lost);
    description.events.push(Event { gpu: gpu(2).uuid, xid: 95 });
    played.set(&description);
    let told = until(&played.machine, |reading| !reading.xids.is_empty()).xids;
    assert_eq!(told, [Xid { gpu: None, code: 95 }]);
    description.gpus[1].fault = None;
    played.set(&description);
    let told = until(&played.machine, |reading| !reading.xids.is_empty()).xids;
    assert_eq!(told, [Xid { gpu: Some(gpu(2).uuid), code: 95 }]);
}

#[test]
fn a_reading_of_a_driver_that_does_not_answer_is_not_told_as_new() {
    let mut description = described(vec![gpu(1)]);
    let played = played(&description);
    assert_eq!(played.machine.read().age, Age::Fresh);
    description.hang = true;
    played.set(&description);
    assert_eq!(played.machine.read().age, Age::Old);
    assert_eq!(played.machine.read().age, Age::Old);
    description.hang = false;
    description.gpus[0].utilisation = 12;
    played.set(&description);
    // The answer to the old question comes with the next one or before it.
    until(&played.machine, |reading| {
        reading.age == Age::Fresh && reading.gpus[0].gpu.utilisation_percent == 12
    });
}
