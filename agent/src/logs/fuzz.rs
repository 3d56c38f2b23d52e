//! What must hold of this module whatever a container writes: asserted here for the fuzz targets, which see no more of
//! it than these. Nothing of the agent calls them.

use super::{
    redact::{MASK, Masker, Piece, Redactor},
    split::Splitter,
};

/// A secret of a stream is not shown, whatever pieces the stream comes in, and bytes are counted as they were written.
pub fn redaction(secret: &[u8], stream: &[u8], piece: usize) {
    let masker = Masker::new([secret]);
    let (whole, counted) = shown(&masker, stream, stream.len());
    let (pieces, counted_in_pieces) = shown(&masker, stream, piece);
    assert_eq!((counted, counted_in_pieces), (stream.len(), stream.len()), "bytes are lost or made up");
    assert_eq!(whole, pieces, "what is masked depends on the pieces");
    // A secret is known without the line breaks around it, and masked from four bytes on.
    let plain = secret.trim_ascii().len() >= 4 && !secret.contains(&MASK[0]);
    let seen = plain && whole.windows(secret.len()).any(|window| window == secret);
    assert!(!seen, "the secret is there");
}

fn shown(masker: &Masker, stream: &[u8], piece: usize) -> (Vec<u8>, usize) {
    let (mut shown, mut counted) = (Vec::new(), 0);
    let mut redactor = Redactor::new(masker);
    let mut emit = |piece: Piece<'_>| {
        shown.extend_from_slice(piece.shown());
        counted += match piece {
            Piece::Text(text) => text.len(),
            Piece::Masked(length) => length,
        };
    };
    for data in stream.chunks(piece.max(1)) {
        redactor.push(data, &mut emit);
    }
    redactor.finish(&mut emit);
    (shown, counted)
}

/// The records of a stream, joined, are exactly what came in.
pub fn splitting(stream: &[u8], piece: usize) {
    let mut splitter = Splitter::default();
    let mut joined = Vec::new();
    for (index, data) in stream.chunks(piece.max(1)).enumerate() {
        splitter.push(data, |record, _| joined.extend_from_slice(record));
        if index % 3 == 0 {
            splitter.flush(|record, _| joined.extend_from_slice(record));
        }
    }
    splitter.finish(|record, _| joined.extend_from_slice(record));
    assert_eq!(joined, stream);
}
