//! Bytes of one stream to records: a record ends at `\n`, at `\r` (progress bars) or at `\r\n`. Pure; the records
//! of a stream, joined, are exactly what came in.

use longshore_common::logs::MAX_PAYLOAD;

/// One stream's line that has not ended yet; always shorter than [`MAX_PAYLOAD`].
#[derive(Debug, Default)]
pub(super) struct Splitter {
    carry: Vec<u8>,
}

impl Splitter {
    /// Gives every record that `data` completes to `emit`, with whether its line goes on.
    pub(super) fn push(&mut self, data: &[u8], mut emit: impl FnMut(&[u8], bool)) {
        let mut rest = data;
        while let Some(first) = rest.first() {
            if self.carry.ends_with(b"\r") {
                let length = usize::from(*first == b'\n');
                self.end_line(&rest[..length], &mut emit);
                rest = &rest[length..];
                continue;
            }
            match line_length(rest) {
                Some(length) => {
                    self.end_line(&rest[..length], &mut emit);
                    rest = &rest[length..];
                }
                None => return self.keep(rest, &mut emit),
            }
        }
    }

    /// Whether [`Self::flush`] would give something.
    pub(super) fn is_pending(&self) -> bool {
        self.carry.len() > incomplete_character(&self.carry)
    }

    /// Gives the unfinished line as far as it came, but for a character that has not come whole.
    pub(super) fn flush(&mut self, emit: impl FnOnce(&[u8], bool)) {
        let length = self.carry.len() - incomplete_character(&self.carry);
        if length > 0 {
            emit(&self.carry[..length], !self.carry[..length].ends_with(b"\r"));
            self.carry.drain(..length);
        }
    }

    /// The stream has ended: gives what is left. Returns with nothing kept.
    pub(super) fn finish(&mut self, emit: impl FnOnce(&[u8], bool)) {
        if !self.carry.is_empty() {
            emit(&self.carry, false);
        }
        self.carry = Vec::new();
    }

    fn end_line(&mut self, line: &[u8], emit: &mut impl FnMut(&[u8], bool)) {
        if self.carry.is_empty() {
            let last = pieces(line, MAX_PAYLOAD, emit);
            emit(last, false);
        } else {
            self.carry.extend_from_slice(line);
            let last = pieces(&self.carry, MAX_PAYLOAD, emit);
            emit(last, false);
            self.carry.clear();
        }
    }

    fn keep(&mut self, rest: &[u8], emit: &mut impl FnMut(&[u8], bool)) {
        self.carry.extend_from_slice(rest);
        let kept = pieces(&self.carry, MAX_PAYLOAD - 1, emit).len();
        self.carry.drain(..self.carry.len() - kept);
    }
}

/// Length of the first line of `bytes` with its ending; `None` if that is not there yet, or a `\r` is the last byte
/// and its `\n` may follow.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let at = memchr::memchr2(b'\n', b'\r', bytes)?;
    if bytes[at] == b'\n' {
        return Some(at + 1);
    }
    bytes.get(at + 1).map(|next| at + 1 + usize::from(*next == b'\n'))
}

/// Emits partial records off the front of a line until what is left is at most `most` long, and returns that.
fn pieces<'a>(line: &'a [u8], most: usize, emit: &mut impl FnMut(&[u8], bool)) -> &'a [u8] {
    let mut rest = line;
    while rest.len() > most {
        let (piece, after) = rest.split_at(cut(rest));
        emit(piece, true);
        rest = after;
    }
    rest
}

/// Where to cut a line that is too long: neither inside a character nor between `\r` and `\n`.
fn cut(line: &[u8]) -> usize {
    let most = MAX_PAYLOAD.min(line.len());
    if line[most - 1] == b'\r' { most - 1 } else { most - incomplete_character(&line[..most]) }
}

