//! Frames of the engine's log, in any cut: what an agent read before is skipped to the byte, never shown twice.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longshore_agent::runtime::docker::fuzz;

fuzz_target!(|data: &[u8]| {
    let Some(([seen], data)) = data.split_first_chunk() else { return };
    // Each frame: a byte of stream and length, then its bytes.
    let mut frames = Vec::new();
    let mut rest = data;
    while let Some((head, after)) = rest.split_first() {
        let length = usize::from(head >> 1).min(after.len());
        frames.push((head & 1 == 1, Bytes::copy_from_slice(&after[..length])));
        rest = &after[length..];
    }
    fuzz::frames(&frames, u64::from(*seen));
});
