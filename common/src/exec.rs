//! A process that somebody starts in a running job's container: what is said between the two. Decides nothing.

use crate::fields::FieldErrors;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The exit code of a session that did not end by its command.
pub const NOT_BY_ITSELF: i32 = 125;

/// Input in one message at most.
pub const PIECE: usize = 64 << 10;
/// Of the command's words and the variables together; the kernel takes little more in one word.
const WORDS: usize = 128 << 10;

/// What is to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// It gets what the person types; else its input is closed.
    pub stdin: bool,
    pub tty: bool,
    pub size: Option<Size>,
    /// Who asks, for the log.
    pub by: String,
}

/// Of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

/// To the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Start(Start),
    Stdin(Bytes),
    StdinEnd,
    Resize(Size),
    /// Whoever asked has gone.
    HangUp,
}

/// From the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Started,
    Stdout(Bytes),
    Stderr(Bytes),
    End(End),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub code: i32,
    /// Why it ended otherwise than by itself; empty: it did.
    pub reason: String,
}

impl End {
    pub fn otherwise(reason: impl Into<String>) -> Self {
        Self { code: NOT_BY_ITSELF, reason: reason.into() }
    }
}

impl Start {
    /// Every mistake at once.
    pub fn validate(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::new();
        if self.command.first().is_none_or(String::is_empty) {
            errors.push("command", "is empty; write it after `--`, as in `exec JOB -- sh`");
        }
        let words = self.command.iter().chain(self.env.values());
        let size: usize = words.clone().map(String::len).sum();
        if size > WORDS {
            errors.push("command", format!("has {size} bytes with its variables; {WORDS} at most"));
        }
        if words.chain(self.env.keys()).any(|word| word.contains('\0')) {
            errors.push("command", "has a NUL byte, which no program can be given");
        }
        for name in self.env.keys().filter(|name| name.is_empty() || name.contains('=')) {
            errors.push(format!("env.{name}"), "is no name of a variable");
        }
        if let Some(workdir) = self.workdir.as_ref().filter(|workdir| !workdir.starts_with('/')) {
            errors.push("workdir", format!("`{workdir}` is not absolute; begin it with `/`"));
        }
        errors.into_result(())
    }

    /// The command as somebody would type it.
    pub fn shown(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.escape_debug()),
        };
        self.command.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_at_once() {
        let start = Start {
            env: [("A=B".to_owned(), String::new())].into(),
            workdir: Some("etc".to_owned()),
            ..Start::default()
        };
        let told = start.validate().expect_err("wrong").to_string();
        for field in ["command", "env.A=B", "workdir"] {
            assert!(told.contains(field), "{field}: {told}");
        }
        let fine =
            Start { command: vec!["sh".to_owned(), "-c".to_owned(), "a b".to_owned()], ..Start::default() };
        fine.validate().expect("a command");
        assert_eq!(fine.shown(), "sh -c 'a b'");
    }

    #[test]
    fn a_command_that_no_program_could_be_given_is_refused() {
        for command in [vec!["a\0b".to_owned()], vec!["x".repeat(WORDS + 1)], vec![String::new()]] {
            Start { command, ..Start::default() }.validate().expect_err("refused");
        }
    }
}
