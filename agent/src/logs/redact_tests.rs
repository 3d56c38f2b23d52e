//! Whatever is written in whatever pieces: no secret comes out, and everything else does.

use super::{
    encodings,
    redact::{MASK, Masker, Piece, Redactor},
    source::Source,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

/// What comes out, and how many bytes went in by its own count.
fn masked(secrets: &[&[u8]], data: &[u8], cuts: &[usize]) -> (Vec<u8>, usize) {
    let masker = Masker::new(secrets.iter().copied());
    let mut redactor = Redactor::new(&masker);
    let (mut out, mut written) = (Vec::new(), 0);
    let mut emit = |piece: Piece<'_>| {
        written += match piece {
            Piece::Text(text) => text.len(),
            Piece::Masked(length) => length,
        };
        out.extend_from_slice(piece.shown());
    };
    let mut rest = data;
    for cut in cuts {
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        redactor.push(head, &mut emit);
        rest = tail;
    }
    redactor.push(rest, &mut emit);
    redactor.finish(&mut emit);
    (out, written)
}

fn text(secrets: &[&str], data: &str) -> String {
    let secrets: Vec<_> = secrets.iter().map(|secret| secret.as_bytes()).collect();
    String::from_utf8(masked(&secrets, data.as_bytes(), &[]).0).expect("text")
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_secret_is_masked_as_it_is_and_as_programs_write_it() {
    let secret = "p@ss 'w\"ord/\\é<1>";
    let json = serde_json::to_string(secret).expect("JSON");
    let inner = &json[1..json.len() - 1];
    for form in [
        secret.to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("{secret}\n")),
        hex::encode(secret),
        hex::encode_upper(secret),
        "p%40ss%20%27w%22ord%2F%5C%C3%A9%3C1%3E".to_owned(),
        "p%40ss+%27w%22ord%2f%5c%c3%a9%3c1%3e".to_owned(),
        inner.to_owned(),
        inner.replace('é', "\\u00e9"),
        secret.replace('\'', "'\\''"),
    ] {
        let shown = text(&[secret], &format!("before {form} after\n"));
        assert!(shown.starts_with("before ***") && shown.ends_with(" after\n"), "{form}: {shown}");
        assert!(shown.len() < 30, "{form}: {shown}");
    }
}

#[test]
fn a_secret_behind_other_bytes_is_found_in_base64() {
    for before in ["", "u", "us", "user:"] {
        let encoded = STANDARD.encode(format!("{before}correct horse battery"));
        let shown = text(&["correct horse battery"], &encoded);
        assert!(shown.contains("***") && shown.len() < 16, "{before}: {shown}");
    }
}

#[test]
fn a_secret_in_broken_lines_is_found() {
    let secret = "correct horse battery staple and some more of it so that the line breaks twice or so";
    let encoded = STANDARD.encode(format!("user:{secret}"));
    for width in [20, 64, 76] {
        for ending in ["\n", "\r\n"] {
            let broken = encoded
                .as_bytes()
                .chunks(width)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join(ending);
            let shown = text(&[secret], &broken);
            assert!(shown.len() < 24, "{width}: {shown}");
        }
    }
}

#[test]
fn every_line_of_a_secret_is_one() {
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n";
    assert_eq!(text(&[key], "a MIIEvQIBADANBgkq b"), "a *** b");
    assert_eq!(text(&[key], key), "***\n***\n***\n***\n");
    assert!(!text(&[key], &STANDARD.encode(key)).contains("TUlJ"));
    assert!(!text(&[key], &serde_json::to_string(key).expect("JSON")).contains("MIIE"));
}

#[test]
fn secrets_that_overlap_are_masked_together_and_short_ones_are_not() {
    assert_eq!(text(&["abcdef", "defghi"], "xabcdefghiy"), "x***y");
    assert_eq!(text(&["abcd", "abcdefgh"], "abcdefgh abcdefg"), "*** ***efg");
    assert_eq!(text(&["abc", ""], "abc"), "abc");
    assert_eq!(text(&[], "abc"), "abc");
}

#[test]
fn only_what_may_be_a_secret_is_held_back() {
    let masker = Masker::new([&b"secret-token"[..]]);
    let mut redactor = Redactor::new(&masker);
    let mut out = Vec::new();
    redactor.push(b"12%|##  sec", &mut |piece| out.extend_from_slice(piece.shown()));
    assert_eq!(out, b"12%|##  ");
    redactor.push(b"onds\n", &mut |piece| out.extend_from_slice(piece.shown()));
    assert_eq!(out, b"12%|##  seconds\n");
    redactor.push(b"secret-to", &mut |piece| out.extend_from_slice(piece.shown()));
    redactor.finish(&mut |piece| out.extend_from_slice(piece.shown()));
    assert_eq!(out, b"12%|##  seconds\n***", "it breaks off inside of one");
}

