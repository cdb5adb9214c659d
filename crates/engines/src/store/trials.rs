//! Trials of a step's variants: what planning needs of them, how they did, and their winners.
//!
//! A winner is written in one guarded UPDATE under the campaign's exclusive lock, which planning takes shared: who waits for
//! it was written down before, and is woken. Not responsible for who gets which variant or which one wins
//! (`domain::trial`), nor for an edit (`setup/variants`). To count something else: a column of `COUNTS` and a measure.

use domain::campaign::CampaignStatus;
use domain::forecast;
use domain::ids::{CampaignId, EnrollmentId, LeadId, StepId, TenantId};
use domain::plan::CampaignPlan;
use domain::schedule::wait_hours;
use domain::time::Timestamp;
use domain::trial::{self, Count, Measure, Next, PARKED, Progress, Rule, Trial, Trials, Variant, winner};
use uuid::Uuid;

use super::campaigns::plan_at_once;
use super::{SystemStore, TenantStore};
use crate::db::{Access, LockKind, Tx};
use crate::error::Result;
use crate::value::Row;
use crate::{statements, values};

/// Leads in one read.
const PAGE: u32 = 1_000;

/// A lead is tried once, however often it comes back: what it was sent first is what it stands for.
macro_rules! first_of_its_lead {
    () => {
        "NOT EXISTS (SELECT 1 FROM sends x WHERE x.campaign_id = s.campaign_id AND x.lead_id = s.lead_id AND x.step_id = s.step_id
            AND x.round < s.round AND x.variant IS NOT NULL AND x.status = 'sent')"
    };
}

