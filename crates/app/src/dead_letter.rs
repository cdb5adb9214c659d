//! Buries jobs that can never be done: kept in SQL with the reason before they are acknowledged, so never lost.
//!
//! Not responsible for listing or replaying them (`cli::queue`). To add a reason: the caller's words, field and rule.

use engines::queue::{Leased, List};
use engines::store::dead_letters::DeadLetter;

use crate::context::Context;

/// Keeps a job; the caller acknowledges it afterwards.
///
/// # Errors
/// The database: the job must not be acknowledged then.
pub(crate) async fn bury(ctx: &Context, list: List, job: &Leased, why: String) -> engines::error::Result<()> {
    tracing::warn!(list = list.name(), job_id = %job.token.id, error = %why, "a job is a dead letter now");
    let letter = DeadLetter {
        id: ctx.clock.uuid_v7(),
        tenant_id: None,
        send_id: None,
        queue_name: list.name().to_owned(),
        payload: job.payload.clone(),
        error: why,
        failed_at: ctx.clock.now(),
        attempt_count: job.expirations,
        original_priority: job.priority,
    };
    ctx.store.system().bury(&letter).await
}
