//! What every `Host` must tell, run on each implementation by its tests. Panics where one does not.

use super::{Host, Reading};
use std::collections::BTreeSet;

pub fn run(host: &dyn Host) {
    let facts = host.facts();
    assert_eq!(facts, host.facts(), "facts stay");
    assert!(facts.cpu_millis >= 1000 && facts.cpu_millis.is_multiple_of(1000), "{facts:?}");
    assert!(["amd64", "arm64"].contains(&facts.arch.as_str()), "Docker's word: {}", facts.arch);
    assert!(!facts.boot_id.is_empty() && !facts.hostname.is_empty(), "{facts:?}");
    let reading = host.read();
    assert!(reading.memory_available_bytes > 0, "{reading:?}");
    assert!(reading.memory_available_bytes <= facts.memory_bytes, "{reading:?}");
    assert!(reading.cpu_busy_millis <= facts.cpu_millis, "{reading:?}");
    assert!(reading.disk.total_bytes > 0, "{reading:?}");
    assert!(reading.disk.free_bytes <= reading.disk.total_bytes, "{reading:?}");
    assert!(reading.gpus.is_empty() || facts.driver.is_some(), "GPUs come with a driver");
    gpus(&reading);
}

fn gpus(reading: &Reading) {
    let uuids: BTreeSet<&str> = reading.gpus.iter().map(|reading| reading.gpu.uuid.as_str()).collect();
    assert_eq!(uuids.len(), reading.gpus.len(), "UUIDs are unique: {:?}", reading.gpus);
    assert!(reading.gpus.is_sorted_by_key(|reading| reading.gpu.index), "GPUs come in order of their index");
    for reading in &reading.gpus {
        let gpu = &reading.gpu;
        assert_eq!(gpu.mig.is_some(), gpu.parent.is_some(), "a part is a part of something: {gpu:?}");
        assert_eq!((&gpu.job, &gpu.busy), (&None, &None), "whose a GPU is, others decide");
        assert!(gpu.memory_free_bytes <= gpu.memory_bytes && gpu.utilisation_percent <= 100, "{gpu:?}");
        assert!(reading.fault.is_some() || gpu.memory_bytes > 0, "{gpu:?}");
        assert!(reading.processes.iter().all(|process| process.pid > 0), "{reading:?}");
    }
}
