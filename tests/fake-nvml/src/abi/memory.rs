//! ECC, and rows of memory that are replaced.

use super::{Device, INVALID_ARGUMENT, NOT_SUPPORTED, Return, SUCCESS, code, put, sound};
use libc::{c_int, c_longlong, c_uint, c_ulonglong};

const UNCORRECTED: c_uint = 1;
const REMAP_PENDING: c_uint = 144;
const REMAP_FAILURE: c_uint = 145;
const UNSIGNED_INT: c_uint = 1;

#[repr(C)]
#[derive(Debug)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: c_longlong,
    latency: c_longlong,
    value_type: c_uint,
    result: Return,
    value: c_ulonglong,
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    code(sound(device).and_then(|gpu| {
        let mode = c_uint::from(gpu.ecc.ok_or(NOT_SUPPORTED)?);
        // SAFETY: passed on.
        unsafe { put(current, mode).and_then(|()| put(pending, mode)) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Device,
    kind: c_uint,
    _counter: c_uint,
    out: *mut c_ulonglong,
) -> Return {
    code(sound(device).and_then(|gpu| {
        if let Some(error) = gpu.memory_error {
            return Err(error);
        }
        if gpu.ecc != Some(true) {
            return Err(NOT_SUPPORTED);
        }
        // SAFETY: passed on.
        unsafe { put(out, if kind == UNCORRECTED { gpu.uncorrected } else { 0 }) }
    }))
}

/// # Safety
/// As NVML's: `values` holds `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: Device,
    count: c_int,
    values: *mut FieldValue,
) -> Return {
    code(sound(device).and_then(|gpu| {
        let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
        if values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        if let Some(error) = gpu.memory_error {
            return Err(error);
        }
        // SAFETY: not null, and as long as the caller says.
        for value in unsafe { std::slice::from_raw_parts_mut(values, count) } {
            value.value_type = UNSIGNED_INT;
            (value.result, value.value) = match value.field {
                REMAP_PENDING => (SUCCESS, gpu.remap_pending.into()),
                REMAP_FAILURE => (SUCCESS, gpu.remap_failed.into()),
                _ => (NOT_SUPPORTED, 0),
            };
        }
        Ok(())
    }))
}
