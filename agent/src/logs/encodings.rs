//! How a secret may look in a log: as it is, and as programs commonly write it down. Pure.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

/// Shorter ones would mask half of a log.
pub(super) const SHORTEST: usize = 4;
/// Characters of an encoder that a broken line may cut off before the rest is told.
const CUT_OFF: usize = 3;
const UNRESERVED: &[u8] = b"-_.~";

/// One way to write a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) bytes: Vec<u8>,
    /// Its encoder breaks lines.
    pub(super) wraps: bool,
}

/// Of the value, and of each of its lines.
pub(super) fn of(value: &[u8]) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    let whole = value.trim_ascii_end();
    let lines = whole.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let several = whole.contains(&b'\n');
    for line in lines.filter(|line| line.len() >= SHORTEST) {
        add(line, &mut patterns);
    }
    if several {
        add(whole, &mut patterns);
        // Line by line it is masked already.
        patterns.retain(|pattern| !pattern.bytes.contains(&b'\n'));
    }
    patterns
}

fn add(value: &[u8], patterns: &mut Vec<Pattern>) {
    let mut plain = |bytes: Vec<u8>| {
        if bytes.len() >= SHORTEST {
            patterns.push(Pattern { bytes, wraps: false });
        }
    };
    plain(value.to_vec());
    percent(value).into_iter().for_each(&mut plain);
    if let Ok(text) = std::str::from_utf8(value) {
        json(text).into_iter().chain(shell(text)).for_each(|text| plain(text.into_bytes()));
    }
    for encoded in base64(value).into_iter().chain([hex::encode(value), hex::encode_upper(value)]) {
        let bytes = encoded.into_bytes();
        if bytes.len() >= CUT_OFF + SHORTEST {
            patterns.push(Pattern { bytes: bytes[CUT_OFF..].to_vec(), wraps: true });
        }
        if bytes.len() >= SHORTEST {
            patterns.push(Pattern { bytes, wraps: true });
        }
    }
}

/// Alone, and the characters that are its own behind any number of other bytes.
fn base64(value: &[u8]) -> Vec<String> {
    let mut all = vec![
        STANDARD.encode(value),
        URL_SAFE.encode(value),
        STANDARD_NO_PAD.encode(value),
        URL_SAFE_NO_PAD.encode(value),
    ];
    for before in 0..3 {
        let shifted = [&[0; 3][..before], value].concat();
        let own = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            all.extend(engine.encode(&shifted).get(own.clone()).map(str::to_owned));
        }
    }
    all
}

/// As browsers and libraries do it: they differ in what they leave as it is.
fn percent(value: &[u8]) -> Vec<Vec<u8>> {
    let kept: [&[u8]; 4] = [b"", b"/", b"!'()*", b";,/?:@&=+$#!'()*"];
    let mut all = Vec::new();
    for kept in kept {
        for (space, upper) in [("%20", true), ("%20", false), ("+", true), ("+", false)] {
            let mut text = Vec::with_capacity(value.len() * 2);
            for byte in value {
                if byte.is_ascii_alphanumeric() || UNRESERVED.contains(byte) || kept.contains(byte) {
                    text.push(*byte);
                } else if *byte == b' ' {
                    text.extend_from_slice(space.as_bytes());
                } else if upper {
                    text.extend_from_slice(format!("%{byte:02X}").as_bytes());
                } else {
                    text.extend_from_slice(format!("%{byte:02x}").as_bytes());
                }
            }
            all.push(text);
        }
    }
    all
}

/// Without the quotes around it.
fn json(text: &str) -> Vec<String> {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let plain =
        quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned();
    let ascii = |upper: bool| {
        plain.chars().fold(String::new(), |mut text, character| {
            if character.is_ascii() {
                text.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    text.push_str(&if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") });
                }
            }
            text
        })
    };
    let html = plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    vec![ascii(false), ascii(true), plain.replace('/', "\\/"), html, plain.clone()]
}

/// As shells, and languages that quote like them, write a word down.
fn shell(text: &str) -> Vec<String> {
    let before = |set: &str, text: &str| {
        text.chars().fold(String::new(), |mut quoted, character| {
            if set.contains(character) {
                quoted.push('\\');
            }
            quoted.push(character);
            quoted
        })
    };
    let named = |text: &str| text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    vec![
        text.replace('\'', "'\\''"),
        text.replace('\'', "'\"'\"'"),
        before("\"$`\\", text),
        before("\"$`\\!", text),
        named(&before("'\\", text)),
        named(&before("\"\\", text)),
        named(&before("\\", text)),
        before(" \t!\"#$&'()*,;<>?[\\]^`{|}~", text),
        before(" \t!\"#$&'()*;<>?[\\]^`{|}~", text),
    ]
}
