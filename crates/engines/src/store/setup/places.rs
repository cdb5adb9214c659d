//! Where leads go on after an edit of their campaign, and what becomes of mails that are planned already.
//!
//! Leads that stand at one place move together, so an edit costs a statement for each place and not for each lead. Not
//! responsible for where they go (`domain::sequence`) or for starts that are spread (`starts`). To add an effect on planned
//! mails: a statement, called in `follow`.

use domain::ids::{CampaignId, EnrollmentId, SendId, StepId};
use domain::reason::Reason;
use domain::sequence::{Edit, Place, Resumed, Wait};
use domain::time::Timestamp;
use uuid::Uuid;

use super::Scope;
use super::starts::{Starts, spread};
use crate::db::Tx;
use crate::error::Result;
use crate::store::dot::days::{DayChanges, slot_columns};
use crate::store::rotate;
use crate::store::sweep::free_enrollments;
use crate::value::{Row, Rows, Value};
use crate::{statements, values};

/// Waits for a step; so `kind` calls it.
const WAITING: &str = "waiting";
/// Has gone through all steps.
const OVER: &str = "over";
/// Planned mails in one read.
const PAGE: u32 = 1_000;

/// What an enrollment does at its place: the words above, or `other`: its mail is under way, or it was stopped.
macro_rules! kind {
    () => {
        "CASE WHEN status = 'active' AND due_at IS NOT NULL THEN 'waiting' WHEN status = 'completed' THEN 'over' ELSE 'other' END"
    };
}
pub(super) use kind;

/// When the mail of an enrollment is due, by the wait in `r`: counted from the mail before, else from where its round began,
/// which the first one does with the campaign's start ($4), or with the enrollment where that came later.
macro_rules! due {
    ($enrollment:literal) => {
        concat!(
            "{plus COALESCE(",
            $enrollment,
            ".last_sent_at, ",
            $enrollment,
            ".round_began_at, CASE WHEN ",
            $enrollment,
            ".created_at > $4::timestamptz THEN ",
            $enrollment,
            ".created_at ELSE $4::timestamptz END), r.wait}"
        )
    };
}

