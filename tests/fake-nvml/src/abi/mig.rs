//! Parts of GPUs in MIG mode.

use super::{Device, NOT_FOUND, Return, code, handle, put, sound};
use libc::c_uint;

/// So many parts a GPU has at most.
const PARTS: c_uint = 7;

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|gpu| unsafe { put(out, if gpu.mig { PARTS } else { 0 }) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Device,
    index: c_uint,
    out: *mut Device,
) -> Return {
    code(sound(device).and_then(|gpu| {
        let part = gpu.instances.get(index as usize).filter(|_| gpu.mig).ok_or(NOT_FOUND)?;
        let part = handle(&gpu.part(part))?;
        // SAFETY: passed on.
        unsafe { put(out, part) }
    }))
}