/// How many bytes at the end begin a UTF-8 character that is not complete.
fn incomplete_character(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when `data` comes in chunks that end at `cuts`, with a flush after some of them.
    fn records(data: &[u8], cuts: &[(usize, bool)]) -> Vec<(Vec<u8>, bool)> {
        let mut out = Vec::new();
        let mut splitter = Splitter::default();
        let mut from = 0;
        for (length, flush) in cuts {
            let to = (from + length).min(data.len());
            splitter.push(&data[from..to], |record, partial| out.push((record.to_vec(), partial)));
            if *flush {
                splitter.flush(|record, partial| out.push((record.to_vec(), partial)));
            }
            from = to;
        }
        splitter.push(&data[from..], |record, partial| out.push((record.to_vec(), partial)));
        splitter.finish(|record, partial| out.push((record.to_vec(), partial)));
        out
    }

    fn texts(records: &[(Vec<u8>, bool)]) -> Vec<(&str, bool)> {
        records.iter().map(|(bytes, partial)| (std::str::from_utf8(bytes).unwrap(), *partial)).collect()
    }

    #[test]
    fn lines_end_at_newline_return_or_both() {
        let all = [("a\n", false), ("b\r", false), ("c\r\n", false), ("\n", false), ("d", false)];
        let data = b"a\nb\rc\r\n\nd";
        assert_eq!(texts(&records(data, &[])), all);
        let bytewise: Vec<_> = data.iter().map(|_| (1, false)).collect();
        assert_eq!(texts(&records(data, &bytewise)), all, "the borders of chunks do not show");
    }

    #[test]
    fn an_unfinished_line_is_partial_and_goes_on() {
        let out = records(b"12%|##\r99%|####\rdone\n", &[(4, true), (4, true)]);
        let expected =
            [("12%|", true), ("##\r", false), ("9", true), ("9%|####\r", false), ("done\n", false)];
        assert_eq!(texts(&out), expected);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = format!("x{}\n", "€".repeat(40_000));
        let out = records(line.as_bytes(), &[]);
        assert!(out.len() > 3);
        assert_eq!(texts(&out).concat_text(), line);
        assert!(out.iter().rev().skip(1).all(|(_, partial)| *partial));
        assert!(!out.last().unwrap().1);
    }

    #[test]
    fn a_long_line_keeps_its_ending_in_one_record() {
        for extra in 0..4 {
            let line = [vec![b'x'; MAX_PAYLOAD - 2 + extra], b"\r\n".to_vec()].concat();
            for cuts in [vec![], vec![(line.len() - 1, false)], vec![(line.len() - 2, false)]] {
                let out = records(&line, &cuts);
                assert!(out.last().unwrap().0.ends_with(b"\r\n"), "{extra} {cuts:?}");
            }
        }
    }

    trait ConcatText {
        fn concat_text(&self) -> String;
    }

    impl ConcatText for Vec<(&str, bool)> {
        fn concat_text(&self) -> String {
            self.iter().map(|(text, _)| *text).collect()
        }
    }

    fn noisy() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            3 => Just(b"\r\n".to_vec()),
            3 => Just(b"\n".to_vec()),
            3 => Just(b"\r".to_vec()),
            6 => Just("é€😀".as_bytes().to_vec()),
            6 => prop::collection::vec(any::<u8>(), 1..20),
            1 => (MAX_PAYLOAD - 3..MAX_PAYLOAD + 3).prop_map(|n| vec![b'z'; n]),
            1 => (0..3_usize).prop_map(|n| [vec![b'q'; n], "😀".repeat(20_000).into_bytes()].concat()),
        ];
        prop::collection::vec(byte, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn joined_records_are_what_came_in(
            data in noisy(),
            cuts in prop::collection::vec((0..5_000_usize, any::<bool>()), 0..12),
        ) {
            let out = records(&data, &cuts);
            let joined: Vec<u8> = out.iter().flat_map(|(record, _)| record.clone()).collect();
            prop_assert_eq!(joined, data);
            prop_assert!(out.iter().all(|(record, _)| !record.is_empty() && record.len() <= MAX_PAYLOAD));
        }

        #[test]
        fn characters_stay_whole(
            text in "([a-z]|é|€|😀|\n|\r){0,3000}",
            cuts in prop::collection::vec((0..700_usize, any::<bool>()), 0..12),
        ) {
            for (record, _) in records(text.as_bytes(), &cuts) {
                prop_assert!(std::str::from_utf8(&record).is_ok());
            }
        }

        #[test]
        fn chunk_borders_do_not_change_records_without_flushes(
            data in noisy(),
            cuts in prop::collection::vec(0..5_000_usize, 0..12),
        ) {
            let cuts: Vec<_> = cuts.into_iter().map(|length| (length, false)).collect();
            let joined = |records: Vec<(Vec<u8>, bool)>| {
                // Partial pieces may be cut elsewhere; lines may not.
                let mut lines = vec![Vec::new()];
                for (record, partial) in records {
                    lines.last_mut().unwrap().extend(record);
                    if !partial { lines.push(Vec::new()); }
                }
                lines
            };
            prop_assert_eq!(joined(records(&data, &cuts)), joined(records(&data, &[])));
        }
    }
}
