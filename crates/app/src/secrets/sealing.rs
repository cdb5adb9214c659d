//! Sealing of secrets at rest: AES-256-GCM, bound to the one cell of the database that it was made for.
//!
//! Form: `v1:kid:base64(nonce, ciphertext, tag)`; `kid` = first 8 hex digits of the key's SHA-256. The additional data
//! is tenant, table, row and column, so a sealed value that was copied elsewhere does not open.
//! To add a version: its prefix, beside `v1`; old values stay readable.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::clock::random_bytes;

/// The cell that a sealed value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell<'a> {
    /// Whose it is.
    pub(crate) tenant: Uuid,
    /// The table.
    pub(crate) table: &'a str,
    /// Id of the row.
    pub(crate) row: Uuid,
    /// The column, with a path inside JSON: `smtp_settings.password`.
    pub(crate) column: &'a str,
}

impl Cell<'_> {
    /// The password of an email account.
    pub(crate) fn smtp_password(tenant: Uuid, email_account: Uuid) -> Cell<'static> {
        Cell { tenant, table: "email_accounts", row: email_account, column: "smtp_settings.password" }
    }

    fn to_aad(self) -> Vec<u8> {
        format!("{}\0{}\0{}\0{}", self.tenant, self.table, self.row, self.column).into_bytes()
    }
}

/// Why a sealed value did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// Not `v1:kid:base64`.
    #[error("value is not sealed (hint: make it with `penguinmails secret seal`)")]
    NotSealed,
    /// Sealed with another key.
    #[error(
        "value was sealed with key `{0}`, this process has key `{1}` (hint: give the ENCRYPTION_KEY it was sealed with)"
    )]
    OtherKey(String, String),
    /// The key is right and the value still does not open.
    #[error(
        "sealed value was altered or belongs to another tenant, table, row or column (hint: seal it again for this one)"
    )]
    Altered,
}

/// The key of `ENCRYPTION_KEY`.
pub(crate) struct SealingKey {
    key: LessSafeKey,
    kid: String,
}

impl SealingKey {
    /// From 32 bytes.
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes any 32 bytes");
        Self { key: LessSafeKey::new(key), kid: key_id(bytes) }
    }

    /// Seals `plain` for `cell` under a fresh random nonce.
    pub(crate) fn seal(&self, cell: Cell<'_>, plain: &str) -> String {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = plain.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(cell.to_aad()), &mut sealed)
            .expect("AES-GCM seals anything under 64 GiB");
        format!("v1:{}:{}", self.kid, STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed for `cell`.
    ///
    /// # Errors
    /// Not sealed, sealed with another key, altered or meant for another cell.
    pub(crate) fn open(&self, cell: Cell<'_>, sealed: &str) -> Result<SecretString, SealError> {
        let (kid, data) =
            sealed.strip_prefix("v1:").and_then(|rest| rest.split_once(':')).ok_or(SealError::NotSealed)?;
        if kid != self.kid {
            return Err(SealError::OtherKey(kid.chars().take(8).collect(), self.kid.clone()));
        }
        let data = Zeroizing::new(STANDARD.decode(data).map_err(|_| SealError::NotSealed)?);
        let (nonce, body) = data.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotSealed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(cell.to_aad()), &mut body)
            .map_err(|_| SealError::Altered)?;
        std::str::from_utf8(plain).map(SecretString::from).map_err(|_| SealError::Altered)
    }
}

/// Shows the key's id alone.
impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.kid)
    }
}

/// First 8 hex digits of a key's SHA-256: tells keys apart and gives nothing away.
pub(crate) fn key_id(key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, key);
    hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const CELL: Cell<'static> = Cell {
        tenant: Uuid::from_u128(1),
        table: "email_accounts",
        row: Uuid::from_u128(2),
        column: "smtp_settings.password",
    };

    #[test]
    fn what_was_sealed_opens_in_its_own_cell_alone() {
        let key = SealingKey::new(&[7; 32]);
        let sealed = key.seal(CELL, "pässword");
        assert_eq!(key.open(CELL, &sealed).unwrap().expose_secret(), "pässword");
        assert_ne!(sealed, key.seal(CELL, "pässword"), "a nonce is used once");
        for other in [
            Cell { tenant: Uuid::from_u128(9), ..CELL },
            Cell { table: "leads", ..CELL },
            Cell { row: Uuid::from_u128(9), ..CELL },
            Cell { column: "imap_settings.password", ..CELL },
        ] {
            assert_eq!(key.open(other, &sealed).unwrap_err(), SealError::Altered);
        }
    }

    #[test]
    fn each_way_not_to_open_has_its_own_error() {
        let (key, other) = (SealingKey::new(&[7; 32]), SealingKey::new(&[8; 32]));
        let sealed = key.seal(CELL, "x");
        assert!(matches!(other.open(CELL, &sealed), Err(SealError::OtherKey(..))));
        for text in ["plain", "v1:", "v1:abc", &format!("v1:{}:!!", key.kid), &format!("v1:{}:AAAA", key.kid)] {
            assert_eq!(key.open(CELL, text).unwrap_err(), SealError::NotSealed, "{text}");
        }
        let (head, tail) = sealed.split_at(sealed.len() - 6);
        let flipped: String = tail.chars().map(|c| if c == 'A' { 'B' } else { 'A' }).collect();
        assert!(key.open(CELL, &format!("{head}{flipped}")).is_err());
        assert_eq!(format!("{key:?}").len(), "SealingKey(12345678)".len());
    }
}
