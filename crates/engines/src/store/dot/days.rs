//! What a transaction does to the days of accounts and campaigns: slots reserved, given back, used.
//!
//! Changes are sums, not new values: who only gives room back needs no lock of the days. They are written last of all,
//! behind accounts and sends, as the gate does. Not responsible for deciding whether there is room (`domain::pace`).
//! To add a way in which a planned or queued send ends or loses its slot: its statement returns `slot_columns!`, and each
//! of its rows goes to `DayChanges::free`, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use domain::ids::{CampaignId, EmailAccountId, TenantId};
use domain::plan::Books;
use domain::time::Timestamp;
use uuid::Uuid;

use super::{DotRequest, Refusal, first_day};
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

/// Whether mail of the campaign `c` may go from an account (`domain::page::senders`): of its pool, of a step, of a lead (in the
/// words of the index of lines).
macro_rules! sends_from {
    ($account:literal) => {
        concat!(
            "(EXISTS (SELECT 1 FROM campaign_email_accounts p WHERE p.campaign_id = c.id AND p.email_account_id = ",
            $account,
            ") OR EXISTS (SELECT 1 FROM campaign_sequence_steps st WHERE st.campaign_id = c.id AND st.email_account_id = ",
            $account,
            ") OR EXISTS (SELECT 1 FROM campaign_leads e WHERE e.campaign_id = c.id AND e.status NOT IN ('completed', 'stopped')
                AND COALESCE(e.email_account_id, {nil}) = ",
            $account,
            "))"
        )
    };
}

/// Who holds the campaign's row is not waited for: it wakes the campaign itself, or ends it. A planner holds it only behind
/// the days that it rests for. Rows that refer to the campaign hold it for nobody.
macro_rules! wake_lock {
    () => {
        "{for no key update of c skip locked}"
    };
}

statements! {
    CHANGE_DAYS = "UPDATE pace_days SET reserved = {max pace_days.reserved + r.reserved, 0}, used = {max pace_days.used + r.used, 0},
            updated_at = $1
        FROM {rows r(scope text, scope_id uuid, day text, reserved bigint, used bigint)}
        WHERE pace_days.scope = r.scope AND pace_days.scope_id = r.scope_id AND pace_days.day = r.day";
    ADD_DAYS = "INSERT INTO pace_days (scope, scope_id, day, tenant_id, reserved, used, created_at, updated_at)
        SELECT r.scope, r.scope_id, r.day, r.tenant_id, 0, 0, $1::timestamptz, $1::timestamptz
        FROM {rows r(scope text, scope_id uuid, day text, tenant_id uuid)}
        WHERE true ON CONFLICT (scope, scope_id, day) DO NOTHING";
    // Also of those without a limit, since they are written behind it, and always in this order.
    LOCK_DAYS = "SELECT scope_id, reserved + used AS taken FROM pace_days
        WHERE (scope = 'account' AND scope_id {any $1} OR scope = 'campaign' AND scope_id = $2) AND day >= $3
        ORDER BY scope, scope_id, day {for update}";
    // Asked only where a slot was given back. A day that had room before wakes nobody; a ramp's cap is not known here.
    WAKE = concat!("UPDATE campaigns SET next_plan_at = NULL WHERE id IN (SELECT c.id
            FROM {rows r(scope text, scope_id uuid, day text, tenant_id uuid, given bigint)}
                JOIN pace_days d ON d.scope = r.scope AND d.scope_id = r.scope_id AND d.day = r.day
                JOIN campaigns c ON c.tenant_id = r.tenant_id
            WHERE c.next_plan_at > $1 AND c.status IN ('scheduled', 'sending')
                AND ((r.scope = 'campaign' AND c.id = r.scope_id AND c.settings ->> 'daily_limit' IS NOT NULL)
                    OR (r.scope = 'account' AND EXISTS (SELECT 1 FROM email_accounts a WHERE a.id = r.scope_id
                            AND (a.daily_limit <= d.reserved + d.used + r.given OR a.warmup_started_at IS NOT NULL))
                        AND ", sends_from!("r.scope_id"), "))
            ", wake_lock!(), ")");
    WAKE_ACCOUNTS = concat!("UPDATE campaigns SET next_plan_at = NULL WHERE id IN (SELECT c.id
            FROM {rows r(account_id uuid, tenant_id uuid)} JOIN campaigns c ON c.tenant_id = r.tenant_id
            WHERE c.next_plan_at > $1 AND c.status IN ('scheduled', 'sending') AND ", sends_from!("r.account_id"), "
            ", wake_lock!(), ")");
}

