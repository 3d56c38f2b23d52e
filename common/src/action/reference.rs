//! How people name an action: `convert`, or `convert@3` for its third version. After `run` an `@` comes first, which no
//! image's name begins with: `@convert@3`.

use crate::job::check_name;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRef {
    pub name: String,
    /// `None`: the latest.
    pub version: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no action: write NAME or NAME@VERSION, like convert@3")]
pub struct NotAnAction(String);

impl FromStr for ActionRef {
    type Err = NotAnAction;

    fn from_str(text: &str) -> Result<Self, NotAnAction> {
        let wrong = || NotAnAction(text.to_owned());
        let plain = text.strip_prefix('@').unwrap_or(text);
        let (name, version) = match plain.split_once('@') {
            Some((name, "latest")) => (name, None),
            Some((name, version)) => {
                let version = version.strip_prefix('v').unwrap_or(version);
                let version = version.parse().ok().filter(|version| *version > 0).ok_or_else(wrong)?;
                (name, Some(version))
            }
            None => (plain, None),
        };
        check_name("", name).map_err(|_| wrong())?;
        Ok(Self { name: name.to_owned(), version })
    }
}

impl fmt::Display for ActionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.version.map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_named_with_or_without_its_version() {
        for (text, name, version) in [
            ("convert", "convert", None),
            ("@convert", "convert", None),
            ("convert@3", "convert", Some(3)),
            ("@convert@v3", "convert", Some(3)),
            ("convert@latest", "convert", None),
        ] {
            let read: ActionRef = text.parse().expect(text);
            assert_eq!((read.name.as_str(), read.version), (name, version), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for text in
            ["", "@", "@@3", "convert@", "convert@0", "convert@x", "Convert", "a/b", "a:1", "convert@3@4"]
        {
            let error = text.parse::<ActionRef>().expect_err(text);
            assert!(error.to_string().contains("NAME@VERSION"), "{error}");
        }
    }
}
