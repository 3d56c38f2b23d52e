//! The C functions, with the types of NVML 12's header.

mod events;
mod facts;
mod memory;
mod mig;

use crate::describe::{Description, Fault, Gpu};
use libc::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::{
    ffi::{CStr, OsStr},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

type Return = c_uint;
const SUCCESS: Return = 0;
const UNINITIALIZED: Return = 1;
const INVALID_ARGUMENT: Return = 2;
const NOT_SUPPORTED: Return = 3;
const NOT_FOUND: Return = 6;
const INSUFFICIENT_SIZE: Return = 7;
const DRIVER_NOT_LOADED: Return = 9;
const GPU_IS_LOST: Return = 15;
const UNKNOWN: Return = 999;

const MIB: u64 = 1 << 20;

/// Between two looks at the description by a call that waits.
const LOOK: Duration = Duration::from_millis(5);

/// A pointer to nothing: the number of the GPU's UUID among those ever seen, plus one.
type Device = *mut c_void;

#[repr(C)]
#[derive(Debug)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
#[derive(Debug)]
pub struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[repr(C)]
#[derive(Debug)]
pub struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[repr(C)]
#[derive(Debug)]
pub struct ProcessInfo {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

#[derive(Debug)]
struct Library {
    /// Inits minus shutdowns.
    users: u32,
    /// UUIDs behind the handles given out.
    seen: Vec<String>,
    /// Events delivered.
    told: usize,
}

static LIBRARY: Mutex<Library> = Mutex::new(Library { users: 0, seen: Vec::new(), told: 0 });

fn library() -> MutexGuard<'static, Library> {
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The description's path: the variable, or beside this library.
fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(crate::VARIABLE) {
        return Some(path.into());
    }
    // SAFETY: an all-zero Dl_info is valid, and dladdr fills it for an address of this very library, whose name
    // lives as long as the library is loaded.
    let file = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr((&raw const LIBRARY).cast(), &raw mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname).to_bytes().to_owned()
    };
    Some(crate::description_of(OsStr::from_bytes(&file).as_ref()))
}

/// The GPUs now; no file is no driver. Read again only when the file was replaced: a machine of many GPUs asks
/// hundreds of questions at each look.
fn described() -> Result<Description, Return> {
    static READ: Mutex<Option<(Version, Description)>> = Mutex::new(None);
    let path = path().ok_or(DRIVER_NOT_LOADED)?;
    let file = fs::metadata(&path).map_err(|_| DRIVER_NOT_LOADED)?;
    let version = (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, description)) = &*read
        && *of == version
    {
        return Ok(description.clone());
    }
    let description = Description::read(&path).map_err(|_| DRIVER_NOT_LOADED)?;
    *read = Some((version, description.clone()));
    Ok(description)
}

/// Tells one file of this name from the next: its number, its time and its length.
type Version = (u64, i64, i64, u64);

/// Waits for as long as the driver hangs.
fn initialised() -> Result<Description, Return> {
    loop {
        let description = awake()?;
        if !description.hang {
            return Ok(description);
        }
        thread::sleep(LOOK);
    }
}

/// As `initialised`, for what a hanging driver answers too.
fn awake() -> Result<Description, Return> {
    if library().users == 0 { Err(UNINITIALIZED) } else { described() }
}

