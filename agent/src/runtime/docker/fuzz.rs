//! What must hold of the engine's log whatever frames come: asserted here for the fuzz targets, which see no more of it
//! than this. Nothing of the agent calls it.

use super::join::{Join, taken_at};
use crate::runtime::Counts;
use bytes::Bytes;
use longshore_common::logs::Stream;

/// What was seen before is skipped to the byte, and what follows is the same. But for the newline at the very end, which
/// may be the driver's own.
pub fn frames(frames: &[(bool, Bytes)], seen: u64) {
    let all = read(frames, Counts::default());
    let rest = read(frames, Counts { stdout: seen, stderr: seen });
    for (whole, rest) in [(&all.0, &rest.0), (&all.1, &rest.1)] {
        let from = usize::try_from(seen).unwrap_or(usize::MAX).min(whole.len());
        let expected = &whole[from..];
        let held = expected.strip_suffix(b"\n").is_some_and(|but_the_last| but_the_last == &rest[..]);
        assert!(held || expected == &rest[..], "{expected:?} is not {rest:?}");
    }
}

fn read(frames: &[(bool, Bytes)], seen: Counts) -> (Vec<u8>, Vec<u8>) {
    let mut join = Join::skipping(seen);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for (is_stderr, frame) in frames {
        let _timed = taken_at(frame);
        let (stream, out) =
            if *is_stderr { (Stream::Stderr, &mut stderr) } else { (Stream::Stdout, &mut stdout) };
        let Ok(pieces) = join.feed(stream, frame.clone()) else { break };
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    }
    (stdout, stderr)
}
