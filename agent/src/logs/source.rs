//! One output stream of a container on its way to records: masked, then split. Counts what was written, also where it
//! is masked.

use super::{
    redact::{MASK, Masker, Piece, Redactor},
    split::Splitter,
};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Source {
    redactor: Redactor,
    splitter: Splitter,
    shown: Shown,
}

impl Source {
    /// Before its first byte.
    pub(super) fn mask(&mut self, masker: &Masker) {
        self.redactor = Redactor::new(masker);
    }

    /// Gives every record that `data` completes to `emit`: its bytes, whether its line goes on, and how many bytes
    /// more the container wrote there.
    pub(super) fn push(&mut self, data: &[u8], mut emit: impl FnMut(&[u8], bool, i64)) {
        let Self { redactor, splitter, shown } = self;
        redactor.push(data, &mut |piece| pass(splitter, shown, piece, &mut emit));
    }

    /// Some of it is lost here.
    pub(super) fn cut(&mut self) {
        self.redactor.cut();
    }

    pub(super) fn is_pending(&self) -> bool {
        self.splitter.is_pending()
    }

    pub(super) fn flush(&mut self, mut emit: impl FnMut(&[u8], bool, i64)) {
        let Self { splitter, shown, .. } = self;
        splitter.flush(|record, partial| emit(record, partial, shown.pass(record.len())));
    }

    pub(super) fn finish(&mut self, mut emit: impl FnMut(&[u8], bool, i64)) {
        let Self { redactor, splitter, shown } = self;
        redactor.finish(&mut |piece| pass(splitter, shown, piece, &mut emit));
        splitter.finish(|record, partial| emit(record, partial, shown.pass(record.len())));
    }
}

fn pass(
    splitter: &mut Splitter,
    shown: &mut Shown,
    piece: Piece<'_>,
    emit: &mut impl FnMut(&[u8], bool, i64),
) {
    shown.note(&piece);
    splitter.push(piece.shown(), |record, partial| emit(record, partial, shown.pass(record.len())));
}

/// Where the masks are in what is shown and not yet in a record. A mask that is cut counts whole where it begins: a
/// process that goes on after that record begins behind the secret.
#[derive(Debug, Default)]
struct Shown {
    /// In records.
    passed: u64,
    /// Noted.
    end: u64,
    /// Place and true length of each mask.
    masks: VecDeque<(u64, usize)>,
}

impl Shown {
    fn note(&mut self, piece: &Piece<'_>) {
        if let Piece::Masked(length) = piece {
            self.masks.push_back((self.end, *length));
        }
        self.end += piece.shown().len() as u64;
    }

    /// So many bytes go into a record; how many more were written there.
    fn pass(&mut self, length: usize) -> i64 {
        let (from, to) = (self.passed, self.passed + length as u64);
        self.passed = to;
        let mut extra = 0;
        while let Some((at, whole)) = self.masks.front().copied().filter(|(at, _)| *at < to) {
            let ends = at + MASK.len() as u64;
            let here = i64::try_from(ends.min(to) - at.max(from)).unwrap_or(0);
            let written = if at >= from { i64::try_from(whole).unwrap_or(i64::MAX) } else { 0 };
            extra += written - here;
            if ends > to {
                break;
            }
            self.masks.pop_front();
        }
        extra
    }
}
