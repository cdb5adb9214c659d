//! Buries jobs that can never be done: kept in SQL with the reason before they are acknowledged, so never lost.
//!
//! Not responsible for listing or replaying them (`cli::queue`). To add a reason: the caller's words, field and rule.

use engines::queue::{Leased, List};
use engines::store::dead_letters::DeadLetter;

use crate::context::Context;
use crate::metrics::PAYLOAD;

/// Keeps a job; the caller acknowledges it afterwards.
///
/// # Errors
/// The database: the job must not be acknowledged then.
pub(crate) async fn bury(ctx: &Context, list: List, job: &Leased, why: String) -> engines::error::Result<()> {
    tracing::warn!(list = list.name(), job_id = %job.token.id, error = %why, "a job is a dead letter now");
    let letter = DeadLetter {
        // The job's own id: where its acknowledgement fails it comes again, and is still one letter.
        id: job.token.id,
        tenant_id: None,
        send_id: None,
        queue_name: list.name().to_owned(),
        payload: job.payload.clone(),
        error: why,
        failed_at: ctx.clock.now(),
        attempt_count: job.expirations,
        original_priority: job.priority,
    };
    ctx.store.system().bury(&letter).await?;
    ctx.metrics.worker.dead_letters.inc([list.name(), PAYLOAD]);
    show(ctx, std::slice::from_ref(&letter)).await;
    Ok(())
}

/// Shows copies to other programs; a view, so a failure is no more than said.
pub(crate) async fn show(ctx: &Context, letters: &[DeadLetter]) {
    let copies: Vec<String> = letters.iter().map(|letter| copy(letter).to_string()).collect();
    if let Err(e) = ctx.queue.show_dead_letters(&copies).await {
        tracing::warn!(error = %e, count = copies.len(), "copies of dead letters cannot be shown now");
    }
}

/// A dead letter as other programs see it on `deadletter:queue`.
pub(crate) fn copy(letter: &DeadLetter) -> serde_json::Value {
    serde_json::json!({
        "id": letter.id, "queue_name": letter.queue_name, "payload": letter.payload, "error": letter.error,
        "failed_at": letter.failed_at, "attempt_count": letter.attempt_count,
        "original_priority": letter.original_priority,
    })
}
