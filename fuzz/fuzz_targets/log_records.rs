//! Records that are no records are an error, never a panic, and both readers of them see the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longshore_common::logs::{decode, whole_records};

fuzz_target!(|data: &[u8]| {
    let whole = whole_records(data);
    let bytes = Bytes::copy_from_slice(data);
    let mut at = 0;
    loop {
        match decode(&bytes.slice(at..)) {
            Ok(Some((record, length))) => {
                assert!(length > record.data.len(), "a record has a head");
                at += length;
            }
            Ok(None) => {
                assert_eq!(whole.expect("every record was read"), at);
                break;
            }
            Err(_) => {
                assert!(whole.is_err(), "both readers see the same mistake");
                break;
            }
        }
    }
});
