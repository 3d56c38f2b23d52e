//! Whether TLS is on, out of the settings that have a say in it. Pure.

use super::{Config, Mode};
use std::net::SocketAddr;
use url::Url;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Tls,
    /// Only this machine can reach it.
    PlainLocal,
    /// Others can, and somebody wanted it so.
    PlainInsecure,
}

/// Settings that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "listen is {0}, which others can reach: leave tls.mode at `auto`, or allow plain text with --insecure"
    )]
    PlainForOthers(SocketAddr),
    #[error("tls.mode is `on` and tls.insecure is true: take one of them away")]
    Both,
    #[error(
        "public_url is {0}, and this controller speaks TLS: write https://, or allow plain text with --insecure"
    )]
    SchemePlain(Url),
    #[error("public_url is {0}, and this controller speaks no TLS: write http://, or set tls.mode to `on`")]
    SchemeTls(Url),
}

impl Policy {
    pub fn of(config: &Config, listen: SocketAddr, public_url: Option<&Url>) -> Result<Self, Refusal> {
        let local = listen.ip().is_loopback();
        let policy = match (config.mode, config.insecure) {
            (Mode::On, true) => return Err(Refusal::Both),
            (Mode::On, false) => Self::Tls,
            (Mode::Auto | Mode::Off, _) if local => Self::PlainLocal,
            (Mode::Auto | Mode::Off, true) => Self::PlainInsecure,
            (Mode::Auto, false) => Self::Tls,
            (Mode::Off, false) => return Err(Refusal::PlainForOthers(listen)),
        };
        match public_url {
            Some(url) if url.scheme() == "http" && policy == Self::Tls => {
                Err(Refusal::SchemePlain(url.clone()))
            }
            Some(url) if url.scheme() == "https" && policy != Self::Tls => {
                Err(Refusal::SchemeTls(url.clone()))
            }
            _ => Ok(policy),
        }
    }

    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "https",
            Self::PlainLocal | Self::PlainInsecure => "http",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: Mode, insecure: bool, listen: &str, url: Option<&str>) -> Result<Policy, String> {
        let config = Config { mode, insecure, ..Config::default() };
        let url = url.map(|url| url.parse().expect("an address"));
        Policy::of(&config, listen.parse().expect("an address"), url.as_ref()).map_err(|e| e.to_string())
    }

    #[test]
    fn tls_is_on_when_others_can_come() {
        const OPEN: &str = "0.0.0.0:7420";
        const LOCAL: &str = "127.0.0.1:7420";
        assert_eq!(policy(Mode::Auto, false, OPEN, Some("https://x")), Ok(Policy::Tls));
        assert_eq!(policy(Mode::Auto, false, LOCAL, None), Ok(Policy::PlainLocal));
        assert_eq!(policy(Mode::On, false, LOCAL, None), Ok(Policy::Tls));
        assert_eq!(policy(Mode::Auto, true, OPEN, Some("http://x")), Ok(Policy::PlainInsecure));
        assert_eq!(policy(Mode::Auto, true, LOCAL, None), Ok(Policy::PlainLocal));
        for (mode, insecure, listen, url, words) in [
            (Mode::Off, false, OPEN, None, "--insecure"),
            (Mode::On, true, OPEN, None, "take one of them away"),
            (Mode::Auto, false, OPEN, Some("http://x"), "write https://"),
            (Mode::Auto, true, OPEN, Some("https://x"), "write http://"),
            (Mode::Auto, false, LOCAL, Some("https://x"), "tls.mode to `on`"),
        ] {
            let error = policy(mode, insecure, listen, url).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
