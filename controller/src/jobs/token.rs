//! Page tokens: opaque, bound to the list they came from. A token from elsewhere is refused, never misread.

use super::error::Error;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Long enough that nobody guesses one, short enough for a command line.
const TAG: usize = 12;

/// `list` says which list in which order with which filter; `position` where the next page begins.
pub(super) fn seal(key: &[u8], list: &str, position: &[u8]) -> String {
    let mut token = tag(key, list, position);
    token.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(token)
}

/// The position; `None` for the empty token, which means the first page.
pub(super) fn open(key: &[u8], list: &str, token: &str) -> Result<Option<Vec<u8>>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::PageToken)?;
    let (given, position) = bytes.split_at_checked(TAG).ok_or(Error::PageToken)?;
    mac(key, list, position).verify_truncated_left(given).map_err(|_| Error::PageToken)?;
    Ok(Some(position.to_vec()))
}

fn tag(key: &[u8], list: &str, position: &[u8]) -> Vec<u8> {
    mac(key, list, position).finalize().into_bytes()[..TAG].to_vec()
}

fn mac(key: &[u8], list: &str, position: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of key is fine");
    mac.update(&(list.len() as u64).to_le_bytes());
    mac.update(list.as_bytes());
    mac.update(position);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_the_list_it_came_from() {
        let token = seal(b"key", "jobs of anna", b"position");
        assert_eq!(open(b"key", "jobs of anna", &token).expect("its own"), Some(b"position".to_vec()));
        assert_eq!(open(b"key", "jobs of anna", "").expect("the first page"), None);
        for (key, list, token) in [
            (&b"key"[..], "jobs of bert", token.as_str()),
            (b"other", "jobs of anna", token.as_str()),
            (b"key", "jobs of anna", "garbage"),
            (b"key", "jobs of anna", "!!"),
            (b"key", "jobs of anna", &token[..token.len() - 2]),
        ] {
            assert!(matches!(open(key, list, token), Err(Error::PageToken)), "{list} {token}");
        }
    }
}
