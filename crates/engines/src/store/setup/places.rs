//! Where leads go on after an edit of their campaign, and what becomes of mails that are planned already.
//!
//! Leads that stand at one place move together, so an edit costs a statement for each place and not for each lead. Not
//! responsible for where they go (`domain::sequence`). To add an effect on planned mails: a statement, called in `follow`.

use domain::ids::{CampaignId, EmailAccountId, StepId};
use domain::sequence::{Edit, Place, Resumed, Wait};
use domain::time::Timestamp;
use uuid::Uuid;

use super::Scope;
use crate::db::Tx;
use crate::error::Result;
use crate::store::dot::DayChanges;
use crate::store::recover::free_enrollments;
use crate::value::{Row, Rows, Value};
use crate::{statements, values};

/// Waits for a step; so `kind` calls it.
const WAITING: &str = "waiting";
/// Has gone through all steps.
const OVER: &str = "over";

/// What an enrollment does at its place: the words above, or `other`: its mail is under way, or it was stopped.
macro_rules! kind {
    () => {
        "CASE WHEN status = 'active' AND due_at IS NOT NULL THEN 'waiting' WHEN status = 'completed' THEN 'over' ELSE 'other' END"
    };
}

/// When the mail of an enrollment is due, by the wait in `r`: counted from the mail before, else from the campaign's start
/// ($4), or from the enrollment where that came later.
macro_rules! due {
    ($enrollment:literal) => {
        concat!(
            "{plus COALESCE(",
            $enrollment,
            ".last_sent_at, CASE WHEN ",
            $enrollment,
            ".created_at > $4::timestamptz THEN ",
            $enrollment,
            ".created_at ELSE $4::timestamptz END), r.wait}"
        )
    };
}