statements! {
    // What a switched-off step has planned goes no more; its slot is free again.
    SKIP_SWITCHED_OFF = concat!("UPDATE sends SET status = 'skipped', open = false, reason = 'step_inactive', settled_at = $3, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')
            AND step_id IN (SELECT id FROM campaign_sequence_steps WHERE tenant_id = $1 AND campaign_id = $2 AND NOT is_active)
        RETURNING enrollment_id, ", slot_columns!());
    // Window and limit are asked again: they may have got wider.
    ASK_AGAIN = "UPDATE sends SET not_before = $3, hinted_at = NULL, updated_at = $3
        WHERE tenant_id = $1 AND campaign_id = $2 AND open AND status IN ('planned', 'queued')
            AND reason IN ('window_closed', 'campaign_cap') AND not_before > $3";
    // Processes of the version before go by the send's own order.
    ORDER_AGAIN = "UPDATE sends SET step_order = st.step_order FROM campaign_sequence_steps st
        WHERE sends.tenant_id = $1 AND sends.campaign_id = $2 AND sends.open AND st.id = sends.step_id
            AND sends.step_order <> st.step_order";
    SEQUENCE_CHANGED = "UPDATE campaigns SET sequence_changed_at = $3 WHERE tenant_id = $1 AND id = $2";
    PLANNED_PLACES = "SELECT DISTINCT s.step_id, e.next_step_order, e.highest_sent_step
        FROM sends s JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.open AND s.status IN ('planned', 'queued')
            AND s.attempts = 0 AND s.unknowns = 0 AND e.status = 'active' AND e.due_at IS NULL AND e.round = s.round";
    PLANNED = "SELECT s.id, s.lead_id, s.enrollment_id, s.not_before, e.last_sent_at, e.round_began_at, e.created_at,
            s.tenant_id, s.campaign_id, s.email_account_id, s.account_day, s.campaign_day
        FROM sends s JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.step_id = $3 AND s.open AND s.status IN ('planned', 'queued')
            AND s.email_account_id IS NOT NULL AND s.attempts = 0 AND s.unknowns = 0
            AND e.status = 'active' AND e.due_at IS NULL AND e.round = s.round AND e.next_step_order = $4 AND e.highest_sent_step = $5 AND s.id > $6
        ORDER BY s.id LIMIT $7 {for update of s}";
    // Until when is said for each place.
    WAIT_AGAIN = "UPDATE campaign_leads SET due_at = $2, updated_at = $2 FROM {rows r(id uuid)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1 AND campaign_leads.status = 'active'";
    PLACES = concat!("SELECT ", kind!(), " AS kind, next_step_order, highest_sent_step, COUNT(*) AS n
        FROM campaign_leads WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY 1, 2, 3");
    // The new order below zero: no other row of the batch takes it for a place to move from.
    MOVE_PLACES = concat!("UPDATE campaign_leads SET next_step_order = -1 - r.next_now, highest_sent_step = r.sent_now,
            status = COALESCE(r.status_now, campaign_leads.status),
            due_at = CASE WHEN r.status_now = 'completed' THEN NULL WHEN r.wait IS NULL THEN campaign_leads.due_at
                WHEN r.until > ", due!("campaign_leads"), " THEN r.until ELSE ", due!("campaign_leads"), " END,
            finished_at = CASE r.status_now WHEN 'completed' THEN $3::timestamptz WHEN 'active' THEN NULL ELSE campaign_leads.finished_at END,
            updated_at = $3
        FROM {rows r(kind text, next bigint, sent bigint, next_now bigint, sent_now bigint, status_now text, wait bigint, until timestamptz)}
        WHERE campaign_leads.tenant_id = $1 AND campaign_leads.campaign_id = $2 AND campaign_leads.next_step_order = r.next
            AND campaign_leads.highest_sent_step = r.sent AND ", kind!(), " = r.kind");
    LAND = "UPDATE campaign_leads SET next_step_order = -1 - next_step_order
        WHERE tenant_id = $1 AND campaign_id = $2 AND next_step_order < 0";
    // No turn has seen it since it was completed: that its leads waited is no lateness.
    REOPEN_CAMPAIGN = "UPDATE campaigns SET status = 'sending', completed_at = NULL, seen_until = $3
        WHERE tenant_id = $1 AND id = $2 AND status = 'completed'";
}

/// What an edit has to know besides the steps.
pub(super) struct Circumstances {
    pub(super) campaign_id: CampaignId,
    /// When the campaign starts, or started.
    pub(super) scheduled_at: Option<Timestamp>,
    /// Whether its settings or its start have changed.
    pub(super) is_due_anew: bool,
}

impl Circumstances {
    /// When the campaign starts, or started; without a start its leads begin where they were enrolled.
    pub(super) fn start(&self) -> Timestamp {
        self.scheduled_at.unwrap_or(Timestamp::EPOCH)
    }
}

/// Has leads and planned mails follow an edit; how many leads have finished before steps that were added behind them.
pub(super) async fn follow(tx: &mut Tx, scope: &Scope<'_>, edit: &Edit, of: &Circumstances) -> Result<u64> {
    let (tenant_id, campaign_id, now) = (scope.tenant_id, of.campaign_id, scope.now);
    let mut days = skip_switched_off(tx, scope, campaign_id).await?;
    let starts = Starts::of(scope, of);
    if of.is_due_anew {
        tx.execute(&ASK_AGAIN, values![tenant_id, campaign_id, now]).await?;
    }
    let params = values![tenant_id, campaign_id, now, of.start()];
    if edit.changes_the_walk() {
        tx.execute(&SEQUENCE_CHANGED, values![tenant_id, campaign_id, now]).await?;
        tx.execute(&ORDER_AGAIN, values![tenant_id, campaign_id]).await?;
        put_off(tx, edit, &starts, &mut days).await?;
    }
    let places = tx.query(&PLACES, values![tenant_id, campaign_id]).await?;
    let places: Vec<Stand> = places.iter().map(Stand::of).collect::<Result<_>>()?;
    let may_go_on = places.iter().filter(|stand| stand.kind == OVER && edit.reopened(stand.place).is_some());
    let finished = may_go_on.map(|stand| stand.leads).sum();
    let mut moves: Vec<Vec<Value>> = Vec::new();
    for stand in &places {
        let mut to = stand.follow(edit, scope, of);
        // Whoever was sent nothing yet has a due time of its own where starts are spread.
        if let Some(wait) = to.wait.filter(|_| stand.place.sent == 0 && starts.are_spread()) {
            spread(tx, &starts, stand, wait).await?;
            to.wait = None;
        }
        moves.extend(move_row(stand, &to));
    }
    tx.execute_rows(&MOVE_PLACES, moves.into_iter().collect(), params).await?;
    tx.execute(&LAND, values![tenant_id, campaign_id]).await?;
    if scope.setup.reopen && finished > 0 {
        tx.execute(&REOPEN_CAMPAIGN, values![tenant_id, campaign_id, now]).await?;
    }
    // Days come last, as with results, or the two would wait for each other.
    days.write(tx, now).await?;
    Ok(if scope.setup.reopen { 0 } else { finished })
}

/// Leads that stand at one place.
pub(super) struct Stand {
    pub(super) kind: String,
    pub(super) place: Place,
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
        days.free(&row)?;
    }
    free_enrollments(tx, freed, now).await?;
    Ok(days)
}

/// Has mails planned anew that are to wait longer than until their slot; whoever has one in hand is refused at the gate.
async fn put_off(tx: &mut Tx, edit: &Edit, starts: &Starts, days: &mut DayChanges) -> Result<()> {
    let Starts { tenant_id, campaign_id, now, .. } = *starts;
    // By the places where leads stood before.
    for row in tx.query(&PLANNED_PLACES, values![tenant_id, campaign_id]).await? {
        let step_id: StepId = row.get("step_id")?;
        let place = Place { next: row.get("next_step_order")?, sent: row.get("highest_sent_step")? };
        // What another program asked for out of turn waits for nothing.
        let is_next = edit.before.iter().any(|step| step.id == step_id && step.step_order == place.next);
        let Some(wait) = edit.changed_wait(place).filter(|_| is_next) else { continue };
        let mut after = Uuid::nil();
        loop {
            let params = values![tenant_id, campaign_id, step_id, place.next, place.sent, after, PAGE];
            let mut page = tx.query(&PLANNED, params).await?;
            let Some(last) = page.last() else { break };
            after = last.get::<SendId>("id")?.uuid();
            let mut is_early = Vec::with_capacity(page.len());
            for send in &page {
                is_early.push(send.get::<Timestamp>("not_before")? < starts.due(wait, send)?);
            }
            let mut early = is_early.into_iter();
            page.retain(|_| early.next().unwrap_or(false));
            rotate::take_back(tx, days, &page, Reason::NotDue, now).await?;
            let leads = page.iter().map(|send| Ok(values![send.get::<EnrollmentId>("enrollment_id")?]));
            let leads = leads.collect::<Result<Rows>>()?;
            tx.execute_rows(&WAIT_AGAIN, leads, values![tenant_id, now]).await?;
        }
    }
    Ok(())
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
