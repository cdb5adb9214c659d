//! The steps of a setup: written where they are new, and edited where the campaign is under way.
//!
//! Under the campaign's exclusive lock, so that no dot and no plan sees half of an edit. What it means for whom is
//! `domain::sequence`'s; leads and planned mails follow in `places`. No step is ever deleted: mails, events and counts
//! name it. To add a column of steps: `StepSetup`, `INSERT_STEP`, `UPDATE_STEP` and `LIST_STEPS`.

use std::collections::BTreeMap;

use domain::ids::{CampaignId, EmailAccountId, StepId, TemplateId};
use domain::sequence::{Edit, Entry, Known, Mark, Unclear, arrange, recognize};
use domain::step::Step;
use domain::time::Timestamp;

use super::{Scope, Setup, SetupError, StepSetup, TemplateSetup, variants};
use crate::db::Tx;
use crate::error::{Result, ensure_changed};
use crate::store::campaigns::step;
use crate::value::{Row, Value};
use crate::{statements, values};

statements! {
    LIST_STEPS = "SELECT st.id, st.step_order, st.step_type, st.email_account_id, st.template_id, st.wait_duration_hours,
            st.wait_until_date, st.condition_type, st.condition_value, st.condition_url, st.condition_within_hours,
            st.is_active, st.step_key, st.removed_at, st.is_trial, st.trial_winner, t.name AS template_name, t.subject, t.content, t.content_text
        FROM campaign_sequence_steps st LEFT JOIN templates t ON t.id = st.template_id AND t.tenant_id = st.tenant_id
        WHERE st.tenant_id = $1 AND st.campaign_id = $2 ORDER BY st.step_order";
    // Every event is counted with its step.
    HAS_HISTORY = "SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM sends WHERE tenant_id = $1 AND campaign_id = $2 AND step_id = $3)
            OR EXISTS (SELECT 1 FROM event_counts WHERE tenant_id = $1 AND campaign_id = $2 AND step_id = $3)";
    // Orders are unique: those that will change are first moved out of the way.
    MAKE_ROOM = "UPDATE campaign_sequence_steps SET step_order = step_order + 1000000 WHERE tenant_id = $1 AND campaign_id = $2";
    INSERT_STEP = "INSERT INTO campaign_sequence_steps (tenant_id, campaign_id, id, step_order, step_key, step_type, email_account_id,
            template_id, wait_duration_hours, wait_until_date, condition_type, condition_value, condition_url,
            condition_within_hours, is_active, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $16, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)";
    UPDATE_STEP = "UPDATE campaign_sequence_steps SET step_order = $4, step_key = $5, email_account_id = $6, template_id = $7,
            wait_duration_hours = $8, wait_until_date = $9, condition_type = $10, condition_value = $11, condition_url = $12,
            condition_within_hours = $13, is_active = $14, removed_at = NULL, updated_at = $15
        WHERE tenant_id = $1 AND campaign_id = $2 AND id = $3";
    REMOVE_STEP = "UPDATE campaign_sequence_steps SET step_order = $4, is_active = false, removed_at = COALESCE(removed_at, $5),
            updated_at = $5
        WHERE tenant_id = $1 AND campaign_id = $2 AND id = $3";
    UPDATE_TEMPLATE = "UPDATE templates SET subject = $3, content = $4, content_text = $5, updated_at = $6,
            version = version + CASE WHEN subject = $3 AND content = $4
                AND COALESCE(content_text, '') = COALESCE($5::text, '') THEN 0 ELSE 1 END
        WHERE tenant_id = $1 AND id = $2";
    INSERT_TEMPLATE = "INSERT INTO templates (id, tenant_id, name, subject, content, content_text, is_started, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, true, $7, $7) ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id";
}

/// A stored step with all that tells it from others.
struct Stored {
    step: Step,
    key: Option<String>,
    is_removed: bool,
    template_name: Option<String>,
    text: Option<[String; 3]>,
    /// Whether it has variants, and which of them has won.
    is_trial: bool,
    winner: Option<String>,
}

impl Stored {
    fn of(row: &Row) -> Result<Self> {
        let subject: Option<String> = row.get("subject")?;
        let text = match subject {
            Some(subject) => {
                let text: Option<String> = row.get("content_text")?;
                Some([subject, row.get("content")?, text.unwrap_or_default()])
            }
            None => None,
        };
        Ok(Self {
            step: step(row)?,
            key: row.get("step_key")?,
            is_removed: row.get::<Option<Timestamp>>("removed_at")?.is_some(),
            template_name: row.get("template_name")?,
            text,
            is_trial: row.get("is_trial")?,
            winner: row.get("trial_winner")?,
        })
    }

    fn known(&self) -> Known<'_> {
        let text = self.text.as_ref().map(|text| text.each_ref().map(String::as_str));
        let mark = Mark { key: self.key.as_deref(), step_type: self.step.step_type, text };
        Known { mark, is_removed: self.is_removed }
    }
}

