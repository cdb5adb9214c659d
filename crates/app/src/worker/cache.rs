//! What many sends share: campaigns, accounts with their opened passwords, compiled templates.
//!
//! Keyed by the row's version, so a change is taken up with the next send. Not responsible for when a send may go.
//! To add a shared part: a map here and a method that loads it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use domain::address::EmailAddress;
use domain::email_account::EmailAccount;
use domain::ids::{CampaignId, EmailAccountId, TemplateId, TenantId};
use domain::time::Timestamp;
use engines::store::campaigns::CampaignBundle;
use mail::assemble::MessageTemplate;
use mail::smtp::Credentials;
use secrecy::ExposeSecret as _;

use crate::context::Context;
use crate::secrets::Cell;

/// Most entries of one map; it is emptied then, which costs a reload each.
const MOST: usize = 10_000;

/// An account that can send.
pub(super) struct Sender {
    pub(super) account: EmailAccount,
    pub(super) from: EmailAddress,
    pub(super) reply_to: Option<EmailAddress>,
    pub(super) credentials: Option<Credentials>,
}

/// Why a shared part cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    /// The database; the same call may succeed later.
    #[error(transparent)]
    Database(#[from] engines::Error),
    /// Somebody has to mend the account.
    #[error("email account cannot be used: {0}")]
    Account(String),
    /// Somebody has to mend the template.
    #[error("template cannot be used: {0}: {1}")]
    Template(&'static str, mail::template::ParseError),
}

type Versioned<K, V> = Mutex<HashMap<K, (Timestamp, Arc<V>)>>;

/// The maps.
#[derive(Default)]
pub(super) struct Cache {
    campaigns: Versioned<CampaignId, CampaignBundle>,
    accounts: Versioned<EmailAccountId, Sender>,
    templates: Mutex<HashMap<TemplateId, (i64, Arc<MessageTemplate>)>>,
}

fn known<K: Hash + Eq, W: PartialEq, V>(map: &Mutex<HashMap<K, (W, Arc<V>)>>, key: &K, version: &W) -> Option<Arc<V>> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.get(key).filter(|(found, _)| found == version).map(|(_, value)| Arc::clone(value))
}

fn keep<K: Hash + Eq, W, V>(map: &Mutex<HashMap<K, (W, Arc<V>)>>, key: K, version: W, value: V) -> Arc<V> {
    let value = Arc::new(value);
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MOST {
        map.clear();
    }
    map.insert(key, (version, Arc::clone(&value)));
    value
}

impl Cache {
    pub(super) async fn campaign(
        &self,
        ctx: &Context,
        tenant_id: TenantId,
        (id, version): (CampaignId, Timestamp),
    ) -> Result<Arc<CampaignBundle>, CacheError> {
        if let Some(found) = known(&self.campaigns, &id, &version) {
            return Ok(found);
        }
        let bundle = ctx.store.tenant(tenant_id).get_campaign(id).await?;
        Ok(keep(&self.campaigns, id, bundle.updated_at, bundle))
    }

    pub(super) async fn sender(
        &self,
        ctx: &Context,
        tenant_id: TenantId,
        (id, version): (EmailAccountId, Timestamp),
    ) -> Result<Arc<Sender>, CacheError> {
        if let Some(found) = known(&self.accounts, &id, &version) {
            return Ok(found);
        }
        let account = ctx.store.tenant(tenant_id).get_account(id).await?;
        let address = |text: &str| EmailAddress::parse(text).map_err(|e| CacheError::Account(e.to_string()));
        let from = address(&account.email)?;
        let reply_to = account.reply_to.as_deref().map(address).transpose()?;
        let credentials = match (&account.smtp.user, &account.smtp.password) {
            (Some(user), Some(sealed)) => {
                let opened = ctx.sealing.open(Cell::smtp_password(tenant_id.uuid(), id.uuid()), sealed);
                let password = opened.map_err(|e| CacheError::Account(e.to_string()))?;
                Some(Credentials { user: user.clone(), password: password.expose_secret().to_owned() })
            }
            _ => None,
        };
        Ok(keep(&self.accounts, id, version, Sender { account, from, reply_to, credentials }))
    }

    pub(super) async fn template(
        &self,
        ctx: &Context,
        tenant_id: TenantId,
        (id, version): (TemplateId, i64),
    ) -> Result<Arc<MessageTemplate>, CacheError> {
        if let Some(found) = known(&self.templates, &id, &version) {
            return Ok(found);
        }
        let source = ctx.store.tenant(tenant_id).get_template(id).await?;
        let compiled = MessageTemplate::parse(&source.subject, &source.html, source.text.as_deref())
            .map_err(|(part, e)| CacheError::Template(part, e))?;
        Ok(keep(&self.templates, id, source.version, compiled))
    }
}
