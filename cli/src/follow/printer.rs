//! Where a log's records go: the container's stdout to ours and nothing else to it, or every record as JSON or YAML.

use crate::output::{FormatArgs, Harmless, say};
use longshore_common::logs::{Record, Stream};
use longshore_common::wire;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is below the last line that is seen: a container may leave one without an end.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    inside: AtomicBool,
}

impl Screen {
    /// Says a line of our own, on a line of its own.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let start = if self.inside.swap(false, Ordering::Relaxed) { "\n" } else { "" };
        say(format!("{start}{}", line.as_ref()));
    }
}

/// A line that is said once, whoever sees the reason first.
#[derive(Debug)]
pub(crate) struct Announcement {
    line: String,
    screen: Arc<Screen>,
    told: AtomicBool,
}

impl Announcement {
    pub(crate) const fn new(line: String, screen: Arc<Screen>) -> Self {
        Self { line, screen, told: AtomicBool::new(false) }
    }

    pub(crate) fn tell(&self) {
        if !self.told.swap(true, Ordering::Relaxed) && !self.line.is_empty() {
            self.screen.say(&self.line);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Printer {
    timestamps: bool,
    /// Go on without a reader: the job is what matters.
    outlive_reader: bool,
    format: FormatArgs,
    /// Of the records that come.
    attempt: u32,
    /// In the order the records came, so that a terminal shows them so.
    pending: Vec<(Target, Vec<u8>)>,
    /// The last record of stdout and of stderr ended inside a line.
    inside: [bool; 2],
    /// Nobody reads stdout any more.
    closed: bool,
    /// Said before the first output of the container.
    first: Option<Arc<Announcement>>,
    screen: Arc<Screen>,
    /// A line that is open on stdout is open on stderr too.
    one_screen: bool,
    /// For stdout and stderr, where they are terminals.
    harmless: [Option<Harmless>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Out,
    Err,
}

impl Printer {
    pub(crate) fn new(timestamps: bool, outlive_reader: bool, format: FormatArgs) -> Self {
        let one_screen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let harmless = [std::io::stdout().is_terminal(), std::io::stderr().is_terminal()]
            .map(|terminal| terminal.then(Harmless::default));
        Self { timestamps, outlive_reader, format, one_screen, harmless, ..Self::default() }
    }

    /// Output may come sooner than the news that the container runs.
    pub(crate) fn before_output(mut self, announcement: Arc<Announcement>, screen: Arc<Screen>) -> Self {
        self.first = Some(announcement);
        self.screen = screen;
        self
    }

    /// The records that come are of this attempt.
    pub(super) fn begin(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    pub(super) fn add(&mut self, record: &Record) -> anyhow::Result<()> {
        if record.header.stream != Stream::System
            && let Some(first) = self.first.take()
        {
            // What was added so far is the agent's; it stands above.
            drop(write(&std::mem::take(&mut self.pending)));
            first.tell();
        }
        if self.format.is_for_scripts() {
            let item = self.format.item(&self.value(record))?;
            self.push(Target::Out, item.as_bytes());
        } else {
            self.add_text(record);
        }
        Ok(())
    }

    fn add_text(&mut self, record: &Record) {
        let stamp = self.timestamps.then(|| format!("{} ", wire::timestamp_to(record.header.time)));
        let (target, index) = match record.header.stream {
            Stream::Stdout => (Target::Out, 0),
            Stream::Stderr => (Target::Err, 1),
            Stream::System => {
                let text = String::from_utf8_lossy(&record.data);
                // A progress bar of the container's is not torn apart.
                let start = if self.inside[1] { "\n" } else { "" };
                self.inside[1] = false;
                let line = format!("{start}  {}{}\n", stamp.unwrap_or_default(), aligned(text.trim_end()));
                self.push(Target::Err, line.as_bytes());
                return;
            }
        };
        if let Some(stamp) = stamp.filter(|_| !self.inside[index]) {
            self.push(target, stamp.as_bytes());
        }
        self.inside[index] = !(record.data.ends_with(b"\n") || record.data.ends_with(b"\r"));
        self.push(target, &record.data);
    }

    /// Bytes that are no text are given as hex.
    fn value(&self, record: &Record) -> Value {
        let mut value = json!({
            "attempt": self.attempt,
            "time": wire::timestamp_to(record.header.time).to_string(),
            "stream": record.header.stream.as_str(),
            "partial": record.header.partial,
        });
        match std::str::from_utf8(&record.data) {
            Ok(text) => value["text"] = text.into(),
            Err(_) => value["hex"] = hex::encode(&record.data).into(),
        }
        value
    }

    fn push(&mut self, target: Target, bytes: &[u8]) {
        if target == Target::Out && self.closed {
            return;
        }
        let shown = match &mut self.harmless[usize::from(target == Target::Err)] {
            Some(harmless) => harmless.pass(bytes),
            None => bytes.to_vec(),
        };
        match self.pending.last_mut() {
            Some((last, buffer)) if *last == target => buffer.extend_from_slice(&shown),
            _ => self.pending.push((target, shown)),
        }
    }

    /// Writes what was added. A reader that does not read holds up the log, never Ctrl-C.
    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(());
        }
        let open = self.left_open(&pending);
        let written = tokio::task::spawn_blocking(move || write(&pending)).await?;
        if let Some(open) = open {
            self.screen.inside.store(open, Ordering::Relaxed);
        }
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe && self.outlive_reader => {
                self.closed = true;
                Ok(())
            }
            written => Ok(written?),
        }
    }

    /// Whether these bytes leave a line open where our own lines go; `None` if they go elsewhere.
    fn left_open(&self, pending: &[(Target, Vec<u8>)]) -> Option<bool> {
        let seen = |target: Target| target == Target::Err || self.one_screen;
        let last = pending.iter().rev().find(|(target, _)| seen(*target));
        last.map(|(_, bytes)| !bytes.ends_with(b"\n"))
    }
}

/// The agent's steps stand in one column with those of this command.
fn aligned(text: &str) -> String {
    match text.split_once(' ') {
        Some((step @ ("image" | "fetch" | "collect" | "pull"), rest)) => {
            format!("{step:<8} {}", rest.trim_start())
        }
        _ => text.to_owned(),
    }
}

fn write(pending: &[(Target, Vec<u8>)]) -> std::io::Result<()> {
    for (target, bytes) in pending {
        match target {
            Target::Out => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
            }
            // What cannot be said is not an error.
            Target::Err => drop(std::io::stderr().lock().write_all(bytes)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use longshore_common::{clock::Timestamp, logs::RecordHeader, tree::Value as Node};

    fn record(stream: Stream, data: &[u8]) -> Record {
        let header = RecordHeader { sequence: 0, time: Timestamp::from_micros(0), stream, partial: false };
        Record { header, data: data.to_vec().into() }
    }

    fn printed_by(mut printer: Printer, records: &[(Stream, &[u8])]) -> (String, String) {
        printer.begin(1);
        for (stream, data) in records {
            printer.add(&record(*stream, data)).expect("written");
        }
        let all = |wanted: Target| {
            let parts = printer.pending.iter().filter(|(target, _)| *target == wanted);
            parts.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
        };
        (all(Target::Out), all(Target::Err))
    }

    #[test]
    fn stdout_carries_the_containers_stdout_and_nothing_else() {
        let records: [(Stream, &[u8]); 5] = [
            (Stream::System, b"image ready"),
            (Stream::Stdout, b"12%\r"),
            (Stream::Stderr, b"warn"),
            (Stream::System, b"collecting\n"),
            (Stream::Stdout, b"done"),
        ];
        assert_eq!(
            printed_by(Printer::default(), &records),
            ("12%\rdone".to_owned(), "  image    ready\nwarn\n  collecting\n".to_owned())
        );
    }

    #[test]
    fn a_time_stands_before_each_line_not_before_each_piece() {
        let records: [(Stream, &[u8]); 3] =
            [(Stream::Stdout, b"a"), (Stream::Stdout, b"b\n"), (Stream::Stdout, b"c\n")];
        let (out, _) = printed_by(Printer { timestamps: true, ..Printer::default() }, &records);
        assert_eq!(out, "1970-01-01T00:00:00Z ab\n1970-01-01T00:00:00Z c\n");
    }

    #[test]
    fn scripts_get_every_record_as_a_line_or_an_item() {
        let records: [(Stream, &[u8]); 2] = [(Stream::System, b"image ready\n"), (Stream::Stdout, b"\xff")];
        let of = |output| Printer { format: FormatArgs { output }, ..Printer::default() };
        let (out, err) = printed_by(of(Format::Json), &records);
        let lines: Vec<Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(
            (lines[0]["stream"].as_str(), lines[0]["text"].as_str()),
            (Some("system"), Some("image ready\n"))
        );
        assert_eq!((lines[1]["hex"].as_str(), lines[1]["attempt"].as_u64()), (Some("ff"), Some(1)));
        assert_eq!(err, "");
        let (out, _) = printed_by(of(Format::Yaml), &records);
        let documents = longshore_common::tree::yaml_documents(&out).expect("good YAML");
        assert!(matches!(&documents[0].value, Node::List(items) if items.len() == 2), "{out}");
    }

    #[test]
    fn a_line_that_stays_open_is_known() {
        let mut printer = Printer::default();
        let (open, done) = ((Target::Err, b"warn".to_vec()), (Target::Err, b"warn\n".to_vec()));
        let out = (Target::Out, b"12%\r".to_vec());
        assert_eq!(printer.left_open(&[done.clone(), open.clone()]), Some(true));
        assert_eq!(printer.left_open(&[open, done.clone(), out.clone()]), Some(false));
        assert_eq!(printer.left_open(std::slice::from_ref(&out)), None, "stdout is a file");
        printer.one_screen = true;
        assert_eq!(printer.left_open(&[done, out]), Some(true), "stdout is the same terminal");
    }
}