/// Whether somebody has given slots of these books back since `seen` of them were taken, by `Books::taken`.
///
/// Under a lock of their days that stands until the end of the transaction: whoever gives one back from now on finds what
/// it writes. Books without limits are not asked for.
pub(in crate::store) async fn given_back(
    tx: &mut Tx,
    campaign: CampaignId,
    books: &Books,
    seen: u64,
    now: Timestamp,
) -> Result<bool> {
    let capped = books.accounts.values().filter(|book| book.has_cap()).map(|book| book.id.uuid());
    let limited: BTreeSet<Uuid> = capped.chain(books.campaign.daily_limit.map(|_| campaign.uuid())).collect();
    if limited.is_empty() {
        return Ok(false);
    }
    let accounts: Vec<Uuid> = books.accounts.keys().map(|id| id.uuid()).collect();
    let mut taken = 0;
    for row in tx.query(&LOCK_DAYS, values![accounts, campaign, first_day(now)]).await? {
        if limited.contains(&row.get("scope_id")?) {
            taken += row.get::<u64>("taken")?;
        }
    }
    Ok(taken < seen)
}

/// Wakes the campaigns whose mail may go from accounts that a person has let go on. The last thing that a transaction does.
pub(in crate::store) async fn wake_accounts(
    tx: &mut Tx,
    tenant_id: TenantId,
    accounts: impl IntoIterator<Item = EmailAccountId>,
    now: Timestamp,
) -> Result<()> {
    let rows = accounts.into_iter().map(|id| values![id, tenant_id]).collect();
    tx.execute_rows(&WAKE_ACCOUNTS, rows, values![now]).await.map(drop)
}

/// Changes of days, summed, so that one batch touches each day once and always in the same order.
#[derive(Default)]
pub(in crate::store) struct DayChanges {
    sums: BTreeMap<(&'static str, Uuid, String), (TenantId, i64, i64)>,
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
        Ok(())
    }

    /// A dot: the reservations go, the days of the dot are charged.
    pub(super) fn charge(&mut self, request: &DotRequest, now: Timestamp) {
        let (account, campaign) = (request.email_account_id.uuid(), request.campaign_id.uuid());
        let (account_today, campaign_today) = request.days(now);
        for (scope, id, reserved, today) in [
            ("account", account, &request.reserved_day, &account_today),
            ("campaign", campaign, &request.campaign_day, &campaign_today),
        ] {
            if let Some(day) = reserved {
                self.add(scope, id, request.tenant_id, day, -1, 0);
            }
            self.add(scope, id, request.tenant_id, today, 0, 1);
        }
    }

    /// A refused dot whose account or campaign holds a slot for it on another day now.
    pub(super) fn move_reservation(&mut self, refusal: &Refusal<'_>) {
        let Refusal { request, account_day, campaign_day, .. } = refusal;
        let (account, campaign) = (request.email_account_id.uuid(), request.campaign_id.uuid());
        for (scope, id, before, after) in [
            ("account", account, &request.reserved_day, account_day),
            ("campaign", campaign, &request.campaign_day, campaign_day),
        ] {
            for (day, reserved) in [(before, -1), (after, 1)].into_iter().filter(|_| before != after) {
                if let Some(day) = day {
                    self.add(scope, id, request.tenant_id, day, reserved, 0);
                }
            }
        }
    }

    /// Writes the changes: missing days first, then the sums; wakes those who waited for what was given back.
    pub(in crate::store) async fn write(self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        let days = self.sums.iter();
        let missing: Rows =
            days.map(|((scope, id, day), (tenant_id, _, _))| values![*scope, *id, day, *tenant_id]).collect();
        tx.execute_rows(&ADD_DAYS, missing, values![now]).await?;
        let freed = self.sums.iter().filter(|(_, (_, reserved, used))| reserved + used < 0);
        let freed: Rows = freed
            .map(|((scope, id, day), (tenant_id, reserved, used))| {
                values![*scope, *id, day, *tenant_id, -(reserved + used)]
            })
            .collect();
        let sums: Rows = self
            .sums
            .into_iter()
            .map(|((scope, id, day), (_, reserved, used))| values![scope, id, day, reserved, used])
            .collect();
        tx.execute_rows(&CHANGE_DAYS, sums, values![now]).await?;
        tx.execute_rows(&WAKE, freed, values![now]).await.map(drop)
    }
}