statements! {
    // What a switched-off step has planned goes no more; its slot is free again.
    SKIP_SWITCHED_OFF = "UPDATE sends SET status = 'skipped', open = false, reason = 'step_inactive', settled_at = $3, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')
            AND step_id IN (SELECT id FROM campaign_sequence_steps WHERE tenant_id = $1 AND campaign_id = $2 AND NOT is_active)
        RETURNING enrollment_id, email_account_id, account_day, campaign_day";
    // Window and limit are asked again: they may have got wider.
    ASK_AGAIN = "UPDATE sends SET not_before = $3, hinted_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')
            AND reason IN ('window_closed', 'campaign_cap') AND not_before > $3";
    SEQUENCE_CHANGED = "UPDATE campaigns SET sequence_changed_at = $3 WHERE tenant_id = $1 AND id = $2";
    PLANNED = "SELECT DISTINCT s.step_id, e.highest_sent_step
        FROM sends s JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.open AND s.status IN ('planned', 'queued')
            AND s.attempts = 0 AND s.unknowns = 0";
    // A new fence: whoever has it in hand already is refused at the gate.
    PUT_OFF = concat!("UPDATE sends SET not_before = CASE WHEN r.until > ", due!("e"), " THEN r.until ELSE ", due!("e"), " END,
            fence = sends.fence + 1, hinted_at = NULL, reason = 'not_due', updated_at = $3
        FROM {rows r(step_id uuid, sent bigint, wait bigint, until timestamptz)} JOIN campaign_leads e ON e.highest_sent_step = r.sent
        WHERE sends.tenant_id = $1 AND sends.campaign_id = $2 AND e.tenant_id = $1 AND e.campaign_id = $2
            AND e.id = sends.enrollment_id AND sends.step_id = r.step_id AND sends.open AND sends.status IN ('planned', 'queued')
            AND sends.attempts = 0 AND sends.unknowns = 0
            AND (sends.not_before < ", due!("e"), " OR sends.not_before < r.until)");
    PLACES = concat!("SELECT ", kind!(), " AS kind, next_step_order, highest_sent_step, COUNT(*) AS n
        FROM campaign_leads WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1, 2, 3");
    // The new order below zero: no other row of the batch takes it for a place to move from.
    MOVE_PLACES = concat!("UPDATE campaign_leads SET next_step_order = -1 - r.next_now, highest_sent_step = r.sent_now,
            status = COALESCE(r.status_now, campaign_leads.status),
            due_at = CASE WHEN r.status_now = 'completed' THEN NULL WHEN r.wait IS NULL THEN campaign_leads.due_at
                WHEN r.until > ", due!("campaign_leads"), " THEN r.until ELSE ", due!("campaign_leads"), " END,
            updated_at = $3
        FROM {rows r(kind text, next bigint, sent bigint, next_now bigint, sent_now bigint, status_now text, wait bigint, until timestamptz)}
        WHERE campaign_leads.tenant_id = $1 AND campaign_leads.campaign_id = $2 AND campaign_leads.next_step_order = r.next
            AND campaign_leads.highest_sent_step = r.sent AND ", kind!(), " = r.kind");
    LAND = "UPDATE campaign_leads SET next_step_order = -1 - next_step_order
        WHERE tenant_id = $1 AND campaign_id = $2 AND next_step_order < 0";
    REOPEN_CAMPAIGN = "UPDATE campaigns SET status = 'sending', completed_at = NULL WHERE tenant_id = $1 AND id = $2 AND status = 'completed'";
}

/// What an edit has to know besides the steps.
pub(super) struct Circumstances {
    pub(super) campaign_id: CampaignId,
    /// When the campaign starts, or started.
    pub(super) scheduled_at: Option<Timestamp>,
    /// Whether its settings or its start have changed.
    pub(super) is_due_anew: bool,
}

/// Has leads and planned mails follow an edit; how many leads have finished before steps that were added behind them.
pub(super) async fn follow(tx: &mut Tx, scope: &Scope<'_>, edit: &Edit, of: &Circumstances) -> Result<u64> {
    let (tenant_id, campaign_id, now) = (scope.tenant_id, of.campaign_id, scope.now);
    let days = skip_switched_off(tx, scope, campaign_id).await?;
    if of.is_due_anew {
        tx.execute(&ASK_AGAIN, values![tenant_id, campaign_id, now]).await?;
    }
    let params = values![tenant_id, campaign_id, now, of.scheduled_at.unwrap_or(Timestamp::EPOCH)];
    if edit.changes_the_walk() {
        tx.execute(&SEQUENCE_CHANGED, values![tenant_id, campaign_id, now]).await?;
        // By the places where leads stood before.
        let planned = tx.query(&PLANNED, values![tenant_id, campaign_id]).await?;
        let put_off = planned.iter().filter_map(|row| put_off(edit, row).transpose()).collect::<Result<_>>()?;
        tx.execute_rows(&PUT_OFF, put_off, params.clone()).await?;
    }
    let places = tx.query(&PLACES, values![tenant_id, campaign_id]).await?;
    let places: Vec<Stand> = places.iter().map(Stand::of).collect::<Result<_>>()?;
    let may_go_on = places.iter().filter(|stand| stand.kind == OVER && edit.reopened(stand.place).is_some());
    let finished = may_go_on.map(|stand| stand.leads).sum();
    let moves: Rows = places.iter().filter_map(|stand| move_row(stand, &stand.follow(edit, scope, of))).collect();
    tx.execute_rows(&MOVE_PLACES, moves, params).await?;
    tx.execute(&LAND, values![tenant_id, campaign_id]).await?;
    if scope.setup.reopen && finished > 0 {
        tx.execute(&REOPEN_CAMPAIGN, values![tenant_id, campaign_id]).await?;
    }
    // Days come last, as with results, or the two would wait for each other.
    days.write(tx, now).await?;
    Ok(if scope.setup.reopen { 0 } else { finished })
}

/// Leads that stand at one place.
struct Stand {
    kind: String,
    place: Place,
    leads: u64,
}

impl Stand {
    fn of(row: &Row) -> Result<Self> {
        let place = Place { next: row.get("next_step_order")?, sent: row.get("highest_sent_step")? };
        Ok(Self { kind: row.get("kind")?, place, leads: row.get("n")? })
    }

    fn follow(&self, edit: &Edit, scope: &Scope<'_>, of: &Circumstances) -> Resumed {
        let again = if self.kind == OVER && scope.setup.reopen { edit.reopened(self.place) } else { None };
        match again {
            Some(again) => again,
            None if self.kind == WAITING => edit.resumed(self.place, of.is_due_anew),
            None => Resumed { place: edit.moved(self.place), is_over: self.kind == OVER, wait: None },
        }
    }
}

/// The slots that are free again.
async fn skip_switched_off(tx: &mut Tx, scope: &Scope<'_>, campaign_id: CampaignId) -> Result<DayChanges> {
    let (tenant_id, now) = (scope.tenant_id, scope.now);
    let mut days = DayChanges::default();
    let mut freed: Vec<Uuid> = Vec::new();
    for row in tx.query(&SKIP_SWITCHED_OFF, values![tenant_id, campaign_id, now]).await? {
        freed.push(row.get("enrollment_id")?);
        let account: Option<EmailAccountId> = row.get("email_account_id")?;
        let of_account = account.map(EmailAccountId::uuid).zip(row.get::<Option<String>>("account_day")?);
        let of_campaign = row.get::<Option<String>>("campaign_day")?.map(|day| (campaign_id.uuid(), day));
        for (kind, slot) in [("account", of_account), ("campaign", of_campaign)] {
            if let Some((id, day)) = slot {
                days.add(kind, id, tenant_id, &day, -1, 0);
            }
        }
    }
    free_enrollments(tx, freed, now).await?;
    Ok(days)
}

fn put_off(edit: &Edit, row: &Row) -> Result<Option<Vec<Value>>> {
    let (step_id, sent): (StepId, u32) = (row.get("step_id")?, row.get("highest_sent_step")?);
    let Some(step) = edit.before.iter().find(|step| step.id == step_id) else { return Ok(None) };
    let wait = edit.changed_wait(Place { next: step.step_order, sent });
    Ok(wait.map(|wait| values![step_id, sent, micros(wait), wait.until]))
}

/// None where everything stays.
fn move_row(stand: &Stand, to: &Resumed) -> Option<Vec<Value>> {
    let is_over = stand.kind == OVER;
    if (to.place, to.is_over, to.wait) == (stand.place, is_over, None) {
        return None;
    }
    let status = match (is_over, to.is_over) {
        (false, true) => Some("completed"),
        (true, false) => Some("active"),
        _ => None,
    };
    Some(values![
        &stand.kind,
        stand.place.next,
        stand.place.sent,
        to.place.next,
        to.place.sent,
        status,
        to.wait.map(micros),
        to.wait.and_then(|wait| wait.until),
    ])
}

fn micros(wait: Wait) -> i64 {
    i64::try_from(wait.elapsed.as_micros()).unwrap_or(i64::MAX)
}
