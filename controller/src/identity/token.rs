//! The text of a token: `lst_ID_SECRET`. The id is public and names its row; of the secret only a digest is kept,
//! which is enough for 256 random bits.

use crate::store::TokenRow;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use longshore_common::{access::Role, clock::Timestamp, ids::ShortId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "lst";

/// What is known of a token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub name: String,
    pub role: Role,
    /// `None`: of all.
    pub project: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
    pub used_at: Option<Timestamp>,
}

impl Token {
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }
}

/// A text that has a token's form.
pub(super) struct Text<'a> {
    pub(super) id: &'a str,
    secret: &'a str,
}

impl<'a> Text<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, '_');
        let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let formed = prefix == PREFIX && !id.is_empty() && !secret.is_empty() && text.is_ascii();
        formed.then_some(Self { id, secret })
    }

    /// Compared in constant time.
    pub(super) fn is(&self, digest: &[u8; 32]) -> bool {
        digest_of(self.secret).ct_eq(digest).into()
    }
}

/// A new token's text, and what is kept of it.
pub(super) fn new(
    name: String,
    role: Role,
    project: Option<String>,
    by: &str,
    expires_at: Option<Timestamp>,
) -> (String, TokenRow) {
    let random: [u8; 32] = rand::random();
    let (id, secret) = (ShortId::random().to_string(), URL_SAFE_NO_PAD.encode(random));
    let text = format!("{PREFIX}_{id}_{secret}");
    let created_at = Timestamp::now();
    let created_by = by.to_owned();
    let token = Token { id, name, role, project, created_at, created_by, expires_at, used_at: None };
    (text, TokenRow { token, digest: digest_of(&secret), revoked_at: None })
}

fn digest_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_secret_opens() {
        let (text, row) = new("ci".into(), Role::Submitter, None, "anna", None);
        let parsed = Text::parse(&text).expect("our own text");
        assert_eq!(parsed.id, row.token.id);
        assert!(parsed.is(&row.digest));
        assert!(!format!("{row:?}").contains(parsed.secret));
        let other = format!("{}A", &text[..text.len() - 1]);
        let other = if other == text { format!("{}B", &text[..text.len() - 1]) } else { other };
        assert!(!Text::parse(&other).expect("the same form").is(&row.digest));
        for nonsense in ["", "lst", "lst_", "lst_a_", "lst__b", "abc_d_e", "lst_a", "lst_a_\u{e9}"] {
            assert!(Text::parse(nonsense).is_none(), "{nonsense}");
        }
    }
}
