//! A GPU in MIG mode: its instances are granted as they are, it is not. Nothing is divided anew.

use super::{device, optional};
use crate::host::GpuReading;
use longshore_common::agent::Gpu;
use nvml_wrapper::{Device, Nvml, error::NvmlError};

/// A name of an instance: `NVIDIA A100-SXM4-80GB MIG 1g.10gb`.
const MARK: &str = " MIG ";

/// The GPU itself, or what it is divided into.
pub(super) fn divide(nvml: &Nvml, whole: GpuReading) -> Vec<GpuReading> {
    // One that does not answer cannot say what it is divided into: as a whole it is shown with its fault.
    let found = if whole.fault.is_some() { Ok(None) } else { instances(nvml, &whole) };
    match found {
        Ok(None) => vec![whole],
        Ok(Some(instances)) if instances.is_empty() => {
            vec![unusable(whole, "it is in MIG mode and not divided")]
        }
        Ok(Some(instances)) => instances,
        Err(error) => {
            let silent = GpuReading { silent: true, ..whole };
            vec![unusable(silent, &format!("its MIG instances cannot be read: {error}"))]
        }
    }
}

fn unusable(whole: GpuReading, why: &str) -> GpuReading {
    let index = whole.gpu.index;
    GpuReading { fault: Some(format!("{why} (nvidia-smi mig -i {index} -lgi)")), ..whole }
}

/// `None`: it is not in MIG mode.
fn instances(nvml: &Nvml, whole: &GpuReading) -> Result<Option<Vec<GpuReading>>, NvmlError> {
    let device = nvml.device_by_index(whole.gpu.index)?;
    // GPUs without the mode, and drivers that do not know it, have it off.
    if !device.mig_mode().is_ok_and(|mode| mode.current != 0) {
        return Ok(None);
    }
    let places = device.mig_device_count()?;
    let mut found = Vec::new();
    for place in 0..places {
        // Places may be empty between others.
        if let Some(part) = optional(device.mig_device_by_index(place))? {
            found.push(instance(&part, whole)?);
        }
    }
    Ok(Some(found))
}

fn instance(device: &Device<'_>, whole: &GpuReading) -> Result<GpuReading, NvmlError> {
    let (uuid, name, memory) = (device.uuid()?, device.name()?, device.memory_info()?);
    let profile = match name.split_once(MARK) {
        Some((_, profile)) => profile.to_owned(),
        // Drivers that name only the whole GPU: what the profile says, from what it is made of.
        None => {
            let slices = device.attributes().map_or(0, |attributes| attributes.gpu_instance_slice_count);
            format!("{slices}g.{}gb", (memory.total + (1 << 29)) >> 30)
        }
    };
    let gpu = Gpu {
        uuid,
        memory_bytes: memory.total,
        memory_free_bytes: memory.free,
        utilisation_percent: 0,
        mig: Some(profile),
        parent: Some(whole.gpu.uuid.clone()),
        nvlink: None,
        ..whole.gpu.clone()
    };
    let processes = device::processes(device)?;
    // Utilisation of a part is not told, and that of the whole is everybody's.
    let reserved_bytes = memory.reserved;
    Ok(GpuReading { gpu, processes, reserved_bytes, tells_utilisation: false, ..whole.clone() })
}
