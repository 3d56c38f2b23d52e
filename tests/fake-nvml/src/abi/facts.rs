//! What a GPU is, where it sits, and its sensors.

use super::{Device, INVALID_ARGUMENT, NOT_SUPPORTED, Return, code, gpu, put, put_text, sound};
use libc::{c_char, c_int, c_uint, c_ulonglong};

const NVLINK: c_uint = 2;
const CONNECTED: c_uint = 0;
const NOT_CONNECTED: c_uint = 5;

#[repr(C)]
#[derive(Debug)]
pub struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_sub_system_id: c_uint,
    bus_id: [c_char; 32],
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Device,
    major: *mut c_int,
    minor: *mut c_int,
) -> Return {
    code(gpu(device).and_then(|(_, gpu)| {
        // SAFETY: passed on.
        unsafe { put(major, gpu.capability.0).and_then(|()| put(minor, gpu.capability.1)) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, out: *mut PciInfo) -> Return {
    code(gpu(device).and_then(|(_, gpu)| {
        let mut info = PciInfo {
            bus_id_legacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pci_device_id: 0,
            pci_sub_system_id: 0,
            bus_id: [0; 32],
        };
        // SAFETY: the buffer is ours and as long as is said.
        unsafe { put_text(info.bus_id.as_mut_ptr(), 32, &gpu.pci) }?;
        // SAFETY: passed on.
        unsafe { put(out, info) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNumaNodeId(device: Device, out: *mut c_uint) -> Return {
    code(gpu(device).and_then(|(_, gpu)| {
        let node = gpu.numa.ok_or(NOT_SUPPORTED)?;
        // SAFETY: passed on.
        unsafe { put(out, node) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetP2PStatus(
    one: Device,
    other: Device,
    what: c_uint,
    out: *mut c_uint,
) -> Return {
    code(gpu(one).and_then(|(_, one)| {
        let (_, other) = gpu(other)?;
        if what != NVLINK {
            return Err(INVALID_ARGUMENT);
        }
        let connected = one.nvlink.is_some() && one.nvlink == other.nvlink;
        // SAFETY: passed on.
        unsafe { put(out, if connected { CONNECTED } else { NOT_CONNECTED }) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Device,
    _sensor: c_uint,
    out: *mut c_uint,
) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|gpu| unsafe { put(out, gpu.temperature) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|gpu| unsafe { put(out, gpu.power_mw) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|gpu| unsafe { put(out, gpu.power_limit_mw) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: Device,
    out: *mut c_ulonglong,
) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|gpu| unsafe { put(out, gpu.throttle) }))
}
