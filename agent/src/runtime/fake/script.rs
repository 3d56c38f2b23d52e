//! What a fake container does: read from its environment.

use crate::{
    runtime::{Error, Scratch},
    tree,
};
use bytes::Bytes;
use longshore_common::{job::Outcome, logs::Stream};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const LINE: &[u8; 64] = b"the quick brown fox jumps over the lazy dog, sixty-four bytes..\n";
const CHUNK_LINES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Script {
    /// `None`: for ever.
    pub(super) run: Option<Duration>,
    pub(super) exit: i32,
    pub(super) oom: bool,
    pub(super) engine_restart: bool,
    pub(super) term_exit: Option<i32>,
    pub(super) ignore_term: bool,
    pub(super) stuck: Duration,
    /// `None`: it cannot be measured.
    pub(super) disk: Option<u64>,
    pub(super) gpus_shut: Option<Duration>,
    pub(super) start_error: Option<Outcome>,
    pub(super) hang: Option<Hang>,
    stdout: Bytes,
    stderr: Bytes,
    output_bytes: usize,
    files: Vec<(PathBuf, u64)>,
    /// Made only if there are files: a job that writes nothing costs nothing.
    folders: Vec<PathBuf>,
}

/// A call that is never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hang {
    Create,
    Start,
}

impl Script {
    pub(super) fn read(env: &BTreeMap<String, String>, scratch: &Scratch, bare: bool) -> Result<Self, Error> {
        let text = |key: &str| env.get(key).map_or("", String::as_str);
        let files = files(text("FAKE_FILES"), &scratch.out)?;
        let oom = env.contains_key("FAKE_OOM");
        let folders = if bare && files.is_empty() {
            Vec::new()
        } else {
            vec![scratch.out.clone(), scratch.tmp.clone()]
        };
        let total = files.iter().map(|(_, bytes)| bytes).sum();
        Ok(Self {
            run: duration("FAKE_RUN", text("FAKE_RUN"))?,
            exit: number(env, "FAKE_EXIT")?.unwrap_or(if oom { super::KILLED } else { 0 }),
            oom,
            engine_restart: env.contains_key("FAKE_ENGINE_RESTART"),
            term_exit: number(env, "FAKE_TERM_EXIT")?,
            stuck: duration("FAKE_STUCK", text("FAKE_STUCK"))?.unwrap_or(Duration::MAX),
            ignore_term: env.contains_key("FAKE_IGNORE_TERM"),
            disk: match text("FAKE_DISK") {
                "unmeasurable" => None,
                _ => Some(number(env, "FAKE_DISK")?.unwrap_or(total)),
            },
            gpus_shut: match text("FAKE_GPUS_SHUT") {
                "" => None,
                after => duration("FAKE_GPUS_SHUT", after)?,
            },
            start_error: match env.get("FAKE_START_ERROR") {
                Some(name) => Some(name.parse().map_err(|_| wrong("FAKE_START_ERROR", name))?),
                None => None,
            },
            hang: match text("FAKE_HANG") {
                "" => None,
                "create" => Some(Hang::Create),
                "start" => Some(Hang::Start),
                other => return Err(wrong("FAKE_HANG", other)),
            },
            stdout: Bytes::copy_from_slice(text("FAKE_STDOUT").as_bytes()),
            stderr: Bytes::copy_from_slice(text("FAKE_STDERR").as_bytes()),
            output_bytes: number(env, "FAKE_OUTPUT_BYTES")?.unwrap_or(0),
            files,
            folders,
        })
    }

    /// Everything it writes.
    pub(super) fn chunks(&self) -> Vec<(Stream, Bytes)> {
        let said = [(Stream::Stdout, self.stdout.clone()), (Stream::Stderr, self.stderr.clone())];
        let lines = Bytes::from(LINE.repeat(CHUNK_LINES.min(self.output_bytes / LINE.len() + 1)));
        let mut left = self.output_bytes;
        let bulk = std::iter::from_fn(|| {
            let length = left.min(lines.len());
            left -= length;
            (length > 0).then(|| (Stream::Stdout, lines.slice(..length)))
        });
        said.into_iter().filter(|(_, data)| !data.is_empty()).chain(bulk).collect()
    }

    pub(super) fn make_folders(&self) -> Result<(), Error> {
        self.folders.iter().try_for_each(fs::create_dir_all).map_err(|error| disk(&error))
    }

    pub(super) fn write_files(&self) -> Result<(), Error> {
        let write = |(path, bytes): &(PathBuf, u64)| -> io::Result<()> {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = fs::File::create(path)?;
            io::copy(&mut io::Read::take(io::repeat(b'x'), *bytes), &mut file)?;
            Ok(())
        };
        self.files.iter().try_for_each(write).map_err(|error| disk(&error))
    }

    pub(super) fn remove_folders(&self) -> Result<(), Error> {
        for folder in &self.folders {
            tree::remove(folder).map_err(|error| disk(&error))?;
            // Fails while something else is in there.
            drop(folder.parent().map(fs::remove_dir));
        }
        Ok(())
    }
}

fn files(text: &str, out: &Path) -> Result<Vec<(PathBuf, u64)>, Error> {
    let one = |entry: &str| {
        let (name, bytes) = entry.split_once(':')?;
        let contained = longshore_common::artifact::is_contained(name.as_bytes());
        contained.then(|| Some((out.join(name), bytes.parse().ok()?)))?
    };
    let entries = text.split(',').filter(|entry| !entry.is_empty());
    entries.map(|entry| one(entry).ok_or_else(|| wrong("FAKE_FILES", entry))).collect()
}

/// Nothing is at once, `forever` is `None`.
fn duration(key: &str, text: &str) -> Result<Option<Duration>, Error> {
    let parsed = match text {
        "" => Some(Some(Duration::ZERO)),
        "forever" => Some(None),
        _ => match text.strip_suffix("ms") {
            Some(millis) => millis.parse().ok().map(|millis| Some(Duration::from_millis(millis))),
            None => text.strip_suffix('s').and_then(|s| s.parse().ok()).map(|s| Some(Duration::from_secs(s))),
        },
    };
    parsed.ok_or_else(|| wrong(key, text))
}

fn number<T: std::str::FromStr>(env: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, Error> {
    env.get(key).map(|text| text.parse().map_err(|_| wrong(key, text))).transpose()
}

fn wrong(key: &str, value: &str) -> Error {
    Error::ends(Outcome::InvalidContract, format!("{key}: `{value}` cannot be played"))
}

fn disk(error: &io::Error) -> Error {
    Error::ends(Outcome::RuntimeError, format!("write the scripted files: {error}"))
}