statements! {
    VARIANTS = "SELECT step_id, variant_key, weight FROM campaign_step_variants
        WHERE tenant_id = $1 AND campaign_id = $2 AND removed_at IS NULL ORDER BY step_id, variant_order";
    OPEN = "SELECT st.id, st.tenant_id, st.campaign_id FROM campaign_sequence_steps st
            JOIN campaigns c ON c.id = st.campaign_id AND c.tenant_id = st.tenant_id
        WHERE st.trial_by IS NOT NULL AND st.trial_winner IS NULL AND (st.trial_check_at IS NULL OR st.trial_check_at <= $1)
            AND st.removed_at IS NULL AND c.status = 'sending'
        ORDER BY st.id";
    STATE = "SELECT st.step_order, st.is_trial, st.trial_by, st.trial_after_hours, st.trial_sample_percent, st.trial_winner,
            st.trial_waited_for_since, c.status
        FROM campaign_sequence_steps st JOIN campaigns c ON c.id = st.campaign_id AND c.tenant_id = st.tenant_id
        WHERE st.tenant_id = $1 AND st.campaign_id = $2 AND st.id = $3 AND st.removed_at IS NULL";
    FIRST_SENT = "SELECT MIN(COALESCE(last_attempt_at, settled_at)) AS at FROM sends
        WHERE tenant_id = $1 AND step_id = $2 AND variant IS NOT NULL AND status = 'sent'";
    // Leads who were enrolled later are tried too, but nobody waits for them: a list that grows would have no winner ever.
    // So would one whose leads come back.
    LAST_SENT = concat!("SELECT MAX(COALESCE(s.last_attempt_at, s.settled_at)) AS at
        FROM sends s JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.step_id = $2 AND s.variant IS NOT NULL AND s.status = 'sent' AND e.created_at <= $3
            AND ", first_of_its_lead!());
    ON_THE_WAY = "SELECT e.id, e.lead_id FROM sends s
            JOIN campaign_leads e ON e.id = s.enrollment_id AND e.tenant_id = s.tenant_id
        WHERE s.tenant_id = $1 AND s.campaign_id = $2 AND s.open AND s.round = e.round AND e.status = 'active' AND e.due_at IS NULL
            AND e.next_step_order <= $3 AND COALESCE(e.round_began_at, e.created_at) <= $4";
    AHEAD = "SELECT e.id, e.lead_id, e.due_at FROM campaign_leads e
        WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status = 'active' AND e.due_at IS NOT NULL AND e.due_at < $3
            AND e.next_step_order <= $4 AND COALESCE(e.round_began_at, e.created_at) <= $5 AND (e.due_at, e.id) > ($6, $7)
        ORDER BY e.due_at, e.id LIMIT $8";
    // Who waits for a winner at a step before. Who waits here is not in the sample.
    AHEAD_BUT_PARKED = "SELECT e.id, e.lead_id, e.due_at FROM campaign_leads e
        WHERE e.tenant_id = $1 AND e.campaign_id = $2 AND e.status = 'active' AND e.due_at IS NOT NULL AND e.due_at = $3
            AND e.next_step_order < $4 AND COALESCE(e.round_began_at, e.created_at) <= $5 AND (e.due_at, e.id) > ($6, $7)
        ORDER BY e.due_at, e.id LIMIT $8";
    TRIALS_BEFORE = "SELECT COUNT(*) AS n FROM campaign_sequence_steps
        WHERE tenant_id = $1 AND campaign_id = $2 AND step_order < $3 AND is_trial AND trial_winner IS NULL AND removed_at IS NULL";
    PARKED_LEADS = "SELECT COUNT(*) AS n FROM campaign_leads
        WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'active' AND due_at = $3 AND next_step_order = $4";
    // An edit that came since it was read has it looked at by its own rule, at once.
    LOOK_AGAIN = "UPDATE campaign_sequence_steps SET trial_check_at = $3, trial_waited_for_since = COALESCE(trial_waited_for_since, $4)
        WHERE tenant_id = $1 AND id = $2 AND trial_winner IS NULL
            AND trial_by = $5 AND trial_after_hours = $6 AND trial_sample_percent = $7";
    COUNTS = concat!("SELECT s.variant, COUNT(*) AS sent,
            CAST(SUM(CASE WHEN EXISTS (SELECT 1 FROM tracking_events t WHERE t.tenant_id = s.tenant_id
                AND t.campaign_id = s.campaign_id AND t.lead_id = s.lead_id AND t.type = 'open' AND t.step_id = s.step_id
                AND t.verdict = 'human') THEN 1 ELSE 0 END) AS bigint) AS opens,
            CAST(SUM(CASE WHEN EXISTS (SELECT 1 FROM tracking_events t WHERE t.tenant_id = s.tenant_id
                AND t.campaign_id = s.campaign_id AND t.lead_id = s.lead_id AND t.type = 'click' AND t.step_id = s.step_id
                AND t.verdict = 'human') THEN 1 ELSE 0 END) AS bigint) AS clicks
        FROM sends s WHERE s.tenant_id = $1 AND s.step_id = $2 AND s.variant IS NOT NULL AND s.status = 'sent'
            AND ", first_of_its_lead!(), "
        GROUP BY s.variant");
    WIN = "UPDATE campaign_sequence_steps SET trial_winner = $3, trial_decided_at = $4, trial_decided_by = 'rule'
        WHERE tenant_id = $1 AND id = $2 AND is_trial AND trial_winner IS NULL AND removed_at IS NULL
            AND EXISTS (SELECT 1 FROM campaign_step_variants v WHERE v.step_id = campaign_sequence_steps.id
                AND v.variant_key = $3 AND v.removed_at IS NULL)";
    // A person may change a mind, the rule's too.
    DECLARE = "UPDATE campaign_sequence_steps SET trial_winner = $4, trial_decided_at = $5, trial_decided_by = 'person'
        WHERE tenant_id = $1 AND campaign_id = $2 AND id = $3 AND is_trial AND removed_at IS NULL
            AND EXISTS (SELECT 1 FROM campaign_step_variants v WHERE v.step_id = campaign_sequence_steps.id
                AND v.variant_key = $4 AND v.removed_at IS NULL)";
    UNPARK = "UPDATE campaign_leads SET due_at = $3, updated_at = $4
        WHERE tenant_id = $1 AND campaign_id = $2 AND status = 'active' AND due_at = $5
            AND ($6::bigint IS NULL OR next_step_order = $6)";
    TRIALS = "SELECT st.id, st.step_order, st.trial_by, st.trial_after_hours, st.trial_sample_percent, st.trial_winner,
            st.trial_decided_at, st.trial_decided_by
        FROM campaign_sequence_steps st WHERE st.tenant_id = $1 AND st.campaign_id = $2 AND st.is_trial AND st.removed_at IS NULL
        ORDER BY st.step_order";
    ALL_VARIANTS = "SELECT variant_key, weight, removed_at IS NOT NULL AS removed FROM campaign_step_variants
        WHERE tenant_id = $1 AND step_id = $2 ORDER BY removed_at IS NOT NULL, variant_order";
}

/// A trial whose winner a rule is to find.
#[derive(Clone, Copy, Debug)]
pub struct OpenTrial {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its campaign.
    pub campaign_id: CampaignId,
    /// Its step.
    pub step_id: StepId,
}

/// A winner that a rule has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The step's order.
    pub step_order: u32,
    /// The winner's key.
    pub winner: String,
    /// How many leads waited for it.
    pub waited: u64,
}

/// A variant and how it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantReport {
    /// Its key and weight.
    pub variant: Variant,
    /// Whether an edit has left it out.
    pub is_removed: bool,
    /// Leads who were sent it.
    pub sent: u64,
    /// Those of them of whom a person opened it.
    pub opens: u64,
    /// Those of them of whom a person clicked in it.
    pub clicks: u64,
}

