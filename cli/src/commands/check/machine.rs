//! The machine itself: disk, GPUs, rights and tools.

use super::Finding;
use crate::output::size;
use longshore_agent::AgentConfig;
use longshore_agent::host::{Host as _, Machine};
use longshore_common::units::plural;
use rustix::fs::{Access, access, statvfs};
use std::path::Path;
use std::process::{Command, Stdio};

/// The default scratch of a few jobs.
const LEAST_DISK: u64 = 20 << 30;

/// Adds what it finds; says whether there is an NVIDIA driver.
pub(super) fn check(config: &AgentConfig, findings: &mut Vec<Finding>) -> bool {
    findings.push(data_dir(&config.data_dir));
    findings.push(rights());
    findings.push(firewall());
    match Machine::new(&config.host, existing(&config.data_dir)) {
        Ok(machine) => {
            let facts = machine.facts();
            let gpus = machine.read().gpus;
            let faults: Vec<_> = gpus
                .iter()
                .filter_map(|gpu| Some(format!("GPU {}: {}", gpu.gpu.index, gpu.fault.as_ref()?)))
                .collect();
            findings.push(match (&facts.driver, &facts.driver_problem) {
                (_, Some(problem)) => Finding::bad(
                    "gpu",
                    problem.clone(),
                    &["install the driver's NVML library (libnvidia-ml.so.1) of the same version as its kernel module"],
                ),
                (Some(_), _) if !faults.is_empty() => {
                    Finding::bad("gpu", faults.join("; "), &["dmesg | grep -i xid", "nvidia-smi -q"])
                }
                (Some(driver), _) => {
                    let count = plural(gpus.len() as u64, "GPU", "GPUs");
                    Finding::good("gpu", format!("{count}, driver {driver}"))
                }
                (None, None) => Finding::note("gpu", "no NVIDIA driver: this machine has zero GPUs"),
            });
            facts.driver.is_some()
        }
        Err(error) => {
            findings.push(Finding::bad("machine", error.to_string(), &["mount /proc and /sys"]));
            false
        }
    }
}

/// Free bytes of the file system that a path is on or will be on.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let found = statvfs(existing(path)).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn data_dir(path: &Path) -> Finding {
    let there = existing(path);
    let elsewhere = ["name a folder on a disk with --data-dir (data_dir in agent.toml)"];
    if !there.is_dir() {
        return Finding::bad("data", format!("{} is no folder", there.display()), &elsewhere);
    }
    let Ok(found) = statvfs(there) else {
        return Finding::bad("data", format!("{} cannot be looked at", there.display()), &elsewhere);
    };
    // /proc, /sys and their like: they take no files, whoever asks.
    if found.f_blocks == 0 {
        let detail = format!("{} is not on a disk: it takes no files", there.display());
        return Finding::bad("data", detail, &elsewhere);
    }
    if access(there, Access::WRITE_OK).is_err() {
        let mend = if rustix::process::geteuid().is_root() {
            elsewhere
        } else {
            ["run as root, or name another folder with --data-dir"]
        };
        return Finding::bad("data", format!("{} cannot be written", there.display()), &mend);
    }
    let free = free_bytes(path).unwrap_or(0);
    let detail = format!("{} free under {}", size(free), path.display());
    if free >= LEAST_DISK {
        return Finding::good("data", detail);
    }
    Finding::bad(
        "data",
        format!("{detail}; a job asks for 20 GiB if nothing is said"),
        &["a larger disk for data_dir"],
    )
}

fn rights() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Finding::good("rights", "root");
    }
    let mend = ["run the agent as root: it reads files of other users and keeps firewall rules"];
    Finding::bad("rights", "not root", &mend)
}

fn firewall() -> Finding {
    let name = "firewall";
    for tool in ["iptables", "iptables-nft", "iptables-legacy"] {
        let mut command = Command::new(tool);
        let output = command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        if let Ok(output) = output
            && output.status.success()
        {
            return Finding::good(name, String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
    }
    let mend = ["apt-get install iptables"];
    Finding::bad(name, "no iptables: containers could reach this machine's own services", &mend)
}

/// The path, or the nearest folder above it that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_take_no_files_are_told_apart_from_full_ones() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (path, says) in
            [(Path::new("/proc/x"), "is not on a disk"), (&file.path().join("x"), "is no folder")]
        {
            let found = data_dir(path);
            assert!(found.detail.contains(says) && found.mend[0].contains("--data-dir"), "{found:?}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_counts_as_the_one_above() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(existing(&folder.path().join("a/b")), folder.path());
        assert!(free_bytes(&folder.path().join("a/b")).is_some_and(|free| free > 0));
    }
}
