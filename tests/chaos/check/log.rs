//! A log is its numbered lines 1..N on each stream, once each and in order. Pure.

use crate::jobs::Order;
use longshore_proto::v1::{LogRecord, Stream};

/// How a record begins that marks what an engine lost.
const GAP: &[u8] = b"gap:";

pub(super) fn gaps(records: &[LogRecord]) -> u32 {
    let marked = |record: &&LogRecord| record.stream() == Stream::System && record.data.starts_with(GAP);
    u32::try_from(records.iter().filter(marked).count()).unwrap_or(u32::MAX)
}

/// `whole`: the program ran to its end, so the last line is there too.
pub(super) fn check(order: &Order, records: &[LogRecord], gaps: u32, whole: bool) -> Result<(), String> {
    for (stream, name, last) in
        [(Stream::Stdout, "stdout", order.stdout), (Stream::Stderr, "stderr", order.stderr)]
    {
        let text: Vec<u8> = records
            .iter()
            .filter(|record| record.stream() == stream)
            .flat_map(|record| record.data.clone())
            .collect();
        lines(&String::from_utf8_lossy(&text), last, gaps, whole)
            .map_err(|wrong| format!("{name}: {wrong}"))?;
    }
    let mut sequences = records.windows(2).map(|pair| (pair[0].sequence, pair[1].sequence));
    match sequences.find(|(one, next)| next <= one) {
        Some((one, next)) => Err(format!("record {next} comes after record {one}")),
        None => Ok(()),
    }
}

fn lines(text: &str, last: u32, gaps: u32, whole: bool) -> Result<(), String> {
    let (mut seen, mut torn) = (0, 0);
    for line in text.split_inclusive('\n') {
        let number = line.strip_suffix('\n').and_then(|line| line.parse::<u32>().ok());
        match number {
            Some(number) if number == seen + 1 => seen = number,
            // Lost in a gap that is marked.
            Some(number) if gaps > 0 && number > seen && number <= last => seen = number,
            // Cut off at a gap, or where the program was ended.
            _ if torn < gaps || !whole && !line.ends_with('\n') => torn += 1,
            _ => return Err(format!("after line {seen} of {last} comes {line:?}")),
        }
    }
    if whole && gaps == 0 && seen != last {
        return Err(format!("it ends after line {seen} of {last}"));
    }
    Ok(())
}
