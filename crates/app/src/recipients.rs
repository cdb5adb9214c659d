//! Looks up which provider of mailboxes a recipient's domain belongs to, for tenants that limit providers.
//!
//! Outside of every transaction, so many domains at once, each with an end: where no name server answers in time, a domain
//! stays whose it was, or counts as its own provider's, and is asked about again within the hour. Not responsible for the roll-up
//! (`domain::provider`) or for who has to be looked up (`engines/store/dot/providers.rs`). To ask another kind of record:
//! `ask`.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::provider;
use engines::store::dot::providers::LookedUp;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use crate::context::Context;
use crate::name_server;

/// Domains in one call: the others are asked about in later turns.
const AT_ONCE: usize = 200;
/// How long one domain may take: a planner waits for it.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);
/// The same of no answer.
const UNSURE: Duration = Duration::from_secs(3600);

/// Looks some of these domains up and keeps whose they are; how many.
///
/// # Errors
/// The database.
pub(crate) async fn look_up(ctx: &Context, domains: BTreeSet<String>) -> engines::error::Result<usize> {
    if domains.is_empty() {
        return Ok(0);
    }
    let resolver = name_server::resolver(ctx.config.settings.recipients.name_server);
    let resolver = resolver.inspect_err(|e| tracing::warn!(error = %e, "no name server can be asked")).ok();
    let mut asked = JoinSet::new();
    for domain in domains.into_iter().take(AT_ONCE) {
        let resolver = resolver.clone();
        asked.spawn(async move {
            let answer = match resolver {
                Some(resolver) => tokio::time::timeout(PATIENCE, ask(&resolver, &domain)).await.ok().flatten(),
                None => None,
            };
            (domain, answer)
        });
    }
    let answers = asked.join_all().await;
    let now = ctx.clock.now();
    let silent = answers.iter().filter(|(_, answer)| answer.is_none()).count();
    if silent > 0 {
        tracing::warn!(
            silent,
            "no name server says whose these recipients' domains are: each stays whose it was, or counts as its own, for an hour"
        );
    }
    let found = answers.into_iter().map(|(domain, answer)| LookedUp {
        provider: answer.as_deref().map(|exchangers| provider::of_domain(&domain, exchangers)),
        stale_at: now + ctx.clock.span(if answer.is_some() { FRESH } else { UNSURE }),
        domain,
    });
    let found: Vec<LookedUp> = found.collect();
    ctx.store.system().save_recipient_domains(&found, now).await?;
    Ok(found.len())
}

/// The mail exchangers of a domain, each with its preference; none where nobody answers.
async fn ask(resolver: &TokioResolver, domain: &str) -> Option<Vec<(u16, String)>> {
    // With a dot at its end: the host's own search list must not complete it.
    match resolver.lookup(format!("{domain}.").as_str(), RecordType::MX).await {
        Ok(found) => {
            let exchanger = |data: &RData| match data {
                RData::MX(mx) if !mx.exchange.is_root() => Some((mx.preference, mx.exchange.to_ascii())),
                _ => None,
            };
            Some(found.answers().iter().filter_map(|record| exchanger(&record.data)).collect())
        }
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Some(Vec::new()),
        Err(_) => None,
    }
}
