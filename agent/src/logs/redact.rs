//! Masks secrets in a stream, whatever pieces it comes in: every byte that may belong to a secret is held back until
//! that is decided, and nothing else is. Tells how long what it masked was, so that a stream is counted as it was
//! written. Never looks at lines or records.

use super::encodings;
use aho_corasick::{
    Anchored,
    automaton::{Automaton as _, StateID},
    nfa::contiguous::NFA,
};
use std::{collections::HashMap, fmt, sync::Arc};

pub(super) const MASK: &[u8] = b"***";
/// Encoders break lines inside what they write. From so many bytes of a secret on, a line's end does not end it.
const WRAPS_FROM: usize = 4;
/// `\r\n`; more in a row is no wrapped line.
const LONGEST_BREAK: u8 = 2;
/// A stream that breaks off inside of a secret: from so many bytes on these are masked too.
const TORN: usize = 8;

/// What is not to be seen. Clones are the same; the default masks nothing.
#[derive(Clone, Default)]
pub struct Masker(Option<Arc<Machine>>);

struct Machine {
    automaton: NFA,
    start: StateID,
    /// How much of a secret each state has seen, and whether lines may break there.
    seen: HashMap<StateID, (usize, bool)>,
}

/// No pattern may be told from it.
impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("masks", &self.0.is_some()).finish()
    }
}

impl Masker {
    /// Of these values, in every encoding. Takes a while for long ones.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut patterns: Vec<_> = values.into_iter().flat_map(encodings::of).collect();
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.is_empty() {
            return Self::default();
        }
        let automaton = NFA::new(patterns.iter().map(|pattern| &pattern.bytes));
        let automaton = automaton.expect("a job's secrets are far smaller than what an automaton takes");
        let start = automaton.start_state(Anchored::No).expect("it is built to search anywhere");
        let mut seen = HashMap::new();
        for pattern in &patterns {
            let mut state = start;
            for (index, byte) in pattern.bytes.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                let (length, wraps) = seen.entry(state).or_insert((0, false));
                *length = index + 1;
                *wraps |= pattern.wraps && index + 1 >= WRAPS_FROM;
            }
        }
        Self(Some(Arc::new(Machine { automaton, start, seen })))
    }

    /// A text that is whole.
    pub fn line(&self, text: &str) -> String {
        if self.0.is_none() {
            return text.to_owned();
        }
        let mut shown = Vec::new();
        let mut redactor = Redactor::new(self);
        let mut emit = |piece: Piece<'_>| shown.extend_from_slice(piece.shown());
        redactor.push(text.as_bytes(), &mut emit);
        redactor.finish(&mut emit);
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// A stream that is shown elsewhere than in a log.
#[derive(Debug)]
pub struct Veil(Redactor);

impl Veil {
    pub fn new(masker: &Masker) -> Self {
        Self(Redactor::new(masker))
    }

    /// What of it can be shown by now.
    pub fn push(&mut self, data: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(data.len());
        self.0.push(data, &mut |piece| shown.extend_from_slice(piece.shown()));
        shown
    }

    /// Whether something is held back.
    pub fn is_holding(&self) -> bool {
        !self.0.held.is_empty()
    }

    /// Nothing more came for a while: a person waits for what is held back.
    pub fn settle(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        self.0.finish(&mut |piece| shown.extend_from_slice(piece.shown()));
        shown
    }
}

/// Decided bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a [u8]),
    /// In the place of so many bytes.
    Masked(usize),
}

impl<'a> Piece<'a> {
    pub(super) const fn shown(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text,
            Self::Masked(_) => MASK,
        }
    }
}

/// One stream on its way.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    masker: Masker,
    state: StateID,
    held: Vec<u8>,
    /// Which of these the automaton has seen: all but the line breaks inside of a secret.
    solid: Vec<usize>,
    /// What is to be masked of them, in order, apart from each other.
    hits: Vec<(usize, usize)>,
    breaks: u8,
}

impl Redactor {
    pub(super) fn new(masker: &Masker) -> Self {
        let state = masker.0.as_ref().map(|machine| machine.start).unwrap_or_default();
        Self { masker: masker.clone(), state, ..Self::default() }
    }

    pub(super) fn push(&mut self, data: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        let Some(machine) = self.masker.0.clone() else { return emit(Piece::Text(data)) };
        for byte in data {
            self.step(&machine, *byte);
        }
        let until = match self.seen(&machine) {
            0 => self.held.len(),
            length => self.solid[self.solid.len() - length],
        };
        self.release(until, emit);
    }

    /// What follows does not belong to what came.
    pub(super) fn cut(&mut self) {
        let Some(machine) = self.masker.0.clone() else { return };
        let length = self.seen(&machine);
        if length >= TORN {
            self.hit(self.solid[self.solid.len() - length], self.held.len());
        }
        self.state = machine.start;
        self.breaks = 0;
    }

    pub(super) fn finish(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        self.cut();
        self.release(self.held.len(), emit);
    }

    fn seen(&self, machine: &Machine) -> usize {
        machine.seen.get(&self.state).map_or(0, |(length, _)| *length)
    }

    fn step(&mut self, machine: &Machine, byte: u8) {
        let at = self.held.len();
        self.held.push(byte);
        if matches!(byte, b'\n' | b'\r')
            && self.breaks < LONGEST_BREAK
            && machine.seen.get(&self.state).is_some_and(|(_, wraps)| *wraps)
        {
            self.breaks += 1;
            return;
        }
        self.breaks = 0;
        self.solid.push(at);
        let automaton = &machine.automaton;
        self.state = automaton.next_state(Anchored::No, self.state, byte);
        if automaton.is_match(self.state) {
            let lengths = (0..automaton.match_len(self.state))
                .map(|index| automaton.pattern_len(automaton.match_pattern(self.state, index)));
            let longest = lengths.max().unwrap_or(0);
            self.hit(self.solid[self.solid.len() - longest], at + 1);
        }
    }

    fn hit(&mut self, mut from: usize, to: usize) {
        while let Some((begun, _)) = self.hits.pop_if(|(_, ended)| *ended > from) {
            from = from.min(begun);
        }
        self.hits.push((from, to));
    }

    /// Gives what comes before `until`, but no part of something masked that goes on.
    fn release(&mut self, until: usize, emit: &mut impl FnMut(Piece<'_>)) {
        let going_on = self.hits.iter().find(|(_, to)| *to > until).map(|(from, _)| *from);
        let until = going_on.map_or(until, |from| from.min(until));
        let mut at = 0;
        let decided = self.hits.partition_point(|(_, to)| *to <= until);
        for (from, to) in self.hits.drain(..decided) {
            if from > at {
                emit(Piece::Text(&self.held[at..from]));
            }
            emit(Piece::Masked(to - from));
            at = to;
        }
        if until > at {
            emit(Piece::Text(&self.held[at..until]));
        }
        self.held.drain(..until);
        let gone = self.solid.partition_point(|index| *index < until);
        self.solid.drain(..gone);
        self.solid.iter_mut().for_each(|index| *index -= until);
        self.hits.iter_mut().for_each(|(from, to)| {
            *from -= until;
            *to -= until;
        });
    }
}
