//! The folder and the name of this test process. Everything it makes is under the one, or carries the other.

use super::guard;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// What containers, images and queues of this test process are marked with.
pub fn run_id() -> String {
    format!("live-{}", std::process::id())
}

/// The folder of this test process; gone when it ends.
pub fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        // Not /tmp: where that is memory, what containers write to /out would count as theirs.
        let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let path = parent.join(format!("longshore-{}", run_id()));
        fs::create_dir_all(&path).expect("make the folder for test data");
        guard::start(&path);
        path
    })
}

/// A new empty folder.
pub fn fresh_dir(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = base().join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&path).expect("make a folder for test data");
    path
}
