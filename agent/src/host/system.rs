//! CPU, memory and disk of the host.

use super::{Disk, Error, Facts, Reading};
use std::{
    io,
    path::{Path, PathBuf},
};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind};

pub(super) struct System {
    info: sysinfo::System,
    own: Option<Pid>,
    data_dir: PathBuf,
}

impl System {
    pub(super) fn new(data_dir: &Path) -> Result<Self, Error> {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let info = sysinfo::System::new_with_specifics(what).map_err(|error| Error(error.to_string()))?;
        let own = sysinfo::get_current_pid().ok();
        Ok(Self { info, own, data_dir: data_dir.to_owned() })
    }

    /// All but the driver's.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            hostname: sysinfo::System::host_name().unwrap_or_default(),
            os: sysinfo::System::long_os_version().unwrap_or_default(),
            kernel: sysinfo::System::kernel_version().unwrap_or_default(),
            arch: docker_arch(std::env::consts::ARCH).to_owned(),
            boot_id: boot_id(),
            cpu_millis: self.cpu_millis(),
            memory_bytes: self.info.total_memory(),
            driver: None,
            cuda: None,
            driver_problem: None,
        }
    }

    /// All but GPUs.
    pub(super) fn read(&mut self) -> Reading {
        self.info.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.info.refresh_cpu_usage();
        let disk = disk(&self.data_dir).unwrap_or_else(|error| {
            tracing::warn!(folder = %self.data_dir.display(), %error, "cannot ask the disk for its free space");
            Disk::default()
        });
        Reading {
            memory_available_bytes: self.info.available_memory().min(self.info.total_memory()),
            cpu_busy_millis: busy(self.info.global_cpu_usage(), self.cpu_millis()),
            agent_cpu_millis: self.own_cpu_millis(),
            disk,
            ..Reading::default()
        }
    }

    fn own_cpu_millis(&mut self) -> u32 {
        let Some(pid) = self.own else { return 0 };
        let what = ProcessRefreshKind::nothing().with_cpu();
        self.info.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        // Percent of one core, over all threads.
        let percent = self.info.process(pid).map_or(0.0, sysinfo::Process::cpu_usage);
        busy(percent / self.info.cpus().len().max(1) as f32, self.cpu_millis())
    }

    fn cpu_millis(&self) -> u32 {
        u32::try_from(self.info.cpus().len()).unwrap_or(u32::MAX).saturating_mul(1000)
    }
}

/// `percent` of all cores together.
fn busy(percent: f32, cpu_millis: u32) -> u32 {
    let share = f64::from(percent.clamp(0.0, 100.0)) / 100.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and cpu_millis")]
    let millis = (share * f64::from(cpu_millis)).round() as u32;
    millis
}

/// Room for users without privileges, as jobs' files are counted.
pub(super) fn disk(folder: &Path) -> io::Result<Disk> {
    let stat = rustix::fs::statvfs(folder)?;
    let free_bytes = stat.f_bavail * stat.f_frsize;
    Ok(Disk { free_bytes, total_bytes: stat.f_blocks * stat.f_frsize })
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn docker_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_a_share_of_all_cores() {
        assert_eq!(busy(25.0, 8000), 2000);
        assert_eq!(busy(-1.0, 8000), 0);
        assert_eq!(busy(140.0, 8000), 8000);
    }

    #[test]
    fn a_folder_that_is_gone_promises_nothing() {
        let mut system = System::new(Path::new("/no/such/folder")).expect("it is readable");
        assert_eq!(system.read().disk, Disk::default());
    }
}
