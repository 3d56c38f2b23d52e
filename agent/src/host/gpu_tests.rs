use super::*;
use crate::capacity::{self, GpuWatch};
use crate::host::{Config, Host as _, Machine, contract};
use fake_nvml::{Description, Fault, Process};
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
    let config = Config { nvml_library: Some(library.clone()) };
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

#[test]
fn a_gpu_in_mig_mode_is_shown_set_aside_with_the_reason_and_the_others_are_free() {
    let divided = fake_nvml::Gpu { mig: true, utilisation: 50, ..gpu(1) };
    let played = played(&described(vec![divided, gpu(2)]));
    let readings = played.machine.read().gpus;
    let mut watch = GpuWatch::new(capacity::Config::default());
    let shown = watch.observe(std::time::Instant::now(), &readings, &BTreeMap::new());
    let [divided, whole] = shown.as_slice() else { panic!("two GPUs: {shown:?}") };
    assert_eq!((&divided.uuid, divided.memory_bytes), (&gpu(1).uuid, 80 * GIB));
    let why = divided.busy.as_deref().expect("it is not offered");
    assert_eq!(why, "set aside: it is in MIG mode, and only whole GPUs are given (nvidia-smi -i 0 -mig 0)");
    assert_eq!(whole.busy, None);
    played.set(&described(vec![gpu(1), gpu(2)]));
    assert_eq!(played.machine.read().gpus[0].fault, None, "the mode was turned off");
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
    let config = Config { nvml_library: Some(folder.path().join("nothing.so")) };
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
