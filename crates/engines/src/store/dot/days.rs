//! What a transaction does to the days of accounts and campaigns: slots reserved, given back, used.
//!
//! Changes are sums, not new values: who only gives room back needs no lock of the days. They are written last of all,
//! behind accounts and sends, as the gate does. Not responsible for deciding whether there is room (`domain::pace`).
//! To add a way in which a planned or queued send ends or loses its slot: its statement returns `slot_columns!`, and each
//! of its rows goes to `DayChanges::free`, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{CampaignId, EmailAccountId, TenantId};
use domain::time::Timestamp;
use uuid::Uuid;

use super::{DotRequest, Refusal};
use crate::db::Tx;
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

/// What `DayChanges::free` has to know of a send, for the `RETURNING` of the statement that ends it.
macro_rules! slot_columns {
    () => {
        "tenant_id, campaign_id, email_account_id, account_day, campaign_day"
    };
}
pub(in crate::store) use slot_columns;

statements! {
    CHANGE_DAYS = "UPDATE pace_days SET reserved = {max pace_days.reserved + r.reserved, 0}, used = {max pace_days.used + r.used, 0},
            updated_at = $1
        FROM {rows r(scope text, scope_id uuid, day text, reserved bigint, used bigint)}
        WHERE pace_days.scope = r.scope AND pace_days.scope_id = r.scope_id AND pace_days.day = r.day";
    ADD_DAYS = "INSERT INTO pace_days (scope, scope_id, day, tenant_id, reserved, used, created_at, updated_at)
        SELECT r.scope, r.scope_id, r.day, r.tenant_id, 0, 0, $1::timestamptz, $1::timestamptz
        FROM {rows r(scope text, scope_id uuid, day text, tenant_id uuid)}
        WHERE true ON CONFLICT (scope, scope_id, day) DO NOTHING";
    // Nobody is waited for: a planner that has the campaign is about to say itself when it asks again.
    WAKE = "UPDATE campaigns SET next_plan_at = NULL WHERE id IN (SELECT c.id FROM campaigns c
            WHERE c.next_plan_at > $1 AND c.status IN ('scheduled', 'sending') AND (c.id {any $2} OR c.id IN (
                SELECT p.campaign_id FROM campaign_email_accounts p WHERE p.email_account_id {any $3}))
            {for update of c skip locked})";
}

/// Changes of days, summed, so that one batch touches each day once and always in the same order.
#[derive(Default)]
pub(in crate::store) struct DayChanges {
    sums: BTreeMap<(&'static str, Uuid, String), (TenantId, i64, i64)>,
    /// Campaigns and accounts that have room again: whoever waits for it is to ask now.
    freed: BTreeSet<(Uuid, Uuid)>,
}

impl DayChanges {
    /// Adds to one day.
    pub(in crate::store) fn add(
        &mut self,
        scope: &'static str,
        id: Uuid,
        tenant_id: TenantId,
        day: &str,
        reserved: i64,
        used: i64,
    ) {
        let entry = self.sums.entry((scope, id, day.to_owned())).or_insert((tenant_id, 0, 0));
        entry.1 += reserved;
        entry.2 += used;
    }

    /// The slots of a send that does not need them any more, so that others get them; those of a dot are used, so none.
    ///
    /// # Errors
    /// `Column` where the row has not all of `slot_columns!`.
    pub(in crate::store) fn free(&mut self, row: &Row) -> Result<()> {
        let (tenant_id, campaign): (TenantId, CampaignId) = (row.get("tenant_id")?, row.get("campaign_id")?);
        let Some(account) = row.get::<Option<EmailAccountId>>("email_account_id")? else { return Ok(()) };
        if let Some(day) = row.get::<Option<String>>("account_day")? {
            self.add("account", account.uuid(), tenant_id, &day, -1, 0);
        }
        if let Some(day) = row.get::<Option<String>>("campaign_day")? {
            self.add("campaign", campaign.uuid(), tenant_id, &day, -1, 0);
        }
        self.freed.insert((campaign.uuid(), account.uuid()));
        Ok(())
    }

    /// A dot: the reservations go, the days of the dot are charged.
    pub(super) fn charge(&mut self, request: &DotRequest) {
        let (account, campaign) = (request.email_account_id.uuid(), request.campaign_id.uuid());
        for (scope, id, reserved, today) in [
            ("account", account, &request.reserved_day, &request.dot_day),
            ("campaign", campaign, &request.campaign_day, &request.campaign_dot_day),
        ] {
            if let Some(day) = reserved {
                self.add(scope, id, request.tenant_id, day, -1, 0);
            }
            self.add(scope, id, request.tenant_id, today, 0, 1);
        }
    }

    /// A refused dot whose campaign holds a slot for it on another day now.
    pub(super) fn move_reservation(&mut self, refusal: &Refusal<'_>) {
        let Refusal { request, campaign_day, .. } = refusal;
        if *campaign_day == request.campaign_day {
            return;
        }
        for (day, reserved) in [(&request.campaign_day, -1), (campaign_day, 1)] {
            if let Some(day) = day {
                self.add("campaign", request.campaign_id.uuid(), request.tenant_id, day, reserved, 0);
            }
        }
    }

    /// Writes the changes: missing days first, then the sums; wakes those who waited for what was given back.
    pub(in crate::store) async fn write(self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        let days = self.sums.iter();
        let missing: Rows =
            days.map(|((scope, id, day), (tenant_id, _, _))| values![*scope, *id, day, *tenant_id]).collect();
        tx.execute_rows(&ADD_DAYS, missing, values![now]).await?;
        let sums: Rows = self
            .sums
            .into_iter()
            .map(|((scope, id, day), (_, reserved, used))| values![scope, id, day, reserved, used])
            .collect();
        tx.execute_rows(&CHANGE_DAYS, sums, values![now]).await?;
        if self.freed.is_empty() {
            return Ok(());
        }
        let (campaigns, accounts): (Vec<Uuid>, Vec<Uuid>) = self.freed.into_iter().unzip();
        tx.execute(&WAKE, values![now, campaigns, accounts]).await.map(drop)
    }
}
