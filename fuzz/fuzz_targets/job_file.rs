//! A job file is refused with places or becomes a spec that is valid, writes itself out, and reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_common::job::{file, validate};

fuzz_target!(|text: &str| {
    match file::parse(text, "fuzz.yaml") {
        Ok(jobs) => {
            // A run of an action has no image until its version gives it one.
            for job in jobs.into_iter().filter(|job| job.action.is_none()) {
                validate(&job.spec).expect("what was taken is valid");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
