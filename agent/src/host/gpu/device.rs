//! One whole GPU: who it is, where it sits, what is on it, and how it does.

use super::optional;
use crate::host::{GpuProcess, GpuReading, MemoryErrors, process};
use longshore_common::agent::Gpu;
use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    enums::device::{SampleValue, UsedGpuMemory},
    error::NvmlError,
    struct_wrappers::device::ProcessInfo,
    structs::device::FieldId,
    sys_exports::field_id::{NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING},
};
use std::collections::BTreeSet;

/// `before`: what it was when it answered last.
pub(super) fn read(nvml: &Nvml, index: u32, before: Option<&Gpu>) -> GpuReading {
    let mut known = before.cloned().unwrap_or_default();
    known.index = index;
    let device = match nvml.device_by_index(index) {
        Ok(device) => device,
        Err(error) => return ill(known, &error),
    };
    // Identity first: a GPU that fails later still has its name.
    if let Err(error) = identify(&device, &mut known) {
        return ill(known, &error);
    }
    sensors(&device, &mut known);
    match measure(&device, &mut known) {
        Ok(Measured { processes, reserved_bytes, tells_utilisation }) => GpuReading {
            memory_errors: memory_errors(&device),
            gpu: known,
            processes,
            reserved_bytes,
            tells_utilisation,
            ..GpuReading::default()
        },
        Err(error) => ill(known, &error),
    }
}

fn ill(mut gpu: Gpu, error: &NvmlError) -> GpuReading {
    gpu.memory_free_bytes = 0;
    gpu.utilisation_percent = 0;
    gpu.throttled.clear();
    (gpu.temperature_c, gpu.power_watts) = (None, None);
    let lost = matches!(error, NvmlError::GpuLost);
    let fault = if lost { "it has fallen off the bus".to_owned() } else { error.to_string() };
    GpuReading { gpu, fault: Some(fault), silent: true, lost, ..GpuReading::default() }
}

fn identify(device: &Device<'_>, gpu: &mut Gpu) -> Result<(), NvmlError> {
    let (uuid, model) = (device.uuid()?, device.name()?);
    if gpu.uuid == uuid && gpu.model == model && !gpu.pci.is_empty() {
        return Ok(());
    }
    // Another GPU than before at this place: nothing of that one counts.
    *gpu = Gpu { index: gpu.index, uuid, model, ..Gpu::default() };
    let version = optional(device.cuda_compute_capability())?;
    gpu.capability = version
        .and_then(|version| Some((u16::try_from(version.major).ok()?, u16::try_from(version.minor).ok()?)));
    gpu.pci = optional(device.pci_info())?.map(|pci| pci.bus_id).unwrap_or_default();
    // A machine of one node answers with a number that is none.
    gpu.numa = optional(device.numa_node_id())?.filter(|node| i32::try_from(*node).is_ok());
    Ok(())
}

/// Whatever cannot be told is not known: a GPU that is really ill does not answer `measure`.
fn sensors(device: &Device<'_>, gpu: &mut Gpu) {
    gpu.temperature_c = device.temperature(TemperatureSensor::Gpu).ok();
    gpu.power_watts = device.power_usage().ok().map(watts);
    gpu.power_limit_watts = device.enforced_power_limit().ok().map(watts);
    gpu.ecc = device.is_ecc_enabled().ok().map(|mode| mode.currently_enabled);
    gpu.throttled = device.current_throttle_reasons().map(throttled).unwrap_or_default();
}

const fn watts(milliwatts: u32) -> u32 {
    milliwatts.saturating_add(500) / 1000
}

/// Running at its power limit is how a busy GPU is meant to be, and is not told.
fn throttled(reasons: ThrottleReasons) -> Vec<String> {
    let thermal = ThrottleReasons::HW_THERMAL_SLOWDOWN | ThrottleReasons::SW_THERMAL_SLOWDOWN;
    let named = thermal | ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN;
    let mut told = Vec::new();
    if reasons.intersects(thermal) {
        told.push("thermal".to_owned());
    }
    if reasons.contains(ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN) {
        told.push("power brake".to_owned());
    }
    if reasons.contains(ThrottleReasons::HW_SLOWDOWN) && !reasons.intersects(named) {
        told.push("hardware slowdown".to_owned());
    }
    told
}

struct Measured {
    processes: Vec<GpuProcess>,
    reserved_bytes: u64,
    tells_utilisation: bool,
}

fn measure(device: &Device<'_>, gpu: &mut Gpu) -> Result<Measured, NvmlError> {
    let memory = device.memory_info()?;
    gpu.memory_bytes = memory.total;
    gpu.memory_free_bytes = memory.free;
    // Not told in MIG mode and by some virtual GPUs.
    let rates = optional(device.utilization_rates())?;
    gpu.utilisation_percent = rates.as_ref().map_or(0, |rates| rates.gpu.min(100));
    Ok(Measured {
        processes: processes(device)?,
        reserved_bytes: memory.reserved,
        tells_utilisation: rates.is_some(),
    })
}

pub(super) fn processes(device: &Device<'_>) -> Result<Vec<GpuProcess>, NvmlError> {
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

fn told(process: &ProcessInfo, graphics: bool) -> GpuProcess {
    let memory = match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => bytes,
        UsedGpuMemory::Unavailable => 0,
    };
    process::describe(process.pid, memory, graphics)
}

/// A question that fails says nothing, least of all that all is well.
fn memory_errors(device: &Device<'_>) -> MemoryErrors {
    let fields = [FieldId(NVML_FI_DEV_REMAPPED_PENDING), FieldId(NVML_FI_DEV_REMAPPED_FAILURE)];
    let [pending, worn_out] = match known(device.field_values_for(&fields)) {
        Some(told) => {
            let mut told = told.unwrap_or_default().into_iter();
            [(); 2].map(|()| told.next().map_or(Some(false), |sample| is_set(sample.and_then(|it| it.value))))
        }
        None => [None, None],
    };
    // Older GPUs retire pages instead of remapping rows.
    let retiring = known(device.are_pages_pending_retired()).map(Option::unwrap_or_default);
    let uncorrected = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
    MemoryErrors {
        uncorrected: known(uncorrected).map(Option::unwrap_or_default),
        needs_reset: match (pending, retiring) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        worn_out,
    }
}

/// What the GPU says, if it knows of that at all; `None`: it could not be asked.
fn known<T>(told: Result<T, NvmlError>) -> Option<Option<T>> {
    match told {
        // Of a field that is younger than the driver.
        Err(NvmlError::InvalidArg) => Some(None),
        told => optional(told).ok(),
    }
}

fn is_set(value: Result<SampleValue, NvmlError>) -> Option<bool> {
    match known(value)? {
        Some(SampleValue::U32(value)) => Some(value != 0),
        Some(SampleValue::U64(value)) => Some(value != 0),
        Some(SampleValue::I64(value)) => Some(value != 0),
        Some(SampleValue::F64(_)) | None => Some(false),
    }
}
