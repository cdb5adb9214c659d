//! Keys of the API: `pm_`, 12 hexadecimal digits by which the key is found, `_`, and 64 that nobody can guess.
//!
//! The ledger keeps the first part and the SHA-256 of the whole: 256 bits of chance need no slow hash. A key shows
//! itself once, to whoever made it; `Debug` hides it. Not responsible for rows (`engines/store/api_keys.rs`) or for
//! headers (`api/caller.rs`). To change the form: a new word in place of `pm`, beside this one.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::random_bytes;

/// What every key begins with.
const WORD: &str = "pm_";
/// Bytes by which a key is found.
const PREFIX: usize = 6;
/// Bytes of chance.
const SECRET: usize = 32;

/// A key of the API, well-formed.
#[derive(Debug)]
pub(crate) struct ApiKey(SecretString);

impl ApiKey {
    /// A new one.
    pub(crate) fn generate() -> Self {
        let (prefix, secret): ([u8; PREFIX], [u8; SECRET]) = (random_bytes(), random_bytes());
        Self(format!("{WORD}{}_{}", hex(&prefix), hex(&secret)).into())
    }

    /// A key that somebody shows; none where it has not the form of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(WORD)?.split_once('_')?;
        (is_hex(prefix, PREFIX) && is_hex(secret, SECRET)).then(|| Self(text.into()))
    }

    /// The part by which it is found, with the word before it: no secret.
    pub(crate) fn prefix(&self) -> &str {
        &self.0.expose_secret()[..WORD.len() + 2 * PREFIX]
    }

    /// SHA-256 of the whole in hexadecimal digits: no secret.
    pub(crate) fn hash(&self) -> String {
        hex(digest(&SHA256, self.0.expose_secret().as_bytes()).as_ref())
    }

    /// Whether this is the hash of it; takes as long for each hash of the right length.
    pub(crate) fn has_hash(&self, stored: &str) -> bool {
        verify_slices_are_equal(self.hash().as_bytes(), stored.as_bytes()).is_ok()
    }

    /// The key itself, for the one who has just made it.
    pub(crate) fn show(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The prefix in what a person names a key by: the prefix itself, or the whole key; none where it is a name.
pub(crate) fn prefix_in(text: &str) -> Option<&str> {
    let prefix = text.get(..WORD.len() + 2 * PREFIX)?;
    is_hex(prefix.strip_prefix(WORD)?, PREFIX).then_some(prefix)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text is so many bytes in our own hexadecimal digits: one key has one form.
fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_prefix_and_known_by_its_hash() {
        let (one, other) = (ApiKey::generate(), ApiKey::generate());
        let again = ApiKey::parse(one.show()).unwrap();
        assert_eq!((again.prefix(), again.hash()), (one.prefix(), one.hash()));
        assert!(one.show().starts_with(one.prefix()) && one.show().len() == 80);
        assert!(again.has_hash(&one.hash()) && !again.has_hash(&other.hash()) && !again.has_hash(""));
        assert_ne!(one.show()[16..], other.show()[16..]);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = ApiKey::generate();
        let good = key.show();
        let spoilt = [
            String::new(),
            good[1..].to_owned(),
            good[..79].to_owned(),
            format!("{good}0"),
            format!("{good} "),
            good.to_uppercase(),
            good.replacen('_', "-", 1),
            good[..78].to_owned() + "gg",
            good[..78].to_owned() + "é",
        ];
        for text in spoilt {
            assert!(ApiKey::parse(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_person_names_a_key_by_prefix_or_whole() {
        let key = ApiKey::generate();
        assert_eq!(prefix_in(key.prefix()), Some(key.prefix()));
        assert_eq!(prefix_in(key.show()), Some(key.prefix()));
        for name in ["", "pm_", "dashboard", "pm_of_the_dashboard", "pm_0123456789aé"] {
            assert_eq!(prefix_in(name), None, "{name}");
        }
    }

    #[test]
    fn debug_hides_it() {
        let key = ApiKey::generate();
        assert!(!format!("{key:?}").contains(&key.show()[3..]));
    }
}
