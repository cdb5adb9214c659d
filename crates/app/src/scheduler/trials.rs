//! Trials whose winner a rule finds: looked at in each turn, before campaigns are planned, so that whoever waits for a winner
//! goes on in the same turn.
//!
//! Not responsible for choosing (`domain::trial`) or for counting (`engines/store/trials`). Several schedulers may look at
//! one trial at once: one of them decides.

use crate::context::Context;

/// Decides what is to be decided now; one read where no trial is under way.
///
/// # Errors
/// Transient errors of the database.
pub(super) async fn decide(ctx: &Context) -> engines::error::Result<()> {
    let (system, now) = (ctx.store.system(), ctx.clock.now());
    for trial in system.open_trials(now).await? {
        let campaign_id = trial.campaign_id;
        match system.judge_trial(&trial, now).await {
            Ok(Some(decided)) => tracing::info!(
                %campaign_id, step = decided.step_order, variant = decided.winner, waited = decided.waited,
                "a trial has a winner"
            ),
            Ok(None) => {}
            // One trial that cannot be judged must not stop the others, nor their campaigns.
            Err(e) if !e.is_transient() => {
                tracing::error!(%campaign_id, step_id = %trial.step_id, error = %e, "a trial cannot be judged");
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
