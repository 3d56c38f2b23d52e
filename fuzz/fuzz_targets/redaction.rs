//! A secret is masked wherever a stream is cut, and no byte is lost on the way to a record.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_agent::logs::fuzz;

fuzz_target!(|data: &[u8]| {
    let Some(([length, piece], data)) = data.split_first_chunk() else { return };
    let (secret, stream) = data.split_at(usize::from(*length % 64).min(data.len()));
    fuzz::redaction(secret, stream, usize::from(*piece));
    fuzz::splitting(stream, usize::from(*piece));
});
