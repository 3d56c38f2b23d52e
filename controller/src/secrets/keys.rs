//! Envelope encryption: values under a data key of the cluster, data keys under a key that is not in the database.
//! AES-256-GCM throughout, a random nonce in front of each text. Knows no names and no tables.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use longshore_common::durable;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use std::{fmt, fs, io, path::Path};
use zeroize::Zeroizing;

/// Bytes of every key here.
const LENGTH: usize = 32;

/// What cannot be opened: another key made it, or somebody changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was encrypted with another key, or was changed since")]
pub(crate) struct Unreadable;

#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; LENGTH]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(key)")
    }
}

impl Key {
    pub(crate) fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// `place` is what the value is for: in another place it does not open.
    pub(crate) fn seal(&self, place: &[u8], value: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = value.to_vec();
        let key = self.cipher();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .expect("values are far shorter than what a nonce is good for");
        [&nonce[..], &sealed].concat()
    }

    pub(crate) fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unreadable)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self.cipher().open_in_place(nonce, Aad::from(place), &mut text);
        let length = length.map_err(|_| Unreadable)?.len();
        text.truncate(length);
        Ok(text)
    }

    pub(crate) fn wrap(&self, other: &Self) -> Vec<u8> {
        self.seal(WRAPPED, &other.0[..])
    }

    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Result<Self, Unreadable> {
        Self::from_bytes(&self.open(WRAPPED, wrapped)?).ok_or(Unreadable)
    }

    /// Tells two values apart without telling them.
    pub(crate) fn mark(&self, value: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0[..]);
        hmac::sign(&key, value).as_ref().to_vec()
    }

    /// Bytes that only this key gives for `purpose`, and that no mark can be.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Zeroizing<Vec<u8>> {
        let own = Zeroizing::new(self.mark(DERIVED));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &own);
        Zeroizing::new(hmac::sign(&key, purpose).as_ref().to_vec())
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0[..]).expect("it has the length of such a key"))
    }
}

const WRAPPED: &[u8] = b"longshore data key";
const DERIVED: &[u8] = b"longshore derived";

/// The key in a file; a file that is not there is made, for its owner alone.
pub(crate) fn from_file(path: &Path) -> io::Result<Key> {
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(path),
        Err(error) => return Err(error),
    };
    let wrong = "is no key: a key is 32 bytes in base64, as from `openssl rand -base64 32`";
    Key::from_base64(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, wrong))
}

fn make(path: &Path) -> io::Result<Key> {
    let key = Key::random();
    let text = Zeroizing::new(format!("{}\n", STANDARD.encode(&key.0[..])));
    // Whole or not at all: half a key would lock the controller out at its next start.
    durable::replace_private(path, text.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_value_opens_with_its_key_in_its_place_and_unchanged_only() {
        let key = Key::random();
        let sealed = key.seal(b"lab/token", b"hunter2");
        assert_eq!(&key.open(b"lab/token", &sealed).expect("its own")[..], b"hunter2");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_ne!(sealed, key.seal(b"lab/token", b"hunter2"), "a nonce of its own");
        assert!(key.open(b"other/token", &sealed).is_err());
        assert!(Key::random().open(b"lab/token", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(key.open(b"lab/token", &changed).is_err(), "{index}");
        }
        assert!(key.open(b"", &[]).is_err());
        assert!(!format!("{key:?}").contains('['));
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let (first, again) = (from_file(&path).expect("made"), from_file(&path).expect("read"));
        assert_eq!(first.0, again.0);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let data = Key::random();
        assert_eq!(again.unwrap(&first.wrap(&data)).expect("wrapped by it").0, data.0);
        fs::write(&path, "short").expect("written");
        assert!(from_file(&path).expect_err("no key").to_string().contains("32 bytes"));
    }
}
