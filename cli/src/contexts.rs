//! Which controller, as whom: flags and environment, else a named context that `longshore login` kept.

use crate::client::DEFAULT_URL;
use crate::failure::Failure;
use clap::Args;
use longshore_common::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// What every command that calls a controller takes.
#[derive(Clone, Default, Args)]
pub(crate) struct TargetArgs {
    /// The controller [default: the context's, else http://127.0.0.1:7420]
    #[arg(long, global = true, env = "LONGSHORE_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// What opens it [default: the context's]; better in the environment than on a command line
    #[arg(long, global = true, env = "LONGSHORE_TOKEN", hide_env_values = true, hide = true)]
    pub(crate) token: Option<String>,
    /// Whose jobs [default: the context's]
    #[arg(long, global = true, env = "LONGSHORE_PROJECT", hide_env_values = true)]
    pub(crate) project: Option<String>,
    /// A login kept by `longshore login`
    #[arg(long, global = true, env = "LONGSHORE_CONTEXT", hide_env_values = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Trust this authority too [default: the context's]
    #[arg(long, global = true, env = "LONGSHORE_CA_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Show the token over http:// to another machine: everybody on the way can read it
    #[arg(
        long,
        global = true,
        env = "LONGSHORE_PLAIN_TEXT",
        hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(crate) plain_text: bool,
}

impl fmt::Debug for TargetArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetArgs")
            .field("url", &self.url)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// A controller and who calls it.
#[derive(Clone, Default)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// Empty: none.
    pub(crate) token: String,
    /// Empty: whatever the token may see.
    pub(crate) project: String,
    /// PEM, beside the authorities the machine trusts.
    pub(crate) ca: Option<String>,
    /// The token may be shown without TLS to another machine.
    pub(crate) plain_text: bool,
}

/// One login.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) token: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) project: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    /// Whoever logged in said so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) plain_text: bool,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts").field("current", &self.current).finish_non_exhaustive()
    }
}

impl Contexts {
    /// What was kept; nothing was: none.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::usage(format!("{}: {error}", path.display()))),
        };
        let wrong = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
        toml::from_str(&text).map_err(wrong)
    }

    /// Whole or not at all, for the owner's eyes alone.
    pub(crate) fn save(&self) -> Result<PathBuf, Failure> {
        let path = path().ok_or_else(|| Failure::usage("HOME is not set: there is no place for a login"))?;
        write(&path, &toml::to_string(self).expect("plain data with text keys"))
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        Ok(path)
    }

    fn current(&self) -> Option<&Context> {
        self.contexts.get(self.current.as_ref()?)
    }

    /// Of this address; the current one if it is.
    fn of(&self, url: &str) -> Option<&Context> {
        let mut all = self.current().into_iter().chain(self.contexts.values());
        all.find(|context| same_address(&context.url, url))
    }

    /// Flags first; then the context that was named, that is of the same address, or that is current.
    pub(crate) fn target(&self, args: &TargetArgs) -> Result<Target, Failure> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let named = match (given(&args.context), given(&args.url)) {
            (Some(name), _) => Some(self.contexts.get(&name).ok_or_else(|| {
                Failure::usage(format!("no context `{name}`; `longshore contexts` lists all"))
            })?),
            (None, Some(url)) => self.of(&url),
            (None, None) => self.current().or_else(|| self.of(DEFAULT_URL)),
        };
        let context = named.cloned().unwrap_or_default();
        let url = given(&args.url).or(Some(context.url.clone()).filter(|url| !url.is_empty()));
        let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned());
        // A token is shown to nobody but the controller that made it.
        let own = same_address(&url, &context.url);
        Ok(Target {
            token: given(&args.token).unwrap_or_else(|| if own { context.token } else { String::new() }),
            project: given(&args.project).unwrap_or(context.project),
            ca: match &args.ca_file {
                Some(file) => Some(read_ca(file)?),
                None => context.ca,
            },
            plain_text: args.plain_text || own && context.plain_text,
            url,
        })
    }
}

/// PEM of an authority.
pub(crate) fn read_ca(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

fn same_address(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("longshore/contexts.toml"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().expect("it has a folder");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    durable::replace_private(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let context = |url: &str, token: &str| Context {
            url: url.to_owned(),
            token: token.to_owned(),
            ..Context::default()
        };
        Contexts {
            current: Some("lab".to_owned()),
            contexts: BTreeMap::from([
                ("a-second".to_owned(), context("https://lab:7420", "s")),
                ("dev".to_owned(), context(DEFAULT_URL, "d")),
                ("lab".to_owned(), context("https://lab:7420", "l")),
            ]),
        }
    }

    fn args(url: &str, context: &str, token: &str) -> TargetArgs {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        TargetArgs { url: some(url), context: some(context), token: some(token), ..TargetArgs::default() }
    }

    #[test]
    fn a_token_is_shown_only_where_it_belongs() {
        for (url, context, token, wanted) in [
            ("", "", "", ("https://lab:7420", "l")),
            ("", "dev", "", (DEFAULT_URL, "d")),
            ("https://lab:7420", "", "", ("https://lab:7420", "l")),
            ("http://127.0.0.1:7420/", "", "", ("http://127.0.0.1:7420/", "d")),
            ("https://evil", "", "", ("https://evil", "")),
            ("https://evil", "lab", "", ("https://evil", "")),
            ("https://evil", "", "mine", ("https://evil", "mine")),
        ] {
            let target = contexts().target(&args(url, context, token)).expect("a target");
            assert_eq!((target.url.as_str(), target.token.as_str()), wanted, "{url} {context}");
        }
        assert!(contexts().target(&args("", "nowhere", "")).is_err());
        let mut plain = contexts();
        plain.contexts.get_mut("lab").expect("there").plain_text = true;
        let is_plain = |url: &str| plain.target(&args(url, "lab", "t")).expect("a target").plain_text;
        assert!(is_plain("") && !is_plain("http://evil"), "what was said of one address holds for that one");
        let none = Contexts::default().target(&TargetArgs::default()).expect("a target");
        assert_eq!((none.url.as_str(), none.token.as_str()), (DEFAULT_URL, ""));
    }
}
