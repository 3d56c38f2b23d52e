//! Errors that GPUs tell of, one at a time.

use super::{Device, LOOK, Return, SUCCESS, awake, code, handle, library, put, sound};
use libc::{c_uint, c_ulonglong, c_void};
use std::{
    thread,
    time::{Duration, Instant},
};

const TIMEOUT: Return = 10;
const XID_CRITICAL: c_ulonglong = 8;

/// Nothing is behind it: there is one row of events for all.
type EventSet = *mut c_void;

#[repr(C)]
#[derive(Debug)]
pub struct EventData {
    device: Device,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(out: *mut EventSet) -> Return {
    // SAFETY: passed on.
    code(unsafe { put(out, 1 as EventSet) })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(_set: EventSet) -> Return {
    SUCCESS
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Device, out: *mut c_ulonglong) -> Return {
    // SAFETY: passed on.
    code(sound(device).and_then(|_| unsafe { put(out, XID_CRITICAL) }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(device: Device, _types: c_ulonglong, _set: EventSet) -> Return {
    code(sound(device).map(|_| ()))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    _set: EventSet,
    out: *mut EventData,
    timeout_ms: c_uint,
) -> Return {
    let end = Instant::now() + Duration::from_millis(timeout_ms.into());
    loop {
        match next() {
            // SAFETY: passed on.
            Ok(Some(event)) => return code(unsafe { put(out, event) }),
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            Ok(None) => return TIMEOUT,
            Err(error) => return error,
        }
    }
}

fn next() -> Result<Option<EventData>, Return> {
    let description = awake()?;
    if let Some(error) = description.event_error {
        return Err(error);
    }
    let event = {
        let mut library = library();
        let Some(event) = description.events.get(library.told) else { return Ok(None) };
        library.told += 1;
        event
    };
    // An event has a handle also of a GPU that is lost.
    let gpu = crate::Gpu { uuid: event.gpu.clone(), ..crate::Gpu::default() };
    Ok(Some(EventData {
        device: handle(&gpu)?,
        event_type: XID_CRITICAL,
        event_data: event.xid,
        gpu_instance_id: u32::MAX,
        compute_instance_id: u32::MAX,
    }))
}
