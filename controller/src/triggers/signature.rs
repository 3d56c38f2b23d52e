//! Whether a call of a webhook is from who has its secret, and which delivery it is. Pure: knows no trigger and no
//! clock.
//!
//! - `X-Longshore-Signature: t=SECONDS,id=DELIVERY,v1=HEX`, where HEX is HMAC-SHA256 of `SECONDS.DELIVERY.BODY`. `id` may
//!   be left out; the text then has nothing between the dots, and the delivery is named by what was signed.
//! - `X-Hub-Signature-256: sha256=HEX`, where HEX is HMAC-SHA256 of the body. It carries no time, and the delivery is
//!   named by the body.

use longshore_common::trigger::Signature;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// A call is from within this time, one way or the other.
pub(super) const WINDOW: Duration = Duration::from_secs(300);
/// For so long at least no delivery is forgotten: far longer than a call is taken for a new one.
pub(super) const REMEMBERED: Duration = Duration::from_secs(3600);

pub(crate) const LONGSHORE: &str = "x-longshore-signature";
pub(crate) const GITHUB: &str = "x-hub-signature-256";

/// The delivery's name among those of its trigger; `None`: it is not to be believed. `now` in seconds since 1970.
pub(super) fn verify(
    scheme: Signature,
    secret: &[u8],
    header: Option<&str>,
    body: &[u8],
    now: i64,
) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    match scheme {
        Signature::Longshore => longshore(&key, header.unwrap_or_default(), body, now),
        Signature::Github => {
            let given = header.and_then(|header| header.strip_prefix("sha256=")).and_then(tag);
            // What is no tag takes as long as a wrong one.
            let right = hmac::verify(&key, body, &given.unwrap_or_default()).is_ok();
            right.then(|| format!("body {}", hex::encode(Sha256::digest(body))))
        }
    }
}

fn longshore(key: &hmac::Key, header: &str, body: &[u8], now: i64) -> Option<String> {
    let (mut at, mut id, mut tags) = ("", "", Vec::new());
    for part in header.split(',').take(8) {
        match part.trim().split_once('=') {
            Some(("t", value)) => at = value,
            Some(("id", value)) => id = value,
            Some(("v1", value)) => tags.extend(tag(value)),
            _ => {}
        }
    }
    let text = [at.as_bytes(), b".", id.as_bytes(), b".", body].concat();
    let mut right = false;
    for tag in tags.iter().chain([&[0; 32]]) {
        right |= hmac::verify(key, &text, tag).is_ok();
    }
    let plain = !at.is_empty() && at.bytes().all(|b| b.is_ascii_digit());
    let seconds = at.parse::<i64>().ok().filter(|_| plain)?;
    let window = i64::try_from(WINDOW.as_secs()).unwrap_or(0);
    let fresh = seconds.checked_sub(now)?.checked_abs()? <= window;
    let named = id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:".contains(&b));
    if !(right && fresh && named) {
        return None;
    }
    Some(if id.is_empty() {
        format!("signed {}", hex::encode(Sha256::digest(&text)))
    } else {
        format!("id {id}")
    })
}

fn tag(text: &str) -> Option<[u8; 32]> {
    let mut tag = [0; 32];
    hex::decode_to_slice(text.trim(), &mut tag).ok().map(|()| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const SECRET: &[u8] = b"lsh_secret";

    fn hex_tag(secret: &[u8], text: &[u8]) -> String {
        hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text))
    }

    fn ours(at: i64, id: &str, body: &str) -> String {
        let tag = hex_tag(SECRET, format!("{at}.{id}.{body}").as_bytes());
        let id = if id.is_empty() { String::new() } else { format!("id={id},") };
        format!("t={at},{id}v1={tag}")
    }

    fn check(header: &str, body: &str) -> Option<String> {
        verify(Signature::Longshore, SECRET, Some(header), body.as_bytes(), NOW)
    }

    #[test]
    fn a_signed_call_is_believed_within_its_window() {
        for at in [NOW, NOW - 300, NOW + 300] {
            assert_eq!(check(&ours(at, "d-1", "{}"), "{}").as_deref(), Some("id d-1"), "{at}");
        }
        for at in [NOW - 301, NOW + 301, 0, i64::MAX, -NOW] {
            assert_eq!(check(&ours(at, "d-1", "{}"), "{}"), None, "{at}");
        }
        let unnamed = check(&ours(NOW, "", "{}"), "{}").expect("believed");
        assert!(unnamed.starts_with("signed "));
        assert_ne!(Some(unnamed), check(&ours(NOW - 1, "", "{}"), "{}"));
        let two = ours(NOW, "d", "{}").replace("v1=", &format!("v1={},v1=", "0".repeat(64)));
        assert_eq!(check(&two, "{}").as_deref(), Some("id d"), "while a sender changes its secret");
    }

    #[test]
    fn whatever_is_changed_is_not_believed() {
        let header = ours(NOW, "d-1", "body");
        assert!(check(&header, "body").is_some());
        assert_eq!(check(&header, "bodz"), None);
        for (from, to) in [
            ("d-1", "d-2"),
            ("id=d-1,", ""),
            ("v1=", "v2="),
            (&*format!("t={NOW}"), &*format!("t={}", NOW + 1)),
            ("t=", "t=+"),
        ] {
            assert_eq!(check(&header.replace(from, to), "body"), None, "{from} to {to}");
        }
        let tag = header.split("v1=").nth(1).expect("there").to_owned();
        for index in 0..tag.len() {
            let mut wrong = tag.clone().into_bytes();
            wrong[index] = if wrong[index] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).expect("ascii");
            assert_eq!(check(&header.replace(&tag, &wrong), "body"), None, "{index}");
        }
        for nonsense in ["", "t", "t=,v1=", "v1=00", &header.replace("d-1", "d.1"), &"x,".repeat(1000)] {
            assert_eq!(check(nonsense, "body"), None, "{nonsense}");
        }
        assert_eq!(check(&ours(NOW, "d.1", "x"), "x"), None, "a dot would move the border to the body");
        assert_eq!(verify(Signature::Longshore, SECRET, None, b"body", NOW), None);
        assert_eq!(verify(Signature::Longshore, b"other", Some(&header), b"body", NOW), None);
        assert_eq!(verify(Signature::Github, SECRET, Some(&header), b"body", NOW), None);
    }

    #[test]
    fn the_github_form_names_a_delivery_by_its_body() {
        let header = format!("sha256={}", hex_tag(SECRET, b"body"));
        let check = |header: &str, body: &[u8]| verify(Signature::Github, SECRET, Some(header), body, NOW);
        let first = check(&header, b"body").expect("believed");
        assert_eq!(check(&header, b"body"), Some(first));
        assert_eq!(check(&header, b"other"), None);
        assert_eq!(check(header.trim_start_matches("sha256="), b"body"), None);
        assert_eq!(check("sha256=", b"body"), None);
        // GitHub's own example.
        let tag = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(
            verify(Signature::Github, b"It's a Secret to Everybody", Some(tag), b"Hello, World!", 0)
                .is_some()
        );
    }
}
