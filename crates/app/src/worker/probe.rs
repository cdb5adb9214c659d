//! Probes: of an account whose wait after failures is over, one send goes, and what comes of it decides about the others.
//!
//! P3 grants all that is due; here each of those accounts keeps one send whose claim the ledger grants (`store.breaker`).
//! Not responsible for the ladder (`domain::settle`). To change how long a dead worker's claim lasts: `LEASE`.

use std::collections::{HashMap, HashSet};

use domain::ids::{EmailAccountId, SendId, TenantId};
use engines::error::Result;
use engines::store::breaker::Probe;
use engines::store::fetch::SendJob;
use tokio::sync::Mutex;

use super::{LEASE, Worker};

/// The claims of this worker. Locked while one of them changes in the ledger, so that none is moved and ended at once.
#[derive(Default)]
pub(super) struct Probes(Mutex<HashMap<EmailAccountId, Probe>>);

/// Reads the sends of these hints that may go now (P3); of an account that is half open one at most, in all workers.
pub(super) async fn fetch(worker: &Worker, hints: &[(TenantId, SendId)]) -> Result<Vec<SendJob>> {
    let (ctx, now) = (&worker.ctx, worker.ctx.clock.now());
    let mut jobs = ctx.store.system().fetch(hints, now).await?;
    let until = now + ctx.clock.span(LEASE);
    let mut wanted: HashMap<EmailAccountId, Probe> = HashMap::new();
    for probe in jobs.iter().filter_map(|job| Probe::needed_by(job, until)) {
        wanted.entry(probe.email_account_id).or_insert(probe);
    }
    if wanted.is_empty() {
        return Ok(jobs);
    }
    let wanted: Vec<Probe> = wanted.into_values().collect();
    let mut claims = worker.probes.0.lock().await;
    let mut ours: HashSet<EmailAccountId> = ctx.store.system().claim_probes(&wanted, now).await?.into_iter().collect();
    for probe in wanted.into_iter().filter(|probe| ours.contains(&probe.email_account_id)) {
        tracing::info!(email_account_id = %probe.email_account_id, failures = probe.failures, "an email account is tried again");
        claims.insert(probe.email_account_id, probe);
    }
    jobs.retain(|job| Probe::needed_by(job, until).is_none() || ours.remove(&job.account.0));
    Ok(jobs)
}

/// Gives the claims of these sends back whose result did not decide: the next send of the account is a probe then.
pub(super) async fn end(worker: &Worker, accounts: impl IntoIterator<Item = EmailAccountId>) {
    let mut claims = worker.probes.0.lock().await;
    let ended: Vec<Probe> = accounts.into_iter().filter_map(|account| claims.remove(&account)).collect();
    if ended.is_empty() {
        return;
    }
    // A claim that cannot be given back ends by itself.
    if let Err(e) = worker.ctx.store.system().end_probes(&ended, worker.ctx.clock.now()).await {
        tracing::warn!(error = %e, "email accounts whose probes showed nothing wait a minute");
    }
}

/// Lengthens the claims of probes that are under way.
pub(super) async fn keep(worker: &Worker) {
    let mut claims = worker.probes.0.lock().await;
    let probes: Vec<Probe> = claims.values().copied().collect();
    if probes.is_empty() {
        return;
    }
    let until = worker.ctx.clock.now() + worker.ctx.clock.span(LEASE);
    match worker.ctx.store.system().keep_probes(&probes, until).await {
        Ok(kept) => {
            for probe in claims.values_mut().filter(|probe| kept.contains(&probe.email_account_id)) {
                probe.until = until;
            }
        }
        Err(e) => tracing::warn!(error = %e, "the claims of probes cannot be lengthened now"),
    }
}
