//! A hint as the queue carries it: ids and times alone, never an address or a body.
//!
//! Not responsible for which sends get one (`scheduler`, `worker::recovery`). To add metadata: `EmailJobPayload`.

use domain::job::EmailJobPayload;
use domain::time::Timestamp;
use engines::queue::Job;
use engines::store::plan::Hint;

/// The job for a send; its id is the send's, so that a second push is a no-op.
pub(crate) fn job(hint: &Hint, now: Timestamp) -> Job {
    let payload = EmailJobPayload {
        tenant_id: hint.tenant_id,
        campaign_id: hint.campaign_id,
        lead_id: hint.lead_id,
        step_id: hint.step_id,
        email_account_id: hint.email_account_id,
        send_id: Some(hint.send_id),
        priority: Some(hint.priority),
        not_before: Some(hint.not_before),
        attempt: None,
        max_attempts: None,
        enqueued_at: Some(now),
    };
    Job {
        id: hint.send_id.uuid(),
        payload: serde_json::to_string(&payload).expect("a payload is plain strings and numbers"),
        priority: hint.priority,
        not_before: hint.not_before,
    }
}
