//! Runs a campaign in this process until it is done: scheduler, worker and analytics side by side, watched.
//!
//! Shared by `run` and `demo`. Not responsible for setting the campaign up (`setup`) or for showing anything.
//! To add a part that must run along: `Parts::start`.

use std::sync::Arc;
use std::time::Duration;

use domain::campaign::CampaignStatus;
use engines::store::setup::SetupReport;
use engines::store::status::CampaignReport;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::{analytics, report, scheduler, worker};

/// Real time between two looks at the campaign.
const LOOK: Duration = Duration::from_millis(200);

/// The parts that send.
pub(crate) struct Parts {
    shutdown: Shutdown,
    scheduler: JoinHandle<()>,
    worker: JoinHandle<Exit>,
    analytics: JoinHandle<()>,
}

impl Parts {
    /// Starts them.
    pub(crate) fn start(ctx: &Arc<Context>, shutdown: &Shutdown) -> Self {
        Self {
            scheduler: tokio::spawn(scheduler::run(Arc::clone(ctx), shutdown.clone())),
            worker: tokio::spawn(worker::run(Arc::clone(ctx), shutdown.clone())),
            analytics: tokio::spawn(analytics::run(Arc::clone(ctx), shutdown.clone())),
            shutdown: shutdown.clone(),
        }
    }

    /// Stops them and waits for what is open.
    ///
    /// # Errors
    /// A part that ended by a fault of ours.
    pub(crate) async fn stop(self) -> Result<Exit, Failure> {
        self.shutdown.stop();
        self.scheduler.await.map_err(anyhow::Error::from)?;
        self.analytics.await.map_err(anyhow::Error::from)?;
        Ok(self.worker.await.map_err(anyhow::Error::from)?)
    }
}

/// Watches a campaign until it is completed, stuck, stopped or `limit` is over; `show` sees every look.
///
/// # Errors
/// The database, after it did not answer for two minutes.
pub(crate) async fn watch(
    ctx: &Context,
    campaign: &SetupReport,
    limit: Option<Duration>,
    shutdown: &Shutdown,
    show: &mut (dyn FnMut(&CampaignReport) + Send),
) -> Result<CampaignReport, Failure> {
    let started = tokio::time::Instant::now();
    let mut silent_since = None;
    let mut stuck = 0;
    loop {
        match ctx.store.tenant(campaign.tenant_id).campaign_report(campaign.campaign_id).await {
            Ok(seen) => {
                silent_since = None;
                show(&seen);
                stuck = if report::is_stuck(&seen) { stuck + 1 } else { 0 };
                let over = limit.is_some_and(|limit| started.elapsed() >= limit);
                // Stuck twice in a row: an account may be between two states for a moment.
                if seen.status == CampaignStatus::Completed || stuck >= 3 || over || shutdown.is_stopping() {
                    return Ok(seen);
                }
            }
            Err(e) if e.is_transient() => {
                let since = *silent_since.get_or_insert_with(tokio::time::Instant::now);
                if since.elapsed() > Duration::from_secs(120) || shutdown.is_stopping() {
                    return Err(Failure::Unreachable(e.to_string()));
                }
            }
            Err(e) => return Err(Failure::Internal(e.into())),
        }
        shutdown.unless_stopping(tokio::time::sleep(LOOK)).await;
    }
}