/// A whole GPU, or a part of one, with the whole one's place.
fn gpu(device: Device) -> Result<(usize, Gpu), Return> {
    let description = initialised()?;
    let uuid = {
        let library = library();
        let number = (device as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        library.seen.get(number).cloned().ok_or(INVALID_ARGUMENT)?
    };
    let found = description.gpus.into_iter().enumerate().find_map(|(index, gpu)| {
        if gpu.uuid == uuid {
            return Some((index, gpu));
        }
        let part = gpu.instances.iter().find(|instance| instance.uuid == uuid)?;
        Some((index, gpu.part(part)))
    });
    // A GPU that was there and is not any more is what NVML calls lost.
    let (index, gpu) = found.ok_or(GPU_IS_LOST)?;
    if gpu.fault == Some(Fault::Lost) { Err(GPU_IS_LOST) } else { Ok((index, gpu)) }
}

/// A GPU that must be well for this question.
fn sound(device: Device) -> Result<Gpu, Return> {
    let (_, gpu) = gpu(device)?;
    match gpu.fault {
        None => Ok(gpu),
        Some(Fault::Confused) => Err(UNKNOWN),
        Some(Fault::Lost | Fault::Failing) => Err(GPU_IS_LOST),
    }
}

fn handle(gpu: &Gpu) -> Result<Device, Return> {
    if gpu.fault == Some(Fault::Lost) {
        return Err(GPU_IS_LOST);
    }
    let mut library = library();
    let number = library.seen.iter().position(|uuid| *uuid == gpu.uuid).unwrap_or_else(|| {
        library.seen.push(gpu.uuid.clone());
        library.seen.len() - 1
    });
    Ok((number + 1) as Device)
}

fn code(result: Result<(), Return>) -> Return {
    result.err().unwrap_or(SUCCESS)
}

/// # Safety
/// `out` is null or valid for a write.
unsafe fn put<T>(out: *mut T, value: T) -> Result<(), Return> {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and valid by this function's contract.
    unsafe { out.write(value) };
    Ok(())
}

/// # Safety
/// `out` is null or valid for writes of `length` bytes.
unsafe fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Result<(), Return> {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the text and its NUL fit into `length` bytes, which are valid by this function's contract.
    unsafe {
        out.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        out.add(text.len()).write(0);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Return {
    match described() {
        Ok(Description { init_error: Some(error), .. }) | Err(error) => error,
        Ok(_) => {
            library().users += 1;
            SUCCESS
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Return {
    nvmlInit_v2()
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Return {
    let mut library = library();
    match library.users.checked_sub(1) {
        Some(users) => {
            library.users = users;
            SUCCESS
        }
        None => UNINITIALIZED,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_code: Return) -> *const c_char {
    c"an error of the fake NVML".as_ptr()
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) -> Return {
    // SAFETY: passed on.
    code(initialised().and_then(|description| unsafe { put_text(out, length, &description.driver) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(out: *mut c_char, length: c_uint) -> Return {
    // SAFETY: passed on.
    code(
        initialised()
            .and_then(|description| unsafe { put_text(out, length, &format!("12.{}", description.driver)) }),
    )
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(out: *mut c_int) -> Return {
    // SAFETY: passed on.
    code(initialised().and_then(|_| unsafe { put(out, 12_040) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    code(initialised().and_then(|description| unsafe { put(out, description.gpus.len() as c_uint) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut Device) -> Return {
    code(initialised().and_then(|description| {
        let gpu = description.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        // SAFETY: passed on.
        handle(gpu).and_then(|device| unsafe { put(out, device) })
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: *mut Device) -> Return {
    if uuid.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and NUL-terminated by NVML's contract.
    let uuid = unsafe { CStr::from_ptr(uuid) }.to_bytes();
    code(initialised().and_then(|description| {
        let gpu = description.gpus.iter().find(|gpu| gpu.uuid.as_bytes() == uuid).ok_or(NOT_FOUND)?;
        // SAFETY: passed on.
        handle(gpu).and_then(|device| unsafe { put(out, device) })
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetIndex(device: Device, out: *mut c_uint) -> Return {
    // SAFETY: passed on.
    code(gpu(device).and_then(|(index, _)| unsafe { put(out, index as c_uint) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: Device, out: *mut c_char, length: c_uint) -> Return {
    // SAFETY: passed on.
    code(gpu(device).and_then(|(_, gpu)| unsafe { put_text(out, length, &gpu.uuid) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: Device, out: *mut c_char, length: c_uint) -> Return {
    // SAFETY: passed on.
    code(gpu(device).and_then(|(_, gpu)| unsafe { put_text(out, length, &gpu.model) }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Device, out: *mut Memory) -> Return {
    code(sound(device).and_then(|gpu| {
        let (total, used) = (gpu.memory_mib * MIB, (gpu.used_mib() + gpu.reserved_mib) * MIB);
        // SAFETY: passed on.
        unsafe { put(out, Memory { total, free: total.saturating_sub(used), used }) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Device, out: *mut MemoryV2) -> Return {
    const VERSION: c_uint = size_of::<MemoryV2>() as c_uint | 2 << 24;
    code(sound(device).and_then(|gpu| {
        // SAFETY: a caller that passes a version has passed the whole structure.
        if out.is_null() || unsafe { (*out).version } != VERSION {
            return Err(INVALID_ARGUMENT);
        }
        let (total, used, reserved) = (gpu.memory_mib * MIB, gpu.used_mib() * MIB, gpu.reserved_mib * MIB);
        let free = total.saturating_sub(used + reserved);
        // SAFETY: passed on.
        unsafe { put(out, MemoryV2 { version: VERSION, total, reserved, free, used }) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(device: Device, out: *mut Utilization) -> Return {
    code(sound(device).and_then(|gpu| {
        if gpu.mig {
            return Err(NOT_SUPPORTED);
        }
        // SAFETY: passed on.
        unsafe { put(out, Utilization { gpu: gpu.utilisation, memory: 0 }) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Return {
    code(sound(device).and_then(|gpu| {
        let mode = c_uint::from(gpu.mig);
        // SAFETY: passed on.
        unsafe { put(current, mode).and_then(|()| put(pending, mode)) }
    }))
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> Return {
    // SAFETY: passed on.
    unsafe { processes(device, count, out, false) }
}

/// # Safety
/// As NVML's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> Return {
    // SAFETY: passed on.
    unsafe { processes(device, count, out, true) }
}

/// # Safety
/// `count` is null or valid, and `out` holds as many elements as it says.
unsafe fn processes(device: Device, count: *mut c_uint, out: *mut ProcessInfo, graphics: bool) -> Return {
    code(sound(device).and_then(|gpu| {
        let running: Vec<_> = gpu.processes.iter().filter(|process| process.graphics == graphics).collect();
        if count.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not null, and valid by this function's contract.
        let room = unsafe { count.replace(running.len() as c_uint) } as usize;
        if running.len() > room {
            return Err(INSUFFICIENT_SIZE);
        }
        for (place, process) in running.iter().enumerate() {
            let info = ProcessInfo {
                pid: process.pid,
                used_gpu_memory: process.memory_mib * MIB,
                gpu_instance_id: u32::MAX,
                compute_instance_id: u32::MAX,
            };
            // SAFETY: `place` is below the room the caller has said there is.
            unsafe { put(out.add(place), info)? };
        }
        Ok(())
    }))
}
