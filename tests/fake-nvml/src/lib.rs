//! NVML's C ABI over a described set of GPUs, so that the real wrapper code runs without a GPU. The description is
//! read anew at every call: a test changes the file, and the GPUs change. Owns no behaviour beyond what Longshore
//! calls; a function that is not here is "not found", as with an old driver.

mod abi;
mod describe;

pub use describe::{Description, Event, Fault, Gpu, Instance, Process};

use std::path::{Path, PathBuf};

/// The description's path, when it does not lie beside the library.
pub const VARIABLE: &str = "FAKE_NVML";

/// Where cargo put the library: beside the test that asks.
pub fn built_library() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let library = test.with_file_name("libfake_nvml.so");
    assert!(library.exists(), "{} is not there: build the whole test with cargo", library.display());
    library
}

/// The library's own copy in a folder, for a test that shares the process with others: each copy plays its own
/// description, `description_of` its path.
pub fn install(folder: &Path) -> PathBuf {
    let copy = folder.join("libnvidia-ml.so.1");
    std::fs::copy(built_library(), &copy).expect("copy the fake NVML");
    copy
}

/// Where a copy of the library looks for its description.
pub fn description_of(library: &Path) -> PathBuf {
    library.with_extension("json")
}
