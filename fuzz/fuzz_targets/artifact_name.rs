//! A name that is called contained stays inside its folder, whatever it is joined to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_common::artifact::is_contained;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::{Component, Path}};

fuzz_target!(|name: &[u8]| {
    if is_contained(name) {
        let path = Path::new(OsStr::from_bytes(name));
        assert!(!name.is_empty() && !name.contains(&0));
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        assert!(Path::new("/out").join(path).starts_with("/out"));
    }
});