fn mark(given: &StepSetup) -> Mark<'_> {
    let text = given.template.as_ref().map(|t| [t.subject.as_str(), t.html.as_str(), t.text.as_deref().unwrap_or("")]);
    Mark { key: given.key.as_deref(), step_type: given.step_type, text }
}

/// The campaign whose steps are written, and the accounts of its file.
pub(super) struct Target<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) campaign_id: CampaignId,
    pub(super) accounts: &'a [EmailAccountId],
}

/// Writes the steps; what became of those that were there.
///
/// # Errors
/// `StepsChanged`, `StepsUnclear`, or the database.
pub(super) async fn write(tx: &mut Tx, target: &Target<'_>) -> Result<Edit, SetupError> {
    let setup = target.scope.setup;
    let stored = list(tx, target).await?;
    let known: Vec<Known<'_>> = stored.iter().map(Stored::known).collect();
    let given: Vec<Mark<'_>> = setup.steps.iter().map(mark).collect();
    let unclear = |Unclear { given }| SetupError::StepsUnclear { campaign: setup.campaign.clone(), step: given + 1 };
    let matches = recognize(&known, &given).map_err(unclear)?;
    let shape = Shape::of(&stored, &matches);
    keeps_winners(setup, &stored, &matches)?;
    let is_first = stored.iter().all(|step| step.is_removed);
    if !is_first && !shape.is_same() && !setup.update {
        return Err(SetupError::StepsChanged { campaign: setup.campaign.clone(), change: shape.to_string() });
    }
    let orders = if shape.is_same() {
        Orders::unchanged(&stored, &matches)
    } else {
        rearrange(tx, target, &stored, &matches).await?
    };
    for (index, found) in matches.iter().enumerate() {
        let stored = found.map(|place| &stored[place]);
        let written = write_step(tx, target, index, stored, orders.given[index]).await?;
        variants::write(tx, target, (index, written), stored.is_some_and(|stored| stored.is_trial)).await?;
    }
    let after = list(tx, target).await?;
    let in_use = |steps: Vec<Stored>| steps.into_iter().filter(|stored| !stored.is_removed).map(|stored| stored.step);
    Ok(Edit { orders: orders.old_to_new, before: in_use(stored).collect(), after: in_use(after).collect() })
}

/// A winner is left out with all the others alone: nobody could tell what the leads are to get who wait for it.
fn keeps_winners(setup: &Setup, stored: &[Stored], matches: &[Option<usize>]) -> Result<(), SetupError> {
    for (index, (given, found)) in setup.steps.iter().zip(matches).enumerate() {
        let winner = found.and_then(|place| stored[place].winner.as_ref());
        let (Some(winner), Some(trial)) = (winner, &given.trial) else { continue };
        if !trial.variants.iter().any(|given| given.variant.key == *winner) {
            let (campaign, variant) = (setup.campaign.clone(), winner.clone());
            return Err(SetupError::WinnerLeftOut { campaign, step: index + 1, variant });
        }
    }
    Ok(())
}

async fn list(tx: &mut Tx, target: &Target<'_>) -> Result<Vec<Stored>> {
    let params = values![target.scope.tenant_id, target.campaign_id];
    tx.query(&LIST_STEPS, params).await?.iter().map(Stored::of).collect()
}

/// How the given sequence differs from the stored one.
struct Shape {
    added: usize,
    removed: usize,
    is_reordered: bool,
}

impl Shape {
    fn of(stored: &[Stored], matches: &[Option<usize>]) -> Self {
        let in_use = |place: &usize| !stored[*place].is_removed;
        let known: Vec<usize> = matches.iter().flatten().copied().filter(in_use).collect();
        Self {
            added: matches.len() - known.len(),
            removed: (0..stored.len()).filter(in_use).count() - known.len(),
            is_reordered: !known.is_sorted(),
        }
    }

    fn is_same(&self) -> bool {
        self.added + self.removed == 0 && !self.is_reordered
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = if self.is_reordered { ", and the order is another" } else { "" };
        write!(f, "{} added, {} left out{order}", self.added, self.removed)
    }
}

/// Orders after an edit.
struct Orders {
    /// Of each given step.
    given: Vec<u32>,
    /// Of each stored step that has a place still, by its old one.
    old_to_new: BTreeMap<u32, u32>,
}

impl Orders {
    fn unchanged(stored: &[Stored], matches: &[Option<usize>]) -> Self {
        let order = |place: &usize| stored[*place].step.step_order;
        let old_to_new = stored.iter().map(|stored| (stored.step.step_order, stored.step.step_order)).collect();
        Self { given: matches.iter().flatten().map(order).collect(), old_to_new }
    }
}

