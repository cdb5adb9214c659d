//! What was leased becomes sends: our hints by their send, jobs of other programs by the ledger row they get (P11).
//!
//! Not responsible for whether a send may go (`store.fetch`). To add a rule for other programs' jobs: `store.adopt`.

use std::collections::HashMap;

use domain::ids::{SendId, TenantId};
use domain::job::EmailJobPayload;
use domain::plan::Moment;
use engines::error::Result;
use engines::queue::{Leased, Token, UNKNOWN_EPOCH, Verdict};
use engines::store::adopt::{AdoptRequest, Adopted};
use engines::store::fetch::SendJob;

use super::{LIST, Worker, probe};
use crate::dead_letter::bury;
use crate::telemetry::JOBS;

/// What the queue learns at once, and the jobs that may go.
pub(super) type Taken = (Vec<(Token, Verdict)>, Vec<(Leased, SendJob)>);

/// One batch of leased jobs on their way to their lanes.
#[derive(Default)]
pub(super) struct Intake {
    verdicts: Vec<(Token, Verdict)>,
    /// Jobs by their send, with the place that they have in their lane.
    by_send: HashMap<SendId, (usize, Leased, EmailJobPayload)>,
    hints: Vec<(TenantId, SendId)>,
    /// What can never be done, with the reason.
    refused: Vec<(Leased, String)>,
}

impl Intake {
    /// Reads the jobs, gives other programs' jobs their rows, and fetches what may go, oldest first.
    pub(super) async fn take(worker: &Worker, leased: Vec<Leased>) -> Result<Taken> {
        let mut intake = Self::default();
        let mut strangers = Vec::new();
        for (place, job) in leased.into_iter().enumerate() {
            match job.whole().and_then(EmailJobPayload::parse) {
                Ok(payload) => {
                    tracing::info!(
                        target: JOBS,
                        tenant_id = %payload.tenant_id, campaign_id = %payload.campaign_id, lead_id = %payload.lead_id,
                        step_id = %payload.step_id, email_account_id = %payload.email_account_id,
                        "Received job"
                    );
                    match payload.send_id {
                        Some(send_id) => intake.hint(send_id, (place, job, payload)),
                        None => strangers.push((place, job, payload)),
                    }
                }
                Err(why) => intake.refused.push((job, why.to_string())),
            }
        }
        intake.adopt(worker, strangers).await?;
        let mut found = probe::fetch(worker, &intake.hints).await?;
        let unheard = intake.without_a_row(worker, &found).await?;
        if !unheard.is_empty() {
            intake.hints.clear();
            intake.adopt(worker, unheard).await?;
            found.extend(probe::fetch(worker, &intake.hints).await?);
        }
        let mut ready: Vec<_> =
            found.into_iter().filter_map(|job| Some((intake.by_send.remove(&job.send_id)?, job))).collect();
        ready.sort_by_key(|((place, ..), _)| *place);
        // No row back: done, someone else's, or not now; P9 brings it again when it may go.
        let done = intake.by_send.drain().map(|(_, (_, job, _))| (job.token, Verdict::Ack));
        intake.verdicts.extend(done);
        // Kept before they are acknowledged, all at once: a flood of them must not slow the others.
        let refused: Vec<(&Leased, String)> = intake.refused.iter().map(|(job, why)| (job, why.clone())).collect();
        bury(&worker.ctx, LIST, &refused).await?;
        intake.verdicts.extend(refused.iter().map(|(job, _)| (job.token, Verdict::Ack)));
        Ok((intake.verdicts, ready.into_iter().map(|((_, leased, _), job)| (leased, job)).collect()))
    }

    fn hint(&mut self, send_id: SendId, entry: (usize, Leased, EmailJobPayload)) {
        self.hints.push((entry.2.tenant_id, send_id));
        if let Some((_, double, _)) = self.by_send.insert(send_id, entry) {
            self.verdicts.push((double.token, Verdict::Ack));
        }
    }

    /// Hints about sends that the ledger has never heard of: another program named them so, or the ledger is older
    /// than the queue. They are jobs like any other program's.
    async fn without_a_row(
        &mut self,
        worker: &Worker,
        found: &[SendJob],
    ) -> Result<Vec<(usize, Leased, EmailJobPayload)>> {
        let missing: Vec<(TenantId, SendId)> = self
            .hints
            .iter()
            .filter(|(_, send_id)| !found.iter().any(|job| job.send_id == *send_id))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let known = worker.ctx.store.system().list_known(&missing).await?;
        let unheard = missing.into_iter().filter(|(_, send_id)| !known.contains(send_id));
        Ok(unheard.filter_map(|(_, send_id)| self.by_send.remove(&send_id)).collect())
    }

    /// Gives jobs of other programs their rows.
    async fn adopt(&mut self, worker: &Worker, jobs: Vec<(usize, Leased, EmailJobPayload)>) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ctx = &worker.ctx;
        let request = AdoptRequest {
            moment: Moment { now: ctx.clock.now(), horizon: ctx.config.settings.scheduler.horizon.0 },
            // The lane of the epoch may be away while that of these jobs is not.
            epoch: ctx.queue.epoch(LIST).await.unwrap_or(UNKNOWN_EPOCH),
            warmup: &ctx.config.settings.email_account.warmup,
        };
        let payloads: Vec<EmailJobPayload> = jobs.iter().map(|(_, _, payload)| payload.clone()).collect();
        let answers = ctx.store.system().adopt(&payloads, &request, &|| ctx.clock.uuid_v7()).await?;
        for ((place, job, payload), answer) in jobs.into_iter().zip(answers) {
            match answer {
                Adopted::Open(send_id) => self.hint(send_id, (place, job, payload)),
                Adopted::Skipped(send_id) => {
                    tracing::info!(target: JOBS, %send_id, "Skipped");
                    self.verdicts.push((job.token, Verdict::Ack));
                }
                Adopted::Settled(send_id, status) => {
                    ctx.metrics.worker.settled_before.inc();
                    tracing::info!(target: JOBS, %send_id, settled = %status, "Settled before");
                    self.verdicts.push((job.token, Verdict::Ack));
                }
                Adopted::Refused { field, rule } => {
                    self.refused.push((job, format!("field `{field}` {rule}")));
                }
            }
        }
        Ok(())
    }
}
