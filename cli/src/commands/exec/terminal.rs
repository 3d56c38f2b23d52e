//! The person's own terminal: its size, and every key passed on as it is pressed. Given back as it was.

use longshore_proto::v1;
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;

pub(super) fn is_one() -> bool {
    isatty(stdio::stdin())
}

/// `None`: there is no terminal, or it does not say.
pub(super) fn size() -> Option<v1::WindowSize> {
    let size = tcgetwinsize(stdio::stdin()).or_else(|_| tcgetwinsize(stdio::stdout())).ok()?;
    (size.ws_col > 0 && size.ws_row > 0)
        .then(|| v1::WindowSize { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// As long as it lives, no key means anything here.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // One that has gone needs nothing back.
        tcsetattr(stdio::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}