/// Gives each step its place. What is no longer given keeps one among the others where the ledger knows it, since its mails
/// may be under way; else it stands behind them all.
async fn rearrange(tx: &mut Tx, target: &Target<'_>, stored: &[Stored], matches: &[Option<usize>]) -> Result<Orders> {
    let mut unknown = Vec::new();
    for (place, step) in stored.iter().enumerate() {
        if (step.is_removed || !matches.contains(&Some(place))) && !has_history(tx, target, step.step.id).await? {
            unknown.push(place);
        }
    }
    let is_gone = |place: &usize| !matches.contains(&Some(*place));
    let kept: Vec<usize> = (0..stored.len()).filter(|place| is_gone(place) && !unknown.contains(place)).collect();
    tx.execute(&MAKE_ROOM, values![target.scope.tenant_id, target.campaign_id]).await?;
    let mut orders = Orders { given: vec![0; matches.len()], old_to_new: BTreeMap::new() };
    let mut order = 0;
    for entry in arrange(matches, &kept) {
        order += 1;
        let place = match entry {
            Entry::Given(index) => {
                orders.given[index] = order;
                matches[index]
            }
            Entry::Kept(place) => {
                remove(tx, target, &stored[place], order).await?;
                Some(place)
            }
        };
        // One that nobody was ever sent is new where it comes back.
        if let Some(place) = place.filter(|place| !(stored[*place].is_removed && unknown.contains(place))) {
            orders.old_to_new.insert(stored[place].step.step_order, order);
        }
    }
    for place in unknown.into_iter().filter(is_gone) {
        order += 1;
        remove(tx, target, &stored[place], order).await?;
    }
    Ok(orders)
}

async fn has_history(tx: &mut Tx, target: &Target<'_>, id: StepId) -> Result<bool> {
    let params = values![target.scope.tenant_id, target.campaign_id, id];
    Ok(tx.query_opt(&HAS_HISTORY, params).await?.is_some())
}

async fn remove(tx: &mut Tx, target: &Target<'_>, stored: &Stored, order: u32) -> Result<()> {
    let Target { scope, campaign_id, .. } = target;
    let params = values![scope.tenant_id, *campaign_id, stored.step.id, order, scope.now];
    ensure_changed("a step", tx.execute(&REMOVE_STEP, params).await?, 1)
}

/// Writes the given step at `index`: that of `stored`, or a new one.
async fn write_step(
    tx: &mut Tx,
    target: &Target<'_>,
    index: usize,
    stored: Option<&Stored>,
    order: u32,
) -> Result<StepId> {
    let Target { scope, campaign_id, accounts } = target;
    let given = &scope.setup.steps[index];
    let template_id = match &given.template {
        Some(template) => {
            let known = stored.and_then(|stored| Some((stored.step.template_id?, stored.template_name.as_deref()?)));
            Some(write_template(tx, scope, template, known, &format!("step {}", index + 1)).await?)
        }
        None => None,
    };
    let id = stored.map_or_else(|| StepId::from_uuid((scope.new_id)()), |stored| stored.step.id);
    let mut params = values![
        scope.tenant_id,
        *campaign_id,
        id,
        order,
        given.key.clone(),
        given.account.and_then(|account| accounts.get(account)).copied(),
        template_id,
        given.wait_hours,
        given.wait_until,
        given.condition.asks,
        given.stop_if_false.then_some("stop"),
        given.condition.url_part.clone(),
        given.condition.within.map(|within| within.as_secs_f64() / 3600.0),
        given.is_active,
        scope.now,
    ];
    if stored.is_some() {
        ensure_changed("a step", tx.execute(&UPDATE_STEP, params).await?, 1)?;
        return Ok(id);
    }
    params.push(Value::from(given.step_type));
    ensure_changed("a step", tx.execute(&INSERT_STEP, params).await?, 1)?;
    Ok(id)
}

/// What is `known` keeps its template; one that another program gave it is left alone, since others may use it too.
pub(super) async fn write_template(
    tx: &mut Tx,
    scope: &Scope<'_>,
    template: &TemplateSetup,
    known: Option<(TemplateId, &str)>,
    of: &str,
) -> Result<TemplateId> {
    let ours = format!("{} / ", scope.setup.campaign);
    let (subject, html, text) = (&template.subject, &template.html, template.text.clone());
    if let Some((id, _)) = known.filter(|(_, name)| name.starts_with(&ours)) {
        let params = values![scope.tenant_id, id, subject, html, text, scope.now];
        ensure_changed("a template", tx.execute(&UPDATE_TEMPLATE, params).await?, 1)?;
        return Ok(id);
    }
    let mut name = format!("{ours}{of}");
    let mut again = 1;
    loop {
        let params = values![(scope.new_id)(), scope.tenant_id, &name, subject, html, text.clone(), scope.now];
        if let Some(row) = tx.query_opt(&INSERT_TEMPLATE, params).await? {
            return row.get("id");
        }
        // The name is that of a step which stood here before.
        again += 1;
        name = format!("{ours}{of} ({again})");
    }
}