/// A step with variants.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialReport {
    /// The step.
    pub step_id: StepId,
    /// Its order.
    pub step_order: u32,
    /// How its winner is found; none = by a person.
    pub rule: Option<Rule>,
    /// The winner's key, when it was chosen, and by whom: `rule` or `person`.
    pub winner: Option<(String, Option<Timestamp>, Option<String>)>,
    /// Leads who wait for it.
    pub waiting: u64,
    /// In their order, those that were left out behind the others.
    pub variants: Vec<VariantReport>,
}

/// What came of a person's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Written; the winner before, and how many leads waited.
    Done(Option<String>, u64),
    /// No step of this campaign in use has this order.
    NoStep,
    /// The step has no such variant; those that it has.
    NoVariant(Vec<String>),
}

/// The trials of a campaign whose steps are these rows; one read where it has some, else none.
pub(super) async fn load(tx: &mut Tx, tenant_id: TenantId, id: CampaignId, steps: &[Row]) -> Result<Trials> {
    let mut trials = Trials::new();
    for row in steps {
        if row.get("is_trial")? {
            trials.insert(
                row.get("id")?,
                Trial { variants: Vec::new(), rule: rule(row)?, winner: row.get("trial_winner")? },
            );
        }
    }
    if trials.is_empty() {
        return Ok(trials);
    }
    for row in tx.query(&VARIANTS, values![tenant_id, id]).await? {
        if let Some(trial) = trials.get_mut(&row.get("step_id")?) {
            trial.variants.push(Variant { key: row.get("variant_key")?, weight: row.get("weight")? });
        }
    }
    // What another program has left without variants is a step like any other.
    trials.retain(|_, trial| !trial.variants.is_empty());
    Ok(trials)
}

/// None where only a person decides, or another program has written what makes no rule.
fn rule(row: &Row) -> Result<Option<Rule>> {
    let (by, after): (Option<Measure>, Option<f64>) = (row.get("trial_by")?, row.get("trial_after_hours")?);
    let percent: Option<u32> = row.get("trial_sample_percent")?;
    let after = after.and_then(|hours| wait_hours(hours).ok());
    Ok(by.zip(after).zip(percent).map(|((by, after), sample_percent)| Rule { by, after, sample_percent }))
}

/// Has leads who wait for a winner, of one step or of all, asked anew: they are due at `due`. How many.
pub(super) async fn unpark(
    tx: &mut Tx,
    (tenant_id, campaign_id): (TenantId, CampaignId),
    step_order: Option<u32>,
    due: Timestamp,
    now: Timestamp,
) -> Result<u64> {
    let waited = tx.execute(&UNPARK, values![tenant_id, campaign_id, due, now, PARKED, step_order]).await?;
    plan_at_once(tx, (tenant_id, campaign_id), now).await?;
    Ok(waited)
}

/// A trial without a winner, as it stands.
struct Standing {
    step_order: u32,
    rule: Rule,
    /// As the ledger writes it.
    after_hours: f64,
    progress: Progress,
}

