//! A bar while bytes move, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// Clones move the same bar.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// `label` stands before the bar.
    pub(crate) fn bytes(label: &str, total: u64) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let template = "  {prefix:<8} {bytes}/{total_bytes} {bar:24} {percent} % {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style.progress_chars("━╸ "))
            .with_prefix(label.to_owned());
        Self(bar)
    }

    /// Of jobs that have ended; how many there are shows later.
    pub(crate) fn jobs(label: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("  {prefix:<8} {pos}/{len} {bar:24} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), target)
            .with_style(style.progress_chars("━╸ "))
            .with_prefix(label.to_owned());
        Self(bar)
    }

    /// So many of so many, and what is said of them.
    pub(crate) fn of(&self, done: u64, total: u64, line: &str) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_message(line.to_owned());
    }

    /// A line that stays above the bar.
    pub(crate) fn above(&self, line: &str) {
        self.0.suspend(|| super::say(line));
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// A try that failed gives its bytes back.
    pub(crate) fn take_back(&self, bytes: u64) {
        self.0.set_position(self.0.position().saturating_sub(bytes));
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