#[test]
fn nothing_can_be_told_from_what_is_printed_of_a_masker() {
    assert!(!format!("{:?}", Masker::new([&b"hunter22"[..]])).contains("hunter"));
}

fn secret() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zA-Z0-9]{4,40}".prop_map(String::into_bytes),
        "[ -~]{4,24}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 4..32),
    ]
    .prop_filter("one line", |value| {
        value.trim_ascii_end().len() == value.len() && !value.contains(&b'\n') && !value.contains(&b'\r')
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_encoding_survives_any_split_and_the_count_is_true(
        secret in secret(),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        cuts in prop::collection::vec(0..30_usize, 0..20),
    ) {
        let forms = encodings::of(&secret);
        let mut data = Vec::new();
        for (noise, pick) in noise.iter().zip(&picks) {
            data.extend_from_slice(noise);
            data.extend_from_slice(&pick.get(&forms).bytes);
        }
        let (out, written) = masked(&[&secret], &data, &cuts);
        prop_assert_eq!(written, data.len());
        for form in &forms {
            // What a mask makes with its neighbours was never written.
            let apart = out.windows(MASK.len()).any(|window| window == MASK);
            prop_assert!(!contains(&out, &form.bytes) || apart && contains(&form.bytes, b"*"), "{:?}", form);
        }
        prop_assert_eq!(masked(&[&secret], &data, &[]).0, out, "the borders of chunks do not show");
    }

    #[test]
    fn what_is_no_secret_is_unchanged(
        secret in "[A-Z]{6,20}",
        data in "[a-z0-9 \r\n]{0,400}",
        cuts in prop::collection::vec(0..30_usize, 0..20),
    ) {
        // Neither its letters nor any that it is encoded with: too little of it for any pattern.
        let forms = encodings::of(secret.as_bytes());
        prop_assume!(!forms.iter().any(|form| contains(data.as_bytes(), &form.bytes[..4])));
        let (out, written) = masked(&[secret.as_bytes()], data.as_bytes(), &cuts);
        prop_assert_eq!(out, data.as_bytes());
        prop_assert_eq!(written, data.len());
    }

    #[test]
    fn a_log_that_is_gone_on_with_from_any_record_is_the_same_log(
        lines in prop::collection::vec("[a-z]{0,12}(hunter2hunter2|)[a-z]{0,5}(\n|\r|)", 0..20),
        cuts in prop::collection::vec((1..40_usize, any::<bool>()), 0..20),
        stop in 0..40_usize,
    ) {
        let data = lines.concat().into_bytes();
        let masker = Masker::new([&b"hunter2hunter2"[..]]);
        let records = |data: &[u8]| {
            let mut source = Source::default();
            source.mask(&masker);
            let mut records: Vec<(Vec<u8>, i64)> = Vec::new();
            let mut rest = data;
            for (cut, flush) in &cuts {
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                source.push(head, |record, _, extra| records.push((record.to_vec(), extra)));
                if *flush {
                    source.flush(|record, _, extra| records.push((record.to_vec(), extra)));
                }
                rest = tail;
            }
            source.push(rest, |record, _, extra| records.push((record.to_vec(), extra)));
            source.finish(|record, _, extra| records.push((record.to_vec(), extra)));
            records
        };
        let whole = records(&data);
        let joined = |records: &[(Vec<u8>, i64)]| records.iter().flat_map(|(record, _)| record.clone()).collect::<Vec<_>>();
        let written = |records: &[(Vec<u8>, i64)]| -> i64 {
            records.iter().map(|(record, extra)| record.len() as i64 + extra).sum()
        };
        prop_assert_eq!(written(&whole), data.len() as i64);
        let kept = &whole[..stop.min(whole.len())];
        let from = usize::try_from(written(kept)).expect("never negative");
        let again = [joined(kept), joined(&records(&data[from..]))].concat();
        // A mask that was cut between two records may have lost its end.
        prop_assert_eq!(
            String::from_utf8_lossy(&again).replace('*', ""),
            String::from_utf8_lossy(&joined(&whole)).replace('*', "")
        );
        prop_assert!(!contains(&again, b"hunter2hunter2"));
    }
}
