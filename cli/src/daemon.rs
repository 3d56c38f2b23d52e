//! What the daemons share: where their settings come from, and how they are told to leave.

use crate::failure::{Failure, code};
use crate::output::{print, say};
use clap::Args;
use longshore_common::config::{self, Flag, Sources};
use longshore_common::{shutdown::Shutdown, tasks};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, path::PathBuf};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Settings in TOML; must be there if it is named
    #[arg(long, global = true, env = "LONGSHORE_CONFIG", value_name = "FILE", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Any setting by its path, as in jobs.retention=7d
    #[arg(long = "set", global = true, value_name = "PATH=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Print all settings as they would be used, and leave
    #[arg(long)]
    print_config: bool,
}

impl ConfigArgs {
    /// The settings of all layers, or `None` if they were only to be printed.
    /// `example` has a value for every setting.
    pub(crate) fn load<T>(&self, assumed: &str, flags: Vec<Flag>, example: &T) -> anyhow::Result<Option<T>>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let set = self.settings.iter().map(|(path, value)| Flag {
            name: format!("--set {path}"),
            path: path.clone(),
            value: value.clone(),
        });
        let sources = Sources {
            file: Some(self.config.clone().unwrap_or_else(|| assumed.into())),
            file_must_exist: self.config.is_some(),
            variables: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: set.chain(flags).collect(),
        };
        let loaded = config::load::<T>(&sources).map_err(|error| Failure::usage(error.to_string()))?;
        for warning in &loaded.warnings {
            say(format!("longshore: {warning}"));
        }
        if self.print_config {
            print(&config::print(&loaded.settings, example))?;
            return Ok(None);
        }
        Ok(Some(loaded.settings))
    }
}

/// A flag that was given, as a setting.
pub(crate) fn flag(name: &str, path: &str, value: Option<&impl ToString>) -> Option<Flag> {
    let flag =
        |value: &_| Flag { name: name.to_owned(), path: path.to_owned(), value: ToString::to_string(value) };
    value.map(flag)
}

/// Triggers at the first SIGTERM or Ctrl-C; the second one ends the process where it is.
pub(crate) fn leave_on_signal() -> io::Result<Shutdown> {
    let shutdown = Shutdown::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = shutdown.clone();
    drop(tasks::spawn("signals", async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("leaving; a second signal ends at once");
                told.trigger();
            }
        }
        std::process::exit(code::INTERRUPTED);
    }));
    Ok(shutdown)
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.is_empty() => Ok((path.to_owned(), value.to_owned())),
        _ => Err(format!("write PATH=VALUE, not `{text}`")),
    }
}
