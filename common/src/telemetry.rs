//! The process's own log: to stderr, as text for people or JSON for machines. Set up once, by the binary's `main`.

use std::{env, fmt, io, io::IsTerminal as _, str::FromStr};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::format::FmtSpan;

/// What is logged, in the syntax of `tracing`'s filters: `info`, `longshore_agent=debug,info`.
pub const FILTER_VARIABLE: &str = "LONGSHORE_LOG";
pub const FORMAT_VARIABLE: &str = "LONGSHORE_LOG_FORMAT";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{FILTER_VARIABLE}: `{text}` is no log filter like `info` or `longshore_agent=debug`: {source}")]
    Filter { text: String, source: ParseError },
    #[error("{FORMAT_VARIABLE}: `{0}` is not text or json")]
    Format(String),
}

impl Error {
    pub const fn is_transient(&self) -> bool {
        false
    }
}

/// Reads the two variables and `NO_COLOR`. `default` is the filter if none is set: daemons say `info`, commands
/// `warn`.
pub fn start(default: &str) -> Result<(), Error> {
    let text = env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| default.to_owned());
    // It logs what it also answers; whoever asked says it once, with what it means.
    let quiet = if text.contains("lapin") { text.clone() } else { format!("{text},lapin=off") };
    let filter = EnvFilter::try_new(&quiet).map_err(|source| Error::Filter { text, source })?;
    let format = env::var(FORMAT_VARIABLE).unwrap_or_default().parse()?;
    let colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    let started = match format {
        Format::Text => builder.with_ansi(colour).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second start keeps the first: tests and `dev` may call it twice.
    drop(started);
    Ok(())
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "" | "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(Error::Format(other.to_owned())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_back_and_others_are_refused() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse::<Format>().ok(), Some(format));
        }
        assert!("yaml".parse::<Format>().is_err());
    }

    #[test]
    fn starting_twice_is_fine() {
        assert!(start("info").is_ok() && start("debug").is_ok());
    }
}
