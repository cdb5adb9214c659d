//! What many sends share: campaigns, accounts with their opened passwords, compiled templates.
//!
//! Keyed by the row's version, so a change is taken up with the next send. Not responsible for when a send may go.
//! To add a shared part: a map here and a method that loads it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use domain::address::EmailAddress;
use domain::email_account::{EmailAccount, TlsMode};
use domain::ids::{CampaignId, EmailAccountId, TemplateId, TenantId};
use domain::time::Timestamp;
use engines::store::campaigns::CampaignBundle;
use mail::assemble::MessageTemplate;
use mail::smtp::{Credentials, Server, Timeouts, Trust};
use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::context::Context;
use crate::secrets::{Cell, SealingKey};

/// Most entries of one map; it is emptied then, which costs a reload each.
const MOST: usize = 10_000;

/// An account that can send.
pub(crate) struct Sender {
    pub(crate) account: EmailAccount,
    pub(crate) from: EmailAddress,
    pub(super) reply_to: Option<EmailAddress>,
    credentials: Option<Credentials>,
}

impl Sender {
    /// Reads the addresses and opens the password.
    ///
    /// # Errors
    /// What somebody has to mend.
    pub(crate) fn open(account: EmailAccount, key: &SealingKey) -> Result<Self, String> {
        let address = |text: &str| EmailAddress::parse(text).map_err(|e| e.to_string());
        let from = address(&account.email)?;
        let reply_to = account.reply_to.as_deref().map(address).transpose()?;
        let credentials = match (&account.smtp.user, &account.smtp.password) {
            (Some(user), Some(sealed)) => {
                let cell = Cell::smtp_password(account.tenant_id.uuid(), account.id.uuid());
                let password = key.open(cell, sealed).map_err(|e| e.to_string())?;
                let (password, method) = (password.expose_secret().to_owned(), account.smtp.auth);
                Some(Credentials { user: user.clone(), password, method })
            }
            _ => None,
        };
        Ok(Self { account, from, reply_to, credentials })
    }

    /// Its server, and how to speak to it.
    pub(crate) fn server(&self, config: &Config, trust: &Trust) -> Server {
        let own = &self.account.smtp;
        let (host, port, tls, user, method) = match &config.smtp {
            Some(given) => (&given.host, given.port, given.tls, given.user.as_ref(), given.auth),
            None => (&own.host, own.port, own.tls, own.user.as_ref(), own.auth),
        };
        let log_in = |known: &Credentials| Some(Credentials { user: user?.clone(), method, ..known.clone() });
        Server {
            host: host.clone(),
            port,
            tls,
            credentials: self.credentials.as_ref().and_then(log_in),
            allow_plain_auth: config.settings.smtp.allow_plain_auth || tls != TlsMode::None,
            ehlo: self.from.domain_ascii(),
            trust: trust.clone(),
            policy: config.host_policy.clone(),
            timeouts: Timeouts { connect: config.email_timeout, ..Timeouts::default() },
        }
    }
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
    /// Somebody has to mend the campaign's settings.
    #[error("campaign cannot be used: {0}")]
    Campaign(String),
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
        let bundle = ctx.store.tenant(tenant_id).get_campaign(id).await.map_err(|e| match e {
            engines::Error::Column { .. } => CacheError::Campaign(e.to_string()),
            e => e.into(),
        })?;
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
        let account = ctx.store.tenant(tenant_id).get_account(id).await.map_err(|e| match e {
            engines::Error::Column { .. } => CacheError::Account(e.to_string()),
            e => e.into(),
        })?;
        let sender = Sender::open(account, &ctx.sealing).map_err(CacheError::Account)?;
        Ok(keep(&self.accounts, id, version, sender))
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
