//! Refusals for policy: those among the last results of a campaign and of an email account, and the pause that too many
//! bring, in the transaction of the result.
//!
//! Asked only when such a refusal comes. Whoever counts holds the locks of the campaign and the account, so that of two
//! workers the second sees the first one's refusal. Counted is what was settled since the last such pause or the last
//! time that a person let it go on. Not responsible for how many are too many (`domain::refusals`).
//! To count for something else that is paused: its row in `KINDS`.

use std::collections::BTreeSet;

use domain::ids::{CampaignId, EmailAccountId, TenantId};
use domain::reason::Reason;
use domain::refusals::{WINDOW, are_too_many};
use domain::send::SendStatus;
use domain::time::Timestamp;
use uuid::Uuid;

use super::apply::{Settled, account_of};
use crate::db::{LockKind, Tx};
use crate::dialect::Statement;
use crate::error::Result;
use crate::{statements, values};

/// The last results that a server decided, of those since `$3`.
macro_rules! refused {
    ($owner:literal) => {
        concat!(
            "SELECT COUNT(*) AS n FROM (SELECT s.reason FROM sends s WHERE s.tenant_id = $1 AND s.",
            $owner,
            " = $2 AND NOT s.open AND s.status IN ('sent', 'bounced', 'failed') AND s.settled_at > $3
            ORDER BY s.settled_at DESC LIMIT $4) latest WHERE latest.reason = $5"
        )
    };
}

statements! {
    CAMPAIGN = "SELECT refusals_since FROM campaigns WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending')";
    ACCOUNT = "SELECT refusals_since FROM email_accounts WHERE tenant_id = $1 AND id = $2 AND status = 'active'";
    OF_CAMPAIGN = refused!("campaign_id");
    OF_ACCOUNT = refused!("email_account_id");
    PAUSE_CAMPAIGN = "UPDATE campaigns SET status = 'paused', status_reason = $3, refusals_since = $4, updated_at = $4
        WHERE tenant_id = $1 AND id = $2 AND status IN ('scheduled', 'sending')";
    PAUSE_ACCOUNT = "UPDATE email_accounts SET status = 'paused', status_reason = $3, refusals_since = $4, updated_at = $4
        WHERE tenant_id = $1 AND id = $2 AND status = 'active'";
}

/// What too many refusals have paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// A campaign.
    Campaign(CampaignId),
    /// An email account.
    EmailAccount(EmailAccountId),
}

struct Kind {
    since: &'static Statement,
    refused: &'static Statement,
    pause: &'static Statement,
    id: fn(&Settled) -> Option<Uuid>,
    paused: fn(Uuid) -> Paused,
}

const KINDS: [Kind; 2] = [
    Kind {
        since: &CAMPAIGN,
        refused: &OF_CAMPAIGN,
        pause: &PAUSE_CAMPAIGN,
        id: |r| Some(r.campaign_id.uuid()),
        paused: |id| Paused::Campaign(CampaignId::from_uuid(id)),
    },
    Kind {
        since: &ACCOUNT,
        refused: &OF_ACCOUNT,
        pause: &PAUSE_ACCOUNT,
        id: account_of,
        paused: |id| Paused::EmailAccount(EmailAccountId::from_uuid(id)),
    },
];

fn is_refusal(r: &Settled) -> bool {
    r.transition.status == SendStatus::Failed && r.transition.reason == Some(Reason::PolicyRefusal)
}

/// The first thing that a transaction with such results does: the locks under which it counts.
pub(super) async fn lock(tx: &mut Tx, results: &[Settled]) -> Result<()> {
    let refusals = || results.iter().filter(|r| is_refusal(r));
    if refusals().next().is_none() {
        return Ok(());
    }
    tx.lock(LockKind::Campaign, true, refusals().map(|r| r.campaign_id.uuid())).await?;
    tx.lock(LockKind::EmailAccount, true, refusals().filter_map(account_of)).await
}

/// Pauses the campaigns and accounts of these results, which have been written, where refusals became too many.
pub(super) async fn pause(tx: &mut Tx, done: &[&Settled], now: Timestamp) -> Result<Vec<Paused>> {
    let mut paused = Vec::new();
    for kind in &KINDS {
        let ids: BTreeSet<(TenantId, Uuid)> =
            done.iter().filter(|r| is_refusal(r)).filter_map(|r| Some((r.tenant_id, (kind.id)(r)?))).collect();
        for (tenant_id, id) in ids {
            let Some(row) = tx.query_opt(kind.since, values![tenant_id, id]).await? else { continue };
            let since = row.get::<Option<Timestamp>>("refusals_since")?.unwrap_or(Timestamp::EPOCH);
            let params = values![tenant_id, id, since, WINDOW, Reason::PolicyRefusal];
            let refused = tx.query(kind.refused, params).await?.first().map_or(Ok(0), |row| row.get("n"))?;
            if are_too_many(refused)
                && tx.execute(kind.pause, values![tenant_id, id, Reason::RefusalRate, now]).await? > 0
            {
                paused.push((kind.paused)(id));
            }
        }
    }
    Ok(paused)
}
