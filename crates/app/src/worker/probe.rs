//! Probes: of an account whose wait after failures is over, one send goes, and what comes of it decides about the others.
//!
//! P3 grants all that is due; here each of those accounts keeps one send whose claim the ledger grants (`store.breaker`).
//! Not responsible for the ladder (`domain::settle`). How long a dead worker's claim lasts: `worker.lease`.

use std::collections::{HashMap, HashSet};

use domain::ids::{EmailAccountId, SendId, TenantId};
use engines::error::Result;
use engines::store::breaker::Probe;
use engines::store::fetch::SendJob;
use tokio::sync::Mutex;

use super::Worker;

/// The claims of this worker, each with its send. Locked while one of them changes in the ledger, so that none is moved
/// and ended at once.
#[derive(Default)]
pub(super) struct Probes(Mutex<HashMap<EmailAccountId, (SendId, Probe)>>);

/// Reads the sends of these hints that may go now (P3); of an account that is half open one at most, in all workers.
pub(super) async fn fetch(worker: &Worker, hints: &[(TenantId, SendId)]) -> Result<Vec<SendJob>> {
    let (ctx, now) = (&worker.ctx, worker.ctx.clock.now());
    let mut jobs = ctx.store.system().fetch(hints, now).await?;
    let until = now + worker.lease();
    let mut wanted: HashMap<EmailAccountId, (SendId, Probe)> = HashMap::new();
    for (send_id, probe) in jobs.iter().filter_map(|job| Some((job.send_id, Probe::needed_by(job, until)?))) {
        wanted.entry(probe.email_account_id).or_insert((send_id, probe));
    }
    if wanted.is_empty() {
        return Ok(jobs);
    }
    let probes: Vec<Probe> = wanted.values().map(|(_, probe)| *probe).collect();
    let mut claims = worker.probes.0.lock().await;
    let mut ours: HashSet<EmailAccountId> = ctx.store.system().claim_probes(&probes, now).await?.into_iter().collect();
    for (account, claim) in wanted.into_iter().filter(|(account, _)| ours.contains(account)) {
        tracing::info!(email_account_id = %account, failures = claim.1.failures, "an email account is tried again");
        claims.insert(account, claim);
    }
    jobs.retain(|job| Probe::needed_by(job, until).is_none() || ours.remove(&job.account.0));
    Ok(jobs)
}

/// Gives the claims of these sends back whose result did not decide: the next send of the account is a probe then.
pub(super) async fn end(worker: &Worker, accounts: impl IntoIterator<Item = EmailAccountId>) {
    let mut accounts = accounts.into_iter().peekable();
    if accounts.peek().is_none() {
        return;
    }
    let mut claims = worker.probes.0.lock().await;
    let ended: Vec<Probe> = accounts.filter_map(|account| claims.remove(&account)).map(|(_, probe)| probe).collect();
    if ended.is_empty() {
        return;
    }
    // A claim that cannot be given back ends by itself.
    if let Err(e) = worker.ctx.store.system().end_probes(&ended, worker.ctx.clock.now()).await {
        tracing::warn!(error = %e, "email accounts whose probes showed nothing wait a minute");
    }
}

/// Lengthens the claims of probes that are in work. One whose send never got there (an error came between) ends by itself.
pub(super) async fn keep(worker: &Worker) {
    let mut claims = worker.probes.0.lock().await;
    {
        let in_work = worker.held();
        claims.retain(|_, (send_id, _)| in_work.contains_key(send_id));
    }
    let probes: Vec<Probe> = claims.values().map(|(_, probe)| *probe).collect();
    if probes.is_empty() {
        return;
    }
    let until = worker.ctx.clock.now() + worker.lease();
    match worker.ctx.store.system().keep_probes(&probes, until).await {
        Ok(kept) => {
            for (_, (_, probe)) in claims.iter_mut().filter(|(account, _)| kept.contains(account)) {
                probe.until = until;
            }
        }
        Err(e) => tracing::warn!(error = %e, "the claims of probes cannot be lengthened now"),
    }
}
