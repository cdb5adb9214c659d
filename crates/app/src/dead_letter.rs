//! Buries jobs that can never be done: kept in SQL with the reason before they are acknowledged, so never lost.
//!
//! Not responsible for listing or replaying them (`cli::queue`). To add a reason: the caller's words, field and rule.

use aws_lc_rs::digest::SHA256;
use engines::queue::{Leased, List};
use engines::store::dead_letters::DeadLetter;
use uuid::Uuid;

use crate::context::Context;
use crate::metrics::PAYLOAD;

/// Bytes of a payload that other programs are shown: Redis keeps thousands of copies in memory. All of it stands in SQL.
const SHOWN: usize = 4 * 1024;

/// Keeps jobs, each with the reason, in one transaction; the caller acknowledges them afterwards.
///
/// # Errors
/// The database: none of the jobs may be acknowledged then.
pub(crate) async fn bury(ctx: &Context, list: List, jobs: &[(&Leased, String)]) -> engines::error::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let letter = |(job, why): &(&Leased, String)| DeadLetter {
        id: id(job),
        tenant_id: None,
        send_id: None,
        queue_name: list.name().to_owned(),
        payload: job.payload.clone(),
        error: why.clone(),
        failed_at: ctx.clock.now(),
        attempt_count: job.expirations,
        original_priority: job.priority,
    };
    let letters: Vec<DeadLetter> = jobs.iter().map(letter).collect();
    ctx.store.system().bury(&letters).await?;
    for (job, why) in jobs {
        tracing::warn!(list = list.name(), job_id = %job.token.id, error = %why, "a job is a dead letter now");
    }
    ctx.metrics.worker.dead_letters.add([list.name(), PAYLOAD], letters.len() as u64);
    show(ctx, &letters).await;
    Ok(())
}

/// The same for the same job and payload: where an acknowledgement fails the job comes again, and is still one letter. Two
/// payloads that claim one id are two.
fn id(job: &Leased) -> Uuid {
    let mut hash = aws_lc_rs::digest::Context::new(&SHA256);
    hash.update(job.token.id.as_bytes());
    hash.update(job.payload.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Shows copies to other programs; a view, so a failure is no more than said.
pub(crate) async fn show(ctx: &Context, letters: &[DeadLetter]) {
    let copies: Vec<String> = letters.iter().map(|letter| shown(letter).to_string()).collect();
    if let Err(e) = ctx.queue.show_dead_letters(&copies).await {
        tracing::warn!(error = %e, count = copies.len(), "copies of dead letters cannot be shown now");
    }
}

/// A dead letter as other programs see it on `deadletter:queue`.
fn shown(letter: &DeadLetter) -> serde_json::Value {
    let mut shown = copy(letter);
    if letter.payload.len() > SHOWN {
        shown["payload"] = letter.payload[..letter.payload.floor_char_boundary(SHOWN)].into();
    }
    shown
}

/// A dead letter with all that is kept of it.
pub(crate) fn copy(letter: &DeadLetter) -> serde_json::Value {
    serde_json::json!({
        "id": letter.id, "queue_name": letter.queue_name, "payload": letter.payload, "error": letter.error,
        "failed_at": letter.failed_at, "attempt_count": letter.attempt_count,
        "original_priority": letter.original_priority,
    })
}

#[cfg(test)]
mod tests {
    use engines::queue::Token;

    use super::*;

    #[test]
    fn one_job_is_one_letter_and_two_payloads_of_one_id_are_two() {
        let leased = |payload: &str, number| Leased {
            token: Token { id: Uuid::from_u128(7), number },
            payload: payload.to_owned(),
            priority: 100,
            expirations: 0,
            cut_from: None,
        };
        assert_eq!(id(&leased("a", 1)), id(&leased("a", 2)), "delivered again");
        assert_ne!(id(&leased("a", 1)), id(&leased("b", 1)));
    }
}
