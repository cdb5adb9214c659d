//! Keys of the API: made, listed and revoked by their tenant's name; found over all tenants by whoever shows one.
//!
//! Not responsible for what a key looks like, how it is hashed, or for comparing hashes (`app/api_key.rs`): here is no key,
//! only its hash. To add a fact about a key: a column, and a field of `KeyRow`.

use domain::ids::TenantId;
use domain::time::Timestamp;
use uuid::Uuid;

use super::{SystemStore, TenantStore};
use crate::db::Access;
use crate::error::Result;
use crate::value::Row;
use crate::{statements, values};

statements! {
    CREATE = "INSERT INTO api_keys (id, tenant_id, name, prefix, hash, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (tenant_id, name) WHERE revoked_at IS NULL DO NOTHING";
    LIST = "SELECT id, name, prefix, created_at, last_used_at, revoked_at FROM api_keys
        WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2";
    REVOKE = "UPDATE api_keys SET revoked_at = $4, updated_at = $4
        WHERE tenant_id = $1 AND (name = $2::text OR prefix = $3::text) AND revoked_at IS NULL
        RETURNING id, name, prefix, created_at, last_used_at, revoked_at";
    FIND = "SELECT id, tenant_id, hash, last_used_at FROM api_keys WHERE prefix = $1 AND revoked_at IS NULL";
    USED = "UPDATE api_keys SET last_used_at = $3, updated_at = $3
        WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND (last_used_at IS NULL OR last_used_at <= $4)";
}

/// A key that is to be kept: all but the key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Id of the row.
    pub id: Uuid,
    /// What people call it; no two keys in use of one tenant have the same.
    pub name: String,
    /// The part of the key by which it is found; no two keys have the same.
    pub prefix: String,
    /// SHA-256 of the whole key, in hexadecimal digits.
    pub hash: String,
}

/// A key as its tenant sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Id of the row.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The part of the key by which it is found.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the hour; none = never.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked; none = it is in use.
    pub revoked_at: Option<Timestamp>,
}

/// Which of a tenant's keys in use is meant.
#[derive(Clone, Copy, Debug)]
pub enum WhichKey<'a> {
    /// The one of this name.
    Name(&'a str),
    /// The one that is found by this.
    Prefix(&'a str),
}

/// A key in use, as whoever checks one needs it.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// Id of the row.
    pub id: Uuid,
    /// Whose rows it opens.
    pub tenant_id: TenantId,
    /// SHA-256 of the whole key, in hexadecimal digits.
    pub hash: String,
    /// When it was last used, to the hour; none = never.
    pub last_used_at: Option<Timestamp>,
}

fn key(row: &Row) -> Result<KeyRow> {
    Ok(KeyRow {
        id: row.get("id")?,
        name: row.get("name")?,
        prefix: row.get("prefix")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

impl TenantStore {
    /// Keeps a new key; false where the tenant has one of this name in use.
    ///
    /// # Errors
    /// `Unique` where another key is found by the same prefix; the database.
    pub async fn create_api_key(&self, new: &NewKey, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin(Access::Write).await?;
        let values = values![new.id, self.tenant_id, &new.name, &new.prefix, &new.hash, now];
        let made = tx.execute(&CREATE, values).await?;
        tx.commit().await?;
        Ok(made == 1)
    }

    /// The tenant's keys, revoked ones too, newest first; at most `limit`.
    ///
    /// # Errors
    /// The database.
    pub async fn list_api_keys(&self, limit: u32) -> Result<Vec<KeyRow>> {
        self.db.read(&LIST, values![self.tenant_id, limit]).await?.iter().map(key).collect()
    }

    /// Revokes a key: it opens nothing after this returns. None where no such key is in use.
    ///
    /// # Errors
    /// The database.
    pub async fn revoke_api_key(&self, which: WhichKey<'_>, now: Timestamp) -> Result<Option<KeyRow>> {
        let (name, prefix) = match which {
            WhichKey::Name(name) => (Some(name), None),
            WhichKey::Prefix(prefix) => (None, Some(prefix)),
        };
        let rows = self.db.write(&REVOKE, values![self.tenant_id, name, prefix, now]).await?;
        rows.first().map(key).transpose()
    }

    /// Notes that a key was used, where that was not noted since `unless_after`; whether it was noted now.
    ///
    /// # Errors
    /// The database.
    pub async fn note_api_key_used(&self, id: Uuid, now: Timestamp, unless_after: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin(Access::Write).await?;
        let noted = tx.execute(&USED, values![self.tenant_id, id, now, unless_after]).await?;
        tx.commit().await?;
        Ok(noted == 1)
    }
}

impl SystemStore {
    /// The key in use that is found by this prefix, of whichever tenant; whoever shows it has yet to prove that they have
    /// the rest of it.
    ///
    /// # Errors
    /// The database.
    pub async fn find_api_key(&self, prefix: &str) -> Result<Option<FoundKey>> {
        let rows = self.db.read(&FIND, values![prefix]).await?;
        let found = |row: &Row| {
            Ok(FoundKey {
                id: row.get("id")?,
                tenant_id: row.get("tenant_id")?,
                hash: row.get("hash")?,
                last_used_at: row.get("last_used_at")?,
            })
        };
        rows.first().map(found).transpose()
    }
}
