//! What people and scripts read: tables, JSON, YAML. Data goes to stdout, words about it to stderr.

mod amounts;
mod harmless;
mod progress;
mod reflect;
mod table;

pub(crate) use amounts::{age, amount, size, span};
pub(crate) use harmless::{Harmless, words};
pub(crate) use progress::Progress;
pub(crate) use reflect::to_json;
pub(crate) use table::Table;

use clap::{Args, ValueEnum};
use std::io::{self, IsTerminal as _, Write as _};

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// More columns
    Wide,
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormatArgs {
    /// How to write the result
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_default_value = true
    )]
    pub(crate) output: Format,
}

impl FormatArgs {
    pub(crate) const fn is_wide(self) -> bool {
        matches!(self.output, Format::Wide)
    }

    /// Whether a script reads the result.
    pub(crate) const fn is_for_scripts(self) -> bool {
        matches!(self.output, Format::Json | Format::Yaml)
    }

    /// One of many values that come one after the other: a line of JSON, or an item of one YAML list.
    pub(crate) fn item(self, value: &serde_json::Value) -> anyhow::Result<String> {
        Ok(match self.output {
            Format::Yaml => serde_saphyr::to_string(&[value])?,
            Format::Table | Format::Wide | Format::Json => format!("{value}\n"),
        })
    }

    /// Writes `value` if JSON or YAML is wanted, and says whether it did.
    pub(crate) fn write(self, value: impl FnOnce() -> serde_json::Value) -> anyhow::Result<bool> {
        match self.output {
            Format::Table | Format::Wide => return Ok(false),
            Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&value())?))?,
            Format::Yaml => print(&serde_saphyr::to_string(&value())?)?,
        }
        Ok(true)
    }
}

/// Writes to stdout; an error if the reader has gone.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        out.write_all(words(text).as_bytes())?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    out.flush()
}

/// Writes a line to stderr. What cannot be said is not an error.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    // Names and reasons in it may be others' words.
    if err.is_terminal() {
        drop(writeln!(err, "{}", words(line.as_ref())));
    } else {
        drop(writeln!(err, "{}", line.as_ref()));
    }
}