/// How a trial stands; none where a rule has nothing to decide.
async fn standing(tx: &mut Tx, trial: &OpenTrial, now: Timestamp) -> Result<Option<Standing>> {
    let OpenTrial { tenant_id, campaign_id, step_id } = *trial;
    let Some(row) = tx.query_opt(&STATE, values![tenant_id, campaign_id, step_id]).await? else { return Ok(None) };
    let is_open = row.get::<Option<String>>("trial_winner")?.is_none()
        && row.get::<CampaignStatus>("status")? == CampaignStatus::Sending;
    let Some(rule) = rule(&row)?.filter(|_| is_open) else { return Ok(None) };
    let step_order = row.get("step_order")?;
    let mut progress = Progress { waited_for_since: row.get("trial_waited_for_since")?, ..Progress::default() };
    let first = first_sent(tx, trial).await?;
    progress.is_under_way = !sample(tx, trial, (step_order, rule), first, 1).await?.is_empty();
    if !progress.is_under_way {
        progress.last_sent_at = last_sent(tx, trial, first).await?;
    }
    if progress.waited_for_since.is_none() && parked(tx, trial, step_order).await? > 0 {
        progress.waited_for_since = Some(now);
    }
    Ok(Some(Standing { step_order, rule, after_hours: row.get("trial_after_hours")?, progress }))
}

async fn look_again(
    tx: &mut Tx,
    trial: &OpenTrial,
    stands: &Standing,
    at: Timestamp,
    since: Option<Timestamp>,
) -> Result<()> {
    let Rule { by, sample_percent, .. } = stands.rule;
    let params = values![trial.tenant_id, trial.step_id, at, since, by, stands.after_hours, sample_percent];
    tx.execute(&LOOK_AGAIN, params).await.map(drop)
}

async fn first_sent(tx: &mut Tx, trial: &OpenTrial) -> Result<Option<Timestamp>> {
    let row = tx.query_opt(&FIRST_SENT, values![trial.tenant_id, trial.step_id]).await?;
    row.map_or(Ok(None), |row| row.get("at"))
}

async fn last_sent(tx: &mut Tx, trial: &OpenTrial, first: Option<Timestamp>) -> Result<Option<Timestamp>> {
    let Some(first) = first else { return Ok(None) };
    let row = tx.query_opt(&LAST_SENT, values![trial.tenant_id, trial.step_id, first]).await?;
    row.map_or(Ok(None), |row| row.get("at"))
}

async fn parked(tx: &mut Tx, trial: &OpenTrial, step_order: u32) -> Result<u64> {
    let params = values![trial.tenant_id, trial.campaign_id, PARKED, step_order];
    tx.query_opt(&PARKED_LEADS, params).await?.map_or(Ok(0), |row| row.get("n"))
}

/// Enrollments of the sample that have the step ahead of them, as many as `most`: those that were there when the first mail
/// of the trial was sent.
async fn sample(
    tx: &mut Tx,
    trial: &OpenTrial,
    (step_order, rule): (u32, Rule),
    first: Option<Timestamp>,
    most: usize,
) -> Result<Vec<EnrollmentId>> {
    let OpenTrial { tenant_id, campaign_id, step_id } = *trial;
    let there = first.unwrap_or(Timestamp::MAX);
    let mut found = Vec::new();
    let of_sample = |row: &Row, found: &mut Vec<EnrollmentId>| -> Result<()> {
        if found.len() < most && rule.is_in_sample(step_id, row.get::<LeadId>("lead_id")?) {
            found.push(row.get("id")?);
        }
        Ok(())
    };
    for row in tx.query(&ON_THE_WAY, values![tenant_id, campaign_id, step_order, there]).await? {
        of_sample(&row, &mut found)?;
    }
    let before = tx.query_opt(&TRIALS_BEFORE, values![tenant_id, campaign_id, step_order]).await?;
    let has_trials_before = before.map_or(Ok(0_u64), |row| row.get("n"))? > 0;
    for statement in [&AHEAD, &AHEAD_BUT_PARKED].into_iter().take(if has_trials_before { 2 } else { 1 }) {
        let mut after = (Timestamp::from_micros(i64::MIN), Uuid::nil());
        while found.len() < most {
            let params = values![tenant_id, campaign_id, PARKED, step_order, there, after.0, after.1, PAGE];
            let page = tx.query(statement, params).await?;
            page.iter().try_for_each(|row| of_sample(row, &mut found))?;
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = (last.get("due_at")?, last.get("id")?),
                _ => break,
            }
        }
    }
    Ok(found)
}

