//! GPUs as NVML tells them. No driver is no GPU and no error; a GPU that does not answer is one with a fault, and one
//! in MIG mode is its instances. Blocks for as long as the driver does: only `driver` asks. Never decides whether a
//! GPU is free.

mod device;
mod events;
mod mig;
mod topology;

pub(super) use events::{Events, Xids};

use super::GpuReading;
use longshore_common::agent::Gpu;
use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};
use topology::Links;

/// The driver's own package has only the first name; the second comes with development files.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];

pub(super) struct Gpus {
    library: Option<PathBuf>,
    devices: PathBuf,
    nvml: Option<Arc<Nvml>>,
    events: Events,
    /// GPU nodes when NVML was loaded: it sees new GPUs only when loaded anew.
    nodes: BTreeSet<OsString>,
    /// Who was where, for a GPU that is lost and cannot say it any more.
    known: BTreeMap<u32, Gpu>,
    links: Links,
    problem: Option<String>,
}

impl Gpus {
    pub(super) fn new(library: Option<PathBuf>, devices: &Path, events: Events) -> Self {
        Self {
            library,
            devices: devices.to_owned(),
            nvml: None,
            events,
            nodes: BTreeSet::new(),
            known: BTreeMap::new(),
            links: Links::default(),
            problem: None,
        }
    }

    /// Loads NVML if it is not, or if GPU nodes have come or gone. A driver that appears later is found later.
    fn load(&mut self) {
        let nodes = gpu_nodes(&self.devices);
        if self.nvml.is_some() && nodes == self.nodes {
            return;
        }
        self.unload();
        match init(self.library.as_deref()) {
            Ok(nvml) => {
                self.problem = None;
                self.nvml = Some(Arc::new(nvml));
            }
            Err(error) => self.note(&nodes, &error),
        }
        self.nodes = nodes;
    }

    /// It is shut down when nobody has it any more, and only then loaded anew.
    fn unload(&mut self) {
        if let Some(nvml) = self.nvml.take() {
            self.events.end(&nvml);
        }
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

    /// `None`: NVML cannot be used.
    pub(super) fn read(&mut self) -> Option<Vec<GpuReading>> {
        self.load();
        let nvml = Arc::clone(self.nvml.as_ref()?);
        match nvml.device_count() {
            Ok(count) => Some(self.all(&nvml, count)),
            Err(error) => {
                // The driver went away, perhaps for an upgrade: look anew at the next reading.
                tracing::warn!(%error, "NVML does not answer any more; it is loaded anew");
                drop(nvml);
                self.unload();
                None
            }
        }
    }

    fn all(&mut self, nvml: &Arc<Nvml>, count: u32) -> Vec<GpuReading> {
        let mut whole: Vec<GpuReading> =
            (0..count).map(|index| device::read(nvml, index, self.known.get(&index))).collect();
        self.links.follow(nvml, &whole);
        for reading in &mut whole {
            reading.gpu.nvlink = self.links.group(&reading.gpu.uuid);
        }
        self.known = whole.iter().map(|reading| (reading.gpu.index, reading.gpu.clone())).collect();
        let uuids = whole.iter().map(|reading| reading.gpu.uuid.clone()).collect();
        self.events.follow(nvml, uuids);
        whole.into_iter().flat_map(|reading| mig::divide(nvml, reading)).collect()
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
mod tests;
