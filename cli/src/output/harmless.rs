//! What others wrote, for a terminal. Of a log, text, line ends, tabs, colours and the clearing of a line go through;
//! whatever else could drive the terminal (titles, clipboard, cursor, modes, questions) becomes a visible mark. Of
//! names, notes and sentences only text, line ends and tabs do: none of them may rewrite or colour its neighbours.

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};
use std::fmt;

/// In the place of a sequence that was taken out.
const MARK: &str = "\u{241b}";

/// Names, notes and sentences: what stands in them is seen, and nothing of it is done.
pub(crate) fn words(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() && !turns_text_around(c) || matches!(c, '\n' | '\t');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmless(c) { shown.push(c) } else { shown.push_str(MARK) }
    }
    shown
}

/// Makes what follows be read in another order than it is written.
const fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One stream of a log. A sequence may be split over any number of pieces.
#[derive(Default)]
pub(crate) struct Harmless {
    parser: Parser<DefaultCharAccumulator>,
}

impl fmt::Debug for Harmless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harmless").finish_non_exhaustive()
    }
}

impl Harmless {
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut screen = Screen { text: String::with_capacity(bytes.len()) };
        for byte in bytes {
            self.parser.advance(&mut screen, *byte);
        }
        screen.text.into_bytes()
    }
}

struct Screen {
    text: String,
}

impl Screen {
    fn mark(&mut self) {
        self.text.push_str(MARK);
    }
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        // C1: the same powers in one character.
        if ('\u{80}'..='\u{9f}').contains(&c) { self.mark() } else { self.text.push(c) }
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' | b'\t' | 0x08 => self.text.push(char::from(byte)),
            _ => self.mark(),
        }
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, _: u8) {
        self.mark();
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        self.mark();
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {
        self.mark();
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: u8) {
        if ignore || !intermediates.is_empty() || !matches!(action, b'm' | b'K') {
            return self.mark();
        }
        let params = params.iter().map(|one| {
            let parts: Vec<_> = one.iter().map(ToString::to_string).collect();
            parts.join(":")
        });
        let params: Vec<_> = params.collect();
        self.text.push_str(&format!("\u{1b}[{}{}", params.join(";"), char::from(action)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> String {
        String::from_utf8(Harmless::default().pass(text.as_bytes())).expect("text")
    }

    #[test]
    fn text_colours_and_progress_bars_go_through() {
        for text in
            ["plain é 字 🙂\n", "10 %\r20 %\r\n", "\u{1b}[1;31mred\u{1b}[0m\t|", "a\u{1b}[2Kb", "\u{8}x"]
        {
            assert_eq!(whole(text), text);
        }
    }

    #[test]
    fn a_name_or_a_note_rewrites_nothing_beside_it() {
        assert_eq!(words("größe 字 🙂\tx\n"), "größe 字 🙂\tx\n");
        for attack in [
            "gpu-01\rgpu-02  online",
            "x\u{8}\u{8}y",
            "a\u{1b}[2Kb",
            "\u{1b}[31mred",
            "\u{1b}]unended",
            "\u{9b}2J",
            "\u{7f}",
            "\u{202e}txt.exe",
        ] {
            let shown = words(attack);
            assert!(shown.contains(MARK), "{attack:?}: {shown:?}");
            assert!(!shown.chars().any(|c| c.is_control() || turns_text_around(c)), "{attack:?}: {shown:?}");
        }
        // What comes after a sequence that never ends is there all the same.
        assert!(words("\u{1b}]unended\nnext row").ends_with("\nnext row"));
    }

    #[test]
    fn nothing_else_reaches_the_terminal() {
        for attack in [
            "\u{1b}]0;root@host\u{7}",   // title
            "\u{1b}]52;c;cm0gLXJm\u{7}", // clipboard
            "\u{1b}[2J\u{1b}[H",         // screen
            "\u{1b}[6n",                 // a question that is answered on stdin
            "\u{1b}[?1049h",             // another screen
            "\u{1b}[1A\u{1b}[5G",        // over what was said before
            "\u{1b}P$q\"p\u{1b}\\",      // a control string
            "\u{1b}c",                   // reset
            "\u{9b}2J",                  // the same in one character
            "\u{7}\u{e}\u{f}",           // bell and other alphabets
        ] {
            let shown = whole(&format!("a{attack}b"));
            assert!(
                shown.starts_with('a') && shown.ends_with('b') && shown.contains(MARK),
                "{attack:?}: {shown:?}"
            );
            assert!(!shown.chars().any(|c| c.is_control()), "{attack:?}: {shown:?}");
        }
    }

    #[test]
    fn a_sequence_that_comes_in_pieces_is_one_all_the_same() {
        let (text, mut stream) = ("a\u{1b}[31mb\u{1b}]0;t\u{7}c 字", Harmless::default());
        let pieces: Vec<u8> = text.bytes().flat_map(|byte| stream.pass(&[byte])).collect();
        assert_eq!(String::from_utf8(pieces).expect("text"), format!("a\u{1b}[31mb{MARK}c 字"));
    }
}
