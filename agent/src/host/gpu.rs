//! GPUs as NVML tells them. No driver is no GPU and no error; a GPU that does not answer is one with a fault.
//! Never decides whether a GPU is free.

use super::{GpuProcess, GpuReading, process};
use longshore_common::agent::Gpu;
use nvml_wrapper::{
    Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor, enums::device::UsedGpuMemory,
    error::NvmlError, struct_wrappers::device::ProcessInfo,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// The driver's own package has only the first name; the second comes with development files.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

pub(super) struct Gpus {
    library: Option<PathBuf>,
    devices: PathBuf,
    nvml: Option<Nvml>,
    /// GPU nodes when NVML was loaded: it sees new GPUs only when loaded anew.
    nodes: BTreeSet<OsString>,
    /// Who was where, for a GPU that is lost and cannot say it any more.
    known: BTreeMap<u32, Gpu>,
    problem: Option<String>,
}

impl Gpus {
    pub(super) fn new(library: Option<PathBuf>, devices: &Path) -> Self {
        Self {
            library,
            devices: devices.to_owned(),
            nvml: None,
            nodes: BTreeSet::new(),
            known: BTreeMap::new(),
            problem: None,
        }
    }

    /// Loads NVML if it is not, or if GPU nodes have come or gone. A driver that appears later is found later.
    pub(super) fn load(&mut self) {
        let nodes = gpu_nodes(&self.devices);
        if self.nvml.is_some() && nodes == self.nodes {
            return;
        }
        self.nvml = None;
        match init(self.library.as_deref()) {
            Ok(nvml) => {
                self.problem = None;
                self.nvml = Some(nvml);
            }
            Err(error) => self.note(&nodes, &error),
        }
        self.nodes = nodes;
    }

    pub(super) fn driver(&self) -> Option<String> {
        self.nvml.as_ref()?.sys_driver_version().ok()
    }

    pub(super) fn cuda(&self) -> Option<String> {
        let version = self.nvml.as_ref()?.sys_cuda_driver_version().ok()?;
        Some(format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version)))
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    pub(super) fn read(&mut self) -> Vec<GpuReading> {
        self.load();
        let Some(nvml) = &self.nvml else { return Vec::new() };
        match nvml.device_count() {
            Ok(count) => {
                let gpus: Vec<GpuReading> = (0..count).map(|index| self.gpu(nvml, index)).collect();
                self.known = gpus.iter().map(|reading| (reading.gpu.index, reading.gpu.clone())).collect();
                gpus
            }
            Err(error) => {
                // The driver went away, perhaps for an upgrade: look anew at the next reading.
                tracing::warn!(%error, "NVML does not answer any more; it is loaded anew");
                self.nvml = None;
                Vec::new()
            }
        }
    }

    fn gpu(&self, nvml: &Nvml, index: u32) -> GpuReading {
        let mut known = self.known.get(&index).cloned().unwrap_or_default();
        known.index = index;
        let device = match nvml.device_by_index(index) {
            Ok(device) => device,
            Err(error) => return ill(known, &error),
        };
        // Identity first: a GPU that fails later still has its name.
        if let Err(error) = identify(&device, &mut known) {
            return ill(known, &error);
        }
        match measure(&device, &mut known) {
            Ok(processes) => GpuReading { fault: divided(&device, index), gpu: known, processes },
            Err(error) => ill(known, &error),
        }
    }

    /// A machine without NVIDIA devices has no problem; one with devices and without NVML has.
    fn note(&mut self, nodes: &BTreeSet<OsString>, error: &NvmlError) {
        let problem = (!nodes.is_empty()).then(|| {
            format!("{} is there and NVML cannot be used: {error}", self.devices.join("nvidia*").display())
        });
        if problem != self.problem {
            if let Some(problem) = &problem {
                tracing::warn!("{problem}");
            }
            self.problem = problem;
        }
    }
}

fn init(library: Option<&Path>) -> Result<Nvml, NvmlError> {
    if let Some(library) = library {
        return Nvml::builder().lib_path(library.as_os_str()).init();
    }
    let [first, second] = LIBRARIES.map(OsStr::new);
    match Nvml::builder().lib_path(first).init() {
        Err(NvmlError::LibloadingError(_)) => Nvml::builder().lib_path(second).init(),
        other => other,
    }
}

/// `nvidia0`, `nvidia1`, …
fn gpu_nodes(devices: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(devices).into_iter().flatten().flatten();
    let is_gpu = |name: &OsString| {
        let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    entries.map(|entry| entry.file_name()).filter(is_gpu).collect()
}

fn ill(mut gpu: Gpu, error: &NvmlError) -> GpuReading {
    gpu.memory_free_bytes = 0;
    gpu.utilisation_percent = 0;
    let fault = match error {
        NvmlError::GpuLost => "it has fallen off the bus".to_owned(),
        other => other.to_string(),
    };
    GpuReading { gpu, processes: Vec::new(), fault: Some(fault) }
}

fn identify(device: &Device<'_>, gpu: &mut Gpu) -> Result<(), NvmlError> {
    gpu.uuid = device.uuid()?;
    gpu.model = device.name()?;
    Ok(())
}

fn measure(device: &Device<'_>, gpu: &mut Gpu) -> Result<Vec<GpuProcess>, NvmlError> {
    let memory = device.memory_info()?;
    gpu.memory_bytes = memory.total;
    gpu.memory_free_bytes = memory.free;
    // Not told in MIG mode and by some virtual GPUs.
    gpu.utilisation_percent = optional(device.utilization_rates())?.map_or(0, |rates| rates.gpu.min(100));
    let compute = optional(device.running_compute_processes())?.unwrap_or_default();
    let graphics = optional(device.running_graphics_processes())?.unwrap_or_default();
    // A process that computes and draws is listed twice: it computes.
    let computing: BTreeSet<u32> = compute.iter().map(|process| process.pid).collect();
    let drawing = graphics.into_iter().filter(|process| !computing.contains(&process.pid));
    Ok(compute
        .iter()
        .map(|process| told(process, false))
        .chain(drawing.map(|process| told(&process, true)))
        .collect())
}

/// Whole GPUs are granted. The parts of one in MIG mode cannot be, and as a whole it gives a container nothing.
fn divided(device: &Device<'_>, index: u32) -> Option<String> {
    // GPUs without the mode, and drivers that do not know it, have it off.
    let on = device.mig_mode().is_ok_and(|mode| mode.current != 0);
    on.then(|| format!("it is in MIG mode, and only whole GPUs are given (nvidia-smi -i {index} -mig 0)"))
}

fn told(process: &ProcessInfo, graphics: bool) -> GpuProcess {
    let memory = match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => bytes,
        UsedGpuMemory::Unavailable => 0,
    };
    process::describe(process.pid, memory, graphics)
}

/// What a driver or a GPU of another age does not know is not an error.
fn optional<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::NotFound
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "gpu_tests.rs"]
mod tests;