/// The trials of a campaign whose winner a rule is to find, as a forecast begins with them; no read where there are none.
pub(super) async fn foreseeable(
    tx: &mut Tx,
    tenant_id: TenantId,
    plan: &CampaignPlan,
) -> Result<Vec<forecast::OpenTrial>> {
    let mut open = Vec::new();
    for step in &plan.steps {
        let of_step = plan.trials.get(&step.id).filter(|trial| trial.winner.is_none());
        let Some(rule) = of_step.and_then(|trial| trial.rule) else { continue };
        let trial = OpenTrial { tenant_id, campaign_id: plan.id, step_id: step.id };
        let first = first_sent(tx, &trial).await?;
        let waited = tx.query_opt(&STATE, values![tenant_id, plan.id, step.id]).await?;
        open.push(forecast::OpenTrial {
            step_id: step.id,
            step_order: step.step_order,
            rule,
            progress: Progress {
                last_sent_at: last_sent(tx, &trial, first).await?,
                waited_for_since: waited.map_or(Ok(None), |row| row.get("trial_waited_for_since"))?,
                is_under_way: false,
            },
            ahead: sample(tx, &trial, (step.step_order, rule), first, usize::MAX).await?.into_iter().collect(),
        });
    }
    Ok(open)
}

/// How the variants of a step did, by their keys: sent, opens, clicks.
async fn counts(tx: &mut Tx, tenant_id: TenantId, step_id: StepId) -> Result<Vec<(String, [u64; 3])>> {
    let rows = tx.query(&COUNTS, values![tenant_id, step_id]).await?;
    rows.iter()
        .map(|row| Ok((row.get("variant")?, [row.get("sent")?, row.get("opens")?, row.get("clicks")?])))
        .collect()
}

async fn variants(tx: &mut Tx, tenant_id: TenantId, step_id: StepId) -> Result<Vec<VariantReport>> {
    let counts = counts(tx, tenant_id, step_id).await?;
    let report = |row: &Row| {
        let variant = Variant { key: row.get("variant_key")?, weight: row.get("weight")? };
        let found = counts.iter().find(|(key, _)| *key == variant.key);
        let [sent, opens, clicks] = found.map_or([0; 3], |(_, counts)| *counts);
        Ok(VariantReport { variant, is_removed: row.get("removed")?, sent, opens, clicks })
    };
    tx.query(&ALL_VARIANTS, values![tenant_id, step_id]).await?.iter().map(report).collect()
}

impl SystemStore {
    /// Trials that are worth looking at now.
    ///
    /// # Errors
    /// The database.
    pub async fn open_trials(&self, now: Timestamp) -> Result<Vec<OpenTrial>> {
        let trial = |row: &Row| {
            Ok(OpenTrial {
                tenant_id: row.get("tenant_id")?,
                campaign_id: row.get("campaign_id")?,
                step_id: row.get("id")?,
            })
        };
        self.db.read(&OPEN, values![now]).await?.iter().map(trial).collect()
    }

    /// Looks at a trial and chooses its winner where its time has come; none where it has not, or somebody else was quicker.
    ///
    /// Whoever waits for it is due from the moment at which it was to be chosen, whenever that is done.
    ///
    /// # Errors
    /// The database; nothing is written then.
    pub async fn judge_trial(&self, trial: &OpenTrial, now: Timestamp) -> Result<Option<Decided>> {
        let mut tx = self.db.begin(Access::Read).await?;
        let stands = standing(&mut tx, trial, now).await?;
        tx.commit().await?;
        let Some(stands) = stands else { return Ok(None) };
        let mut tx = self.db.begin(Access::Write).await?;
        if let Next::LookAgain(at) = stands.rule.next(&stands.progress, now) {
            look_again(&mut tx, trial, &stands, at, stands.progress.waited_for_since).await?;
            tx.commit().await?;
            return Ok(None);
        }
        tx.lock(LockKind::Campaign, true, [trial.campaign_id.uuid()]).await?;
        // As it stands now that nobody plans: a lead may have joined the sample, or a person have decided.
        let stands = standing(&mut tx, trial, now).await?;
        let decided = match stands {
            Some(stands) => decide(&mut tx, trial, &stands, now).await?,
            None => None,
        };
        tx.commit().await?;
        Ok(decided)
    }
}

