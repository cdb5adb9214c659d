//! When leads are due who were sent nothing yet, where an edit counts their wait anew.
//!
//! Where starts are spread it depends on the lead's id, so such leads do not move together with their place. Not responsible
//! for when a lead starts (`domain::first_step`). To spread something else: its case in `Starts::due`.

use std::time::Duration;

use domain::first_step::FirstStep;
use domain::ids::{CampaignId, EnrollmentId, LeadId, TenantId};
use domain::sequence::Wait;
use domain::step::Due;
use domain::time::Timestamp;
use uuid::Uuid;

use super::Scope;
use super::places::{Circumstances, Stand, kind};
use crate::db::Tx;
use crate::error::Result;
use crate::value::{Row, Rows};
use crate::{statements, values};

statements! {
    // By the index of who is enrolled.
    STANDING = concat!("SELECT id, lead_id, last_sent_at, round_began_at, created_at FROM campaign_leads
        WHERE tenant_id = $1 AND campaign_id = $2 AND next_step_order = $3 AND highest_sent_step = $4 AND ", kind!(), " = $5
            AND lead_id > $6 ORDER BY lead_id LIMIT $7");
    DUE_AT = "UPDATE campaign_leads SET due_at = r.due_at, updated_at = $2 FROM {rows r(id uuid, due_at timestamptz)}
        WHERE campaign_leads.id = r.id AND campaign_leads.tenant_id = $1";
}

/// Enrollments in one read.
const PAGE: u32 = 2_000;

/// What decides when a lead starts.
pub(super) struct Starts {
    pub(super) tenant_id: TenantId,
    pub(super) campaign_id: CampaignId,
    pub(super) now: Timestamp,
    /// When the campaign starts, or started.
    start: Timestamp,
    spread: Duration,
}

impl Starts {
    pub(super) fn of(scope: &Scope<'_>, of: &Circumstances) -> Self {
        Self {
            tenant_id: scope.tenant_id,
            campaign_id: of.campaign_id,
            now: scope.now,
            start: of.start(),
            spread: scope.setup.settings.first_step_spread(),
        }
    }

    pub(super) fn are_spread(&self) -> bool {
        self.spread > Duration::ZERO
    }

    /// When the enrollment of this row is due by `wait`: counted from the mail before, else from where its round began.
    ///
    /// # Errors
    /// `Column` where the row lacks `lead_id`, `last_sent_at`, `round_began_at` or `created_at`.
    pub(super) fn due(&self, wait: Wait, row: &Row) -> Result<Timestamp> {
        if let Some(sent_at) = row.get("last_sent_at")? {
            return Ok(wait.over_at(sent_at));
        }
        let round_began: Option<Timestamp> = row.get("round_began_at")?;
        let begins = round_began.unwrap_or(row.get::<Timestamp>("created_at")?.max(self.start));
        let due = Due { step_order: 0, at: wait.over_at(begins) };
        let first = FirstStep { campaign_id: self.campaign_id, due, spread: self.spread };
        Ok(first.due_of(row.get::<LeadId>("lead_id")?).at)
    }
}

/// Gives each lead of a place its own due time.
pub(super) async fn spread(tx: &mut Tx, starts: &Starts, stand: &Stand, wait: Wait) -> Result<()> {
    let mut after = Uuid::nil();
    loop {
        let (next, sent) = (stand.place.next, stand.place.sent);
        let params = values![starts.tenant_id, starts.campaign_id, next, sent, &stand.kind, after, PAGE];
        let page = tx.query(&STANDING, params).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.get::<LeadId>("lead_id")?.uuid();
        let due = |row: &Row| Ok(values![row.get::<EnrollmentId>("id")?, starts.due(wait, row)?]);
        let rows = page.iter().map(due).collect::<Result<Rows>>()?;
        tx.execute_rows(&DUE_AT, rows, values![starts.tenant_id, starts.now]).await?;
    }
}
