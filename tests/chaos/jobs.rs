//! The jobs of a run: what each is asked to do, and what must come of it. Pure: the same seed is the same stream.

use longshore_proto::v1::{JobSpec, NetworkMode};
use longshore_tests::env::{shell, words};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use std::{fmt, fmt::Write as _, time::Duration};

/// Marks all jobs of a run.
pub(crate) const LABEL: &str = "chaos";
/// Enough that no job of a run should ever spend them all, and each of them is looked at.
pub(crate) const ATTEMPTS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Short,
    Long,
    Failing,
    Talking,
    Files,
    Cancelled,
}

/// One job of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    script: String,
    /// What its program exits with.
    pub(crate) code: i32,
    /// Lines 1..N on each stream.
    pub(crate) stdout: u32,
    pub(crate) stderr: u32,
    pub(crate) files: Vec<File>,
    pub(crate) cancel_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) sha256: Vec<u8>,
}

impl Order {
    /// The job at this place of a run's stream.
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let mut random =
            StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut order = Self {
            number,
            kind: kind(&mut random),
            script: String::new(),
            code: 0,
            stdout: 0,
            stderr: 0,
            files: Vec::new(),
            cancel_after: None,
        };
        match order.kind {
            Kind::Short => order.count(random.random_range(1..30), None),
            Kind::Long => order.count(random.random_range(10..80), Some("0.5")),
            Kind::Failing => {
                order.count(random.random_range(1..12), Some("0.5"));
                order.code = [1, 2, 3, 7, 42, 77][random.random_range(0..6)];
            }
            Kind::Talking => order.talk(random.random_range(3..9)),
            Kind::Files => order.write(&mut random),
            Kind::Cancelled => {
                order.count(120, Some("0.5"));
                order.cancel_after = Some(Duration::from_millis(random.random_range(0..15_000)));
            }
        }
        order
    }

    pub(crate) fn spec(&self, image: &str, seed: u64) -> JobSpec {
        let mut spec = shell(image, "");
        spec.command = Some(words(&[&format!("{}exit {}", self.script, self.code)]));
        spec.name = format!("chaos-{}", self.number);
        // The private engine has no network.
        spec.network = NetworkMode::None.into();
        spec.labels.insert(LABEL.to_owned(), seed.to_string());
        let retry = spec.retry.get_or_insert_default();
        retry.attempts = ATTEMPTS;
        retry.backoff = longshore_tests::env::seconds(1);
        retry.max_backoff = longshore_tests::env::seconds(5);
        spec
    }

    /// What is to come of it when nobody cancels it.
    pub(crate) fn expected(&self) -> String {
        if self.code == 0 { "succeeded".to_owned() } else { format!("exit_code({})", self.code) }
    }

    fn count(&mut self, lines: u32, pause: Option<&str>) {
        let pause = pause.map_or(String::new(), |pause| format!("sleep {pause}; "));
        self.stdout = lines;
        self.say(&format!("i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; {pause}done; "));
    }

    /// Bursts that fill every buffer on the way, a word on stderr after each.
    fn talk(&mut self, bursts: u32) {
        const BURST: u32 = 3000;
        (self.stdout, self.stderr) = (bursts * BURST, bursts);
        self.say(&format!(
            "b=0; while [ $b -lt {bursts} ]; do seq $((b*{BURST}+1)) $((b*{BURST}+{BURST})); b=$((b+1)); \
             echo $b >&2; sleep 1; done; "
        ));
    }

    fn write(&mut self, random: &mut StdRng) {
        let large = random.random_range(0..8) == 0;
        for ordinal in 0..random.random_range(1..5) {
            // More than one part of a multipart upload, now and then.
            let size = if large && ordinal == 0 { 20 << 20 } else { random.random_range(0..300_000) };
            let name = if ordinal % 2 == 0 { format!("f{ordinal}") } else { format!("sub/f{ordinal}") };
            let word = format!("chaos-{}-{ordinal}", self.number);
            self.say(&format!("yes {word} | head -c {size} >/out/{name}; "));
            let line = word + "\n";
            let bytes: Vec<u8> = line.bytes().cycle().take(size).collect();
            let sha256 = Sha256::digest(&bytes).to_vec();
            self.files.push(File { name, size: size as u64, sha256 });
        }
        self.script.insert_str(0, "mkdir -p /out/sub; ");
        self.count(random.random_range(1..10), Some("0.5"));
    }

    fn say(&mut self, text: &str) {
        self.script.write_str(text).expect("a string takes any text");
    }
}

fn kind(random: &mut StdRng) -> Kind {
    match random.random_range(0..100) {
        0..30 => Kind::Short,
        30..48 => Kind::Long,
        48..60 => Kind::Failing,
        60..72 => Kind::Talking,
        72..94 => Kind::Files,
        _ => Kind::Cancelled,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Failing => "failing",
            Self::Talking => "talking",
            Self::Files => "files",
            Self::Cancelled => "cancelled",
        })
    }
}