async fn decide(tx: &mut Tx, trial: &OpenTrial, stands: &Standing, now: Timestamp) -> Result<Option<Decided>> {
    let OpenTrial { tenant_id, campaign_id, step_id } = *trial;
    let Next::Decide(due) = stands.rule.next(&stands.progress, now) else { return Ok(None) };
    let count = |report: VariantReport| {
        let reacted = match stands.rule.by {
            Measure::Opens => report.opens,
            Measure::Clicks => report.clicks,
        };
        Count { key: report.variant.key, sent: report.sent, reacted }
    };
    let reports = variants(tx, tenant_id, step_id).await?.into_iter();
    let counts: Vec<Count> = reports.filter(|report| !report.is_removed).map(count).collect();
    let Some(winner) = winner(&counts) else {
        // Another program has taken its variants away.
        look_again(tx, trial, stands, now + trial::LOOK_AGAIN, None).await?;
        return Ok(None);
    };
    if tx.execute(&WIN, values![tenant_id, step_id, winner, now]).await? != 1 {
        return Ok(None);
    }
    let waited = unpark(tx, (tenant_id, campaign_id), Some(stands.step_order), due, now).await?;
    Ok(Some(Decided { step_order: stands.step_order, winner: winner.to_owned(), waited }))
}

impl TenantStore {
    /// The steps of a campaign that have variants, and how these did.
    ///
    /// # Errors
    /// The database.
    pub async fn list_trials(&self, campaign_id: CampaignId) -> Result<Vec<TrialReport>> {
        let mut tx = self.db.begin(Access::Read).await?;
        let mut reports = Vec::new();
        for row in tx.query(&TRIALS, values![self.tenant_id, campaign_id]).await? {
            let (step_id, step_order) = (row.get("id")?, row.get("step_order")?);
            let trial = OpenTrial { tenant_id: self.tenant_id, campaign_id, step_id };
            let winner: Option<String> = row.get("trial_winner")?;
            let decided = (row.get("trial_decided_at")?, row.get("trial_decided_by")?);
            reports.push(TrialReport {
                step_id,
                step_order,
                rule: rule(&row)?,
                winner: winner.map(|winner| (winner, decided.0, decided.1)),
                waiting: parked(&mut tx, &trial, step_order).await?,
                variants: variants(&mut tx, self.tenant_id, step_id).await?,
            });
        }
        tx.commit().await?;
        Ok(reports)
    }

    /// Makes a variant the one that all leads get whose mail is not planned yet. A choice before it is replaced.
    ///
    /// # Errors
    /// The database.
    pub async fn declare_winner(
        &self,
        campaign_id: CampaignId,
        step_order: u32,
        variant: &str,
        now: Timestamp,
    ) -> Result<Declared> {
        let mut tx = self.db.begin(Access::Write).await?;
        tx.lock(LockKind::Campaign, true, [campaign_id.uuid()]).await?;
        let trials = tx.query(&TRIALS, values![self.tenant_id, campaign_id]).await?;
        let mut found = None;
        for row in &trials {
            if row.get::<u32>("step_order")? == step_order {
                found = Some(row);
            }
        }
        let Some(row) = found else { return Ok(Declared::NoStep) };
        let (step_id, before): (StepId, Option<String>) = (row.get("id")?, row.get("trial_winner")?);
        if tx.execute(&DECLARE, values![self.tenant_id, campaign_id, step_id, variant, now]).await? != 1 {
            let known = variants(&mut tx, self.tenant_id, step_id).await?.into_iter();
            let known = known.filter(|report| !report.is_removed).map(|report| report.variant.key).collect();
            return Ok(Declared::NoVariant(known));
        }
        let waited = unpark(&mut tx, (self.tenant_id, campaign_id), Some(step_order), now, now).await?;
        tx.commit().await?;
        Ok(Declared::Done(before, waited))
    }
}
