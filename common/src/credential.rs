//! What agents show: join tokens and keys as texts, and the names under which a controller takes agents in.
//! Reading a text proves nothing: whether it is good is for the controller to say.

use crate::ids::AgentId;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr};

/// Under this name (SNI) a controller demands a client certificate.
pub const AGENT_NAME: &str = "agent.longshore";
/// Under this one it shows its own authority's certificate and asks for none.
pub const JOIN_NAME: &str = "join.longshore";

const JOIN: &str = "lsj_";
const KEY: &str = "lsk_";
const ID: usize = 8;
const SECRET: usize = 32;
const FINGERPRINT: usize = 32;
const KEY_ID: usize = 16;

/// Lets machines in. Shown once, kept as a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: JoinTokenId,
    pub secret: [u8; SECRET],
    /// SHA-256 of the certificate of the controller's authority; `None`: it speaks no TLS.
    pub fingerprint: Option<[u8; FINGERPRINT]>,
}

/// What people see of a join token in lists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JoinTokenId([u8; ID]);

/// An agent's bearer secret, for controllers without TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentKey {
    pub agent: AgentId,
    pub id: [u8; KEY_ID],
    pub secret: [u8; SECRET],
}

/// A text that is none of ours, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("this is not a join token: it begins with `lsj_`, and `longshore agents join-token` makes one")]
    NoJoinToken,
    #[error("the join token is damaged or not whole: paste all of it, to its last letter")]
    Damaged,
    #[error("this is not an agent's key")]
    NoKey,
    #[error(
        "`lsj_` is missing, or this is not the id of a join token; `longshore agents join-tokens` lists them"
    )]
    NoId,
}

impl JoinToken {
    pub fn new(id: [u8; ID], secret: [u8; SECRET], fingerprint: Option<[u8; FINGERPRINT]>) -> Self {
        Self { id: JoinTokenId(id), secret, fingerprint }
    }

    /// As it is pasted.
    pub fn reveal(&self) -> String {
        // Says what must follow, so that a cut is noticed.
        let mut bytes = vec![u8::from(self.fingerprint.is_some())];
        bytes.extend(self.id.0);
        bytes.extend(self.secret);
        bytes.extend(self.fingerprint.iter().flatten());
        format!("{JOIN}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let body = text.trim().strip_prefix(JOIN).ok_or(ParseError::NoJoinToken)?;
        let bytes = decode(body, 1 + ID + SECRET + FINGERPRINT).ok_or(ParseError::Damaged)?;
        let (kind, rest) = bytes.split_first().ok_or(ParseError::Damaged)?;
        let (id, rest) = rest.split_first_chunk().ok_or(ParseError::Damaged)?;
        let (secret, rest) = rest.split_first_chunk().ok_or(ParseError::Damaged)?;
        let fingerprint = match (kind, rest) {
            (0, []) => None,
            (1, rest) => Some(rest.try_into().map_err(|_| ParseError::Damaged)?),
            _ => return Err(ParseError::Damaged),
        };
        Ok(Self::new(*id, *secret, fingerprint))
    }
}

impl JoinTokenId {
    pub const fn as_bytes(&self) -> &[u8; ID] {
        &self.0
    }

    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl FromStr for JoinTokenId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut id = [0; ID];
        hex::decode_to_slice(text, &mut id).map_err(|_| ParseError::NoId)?;
        Ok(Self(id))
    }
}

impl fmt::Display for JoinTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for JoinTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AgentKey {
    /// As it is sent and kept.
    pub fn reveal(&self) -> String {
        let bytes = [&self.agent.as_bytes()[..], &self.id, &self.secret].concat();
        format!("{KEY}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for AgentKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let body = text.strip_prefix(KEY).ok_or(ParseError::NoKey)?;
        let bytes = decode(body, 16 + KEY_ID + SECRET).ok_or(ParseError::NoKey)?;
        let (agent, rest) = bytes.split_first_chunk::<16>().ok_or(ParseError::NoKey)?;
        let (id, secret) = rest.split_first_chunk().ok_or(ParseError::NoKey)?;
        Ok(Self {
            agent: AgentId::from_slice(agent).map_err(|_| ParseError::NoKey)?,
            id: *id,
            secret: secret.try_into().map_err(|_| ParseError::NoKey)?,
        })
    }
}

/// Nothing longer than it could be is looked at.
fn decode(text: &str, most: usize) -> Option<Vec<u8>> {
    if text.len() > most.div_ceil(3) * 4 {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentKey").field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_reads_back(id: [u8; 8], secret: [u8; 32], fingerprint: Option<[u8; 32]>) {
            let token = JoinToken::new(id, secret, fingerprint);
            prop_assert_eq!(token.reveal().parse::<JoinToken>(), Ok(token));
        }

        #[test]
        fn no_text_breaks_the_reader(text in "[A-Za-z0-9_-]{0,200}|.{0,200}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
            let whole = format!("lsj_{text}");
            if let Ok(token) = whole.parse::<JoinToken>() {
                prop_assert_eq!(token.reveal(), whole);
            }
            prop_assert!(text.parse::<AgentKey>().is_err());
        }
    }

    #[test]
    fn a_token_that_was_cut_says_so() {
        for fingerprint in [None, Some([7; 32])] {
            let text = JoinToken::new([1; 8], [2; 32], fingerprint).reveal();
            for length in JOIN.len()..text.len() {
                assert_eq!(text[..length].parse::<JoinToken>(), Err(ParseError::Damaged), "{length}");
            }
            assert!(format!(" {text}\n").parse::<JoinToken>().is_ok(), "as pasted");
            assert_eq!(format!("{text}A").parse::<JoinToken>(), Err(ParseError::Damaged));
        }
        assert_eq!("hello".parse::<JoinToken>(), Err(ParseError::NoJoinToken));
    }

    #[test]
    fn a_key_reads_back_and_shows_nothing() {
        let key = AgentKey { agent: AgentId::new(), id: [3; 16], secret: [4; 32] };
        assert_eq!(key.reveal().parse::<AgentKey>(), Ok(key.clone()));
        assert!(!format!("{key:?} {:?}", JoinToken::new([1; 8], [4; 32], None)).contains("4, 4"));
        assert_eq!("lsk_AAAA".parse::<AgentKey>(), Err(ParseError::NoKey));
    }
}
