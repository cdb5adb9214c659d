//! The variants of a step of a setup: written, left out, and what becomes of mails that were planned with one that is gone.
//!
//! Under the campaign's exclusive lock, as all of an edit (`sequence`). A variant is known again by its key and is never
//! deleted, since mails name it. Not responsible for who gets which (`domain::trial`). To add a column of variants:
//! `VariantSetup`, `UPSERT` and, where planning needs it, `store/trials.rs`.

use std::collections::HashMap;

use domain::ids::{StepId, TemplateId};
use uuid::Uuid;

use super::TrialSetup;
use super::sequence::{Target, write_template};
use crate::db::Tx;
use crate::error::{Result, ensure_changed};
use crate::value::Row;
use crate::{statements, values};

statements! {
    KNOWN = "SELECT v.variant_key, v.template_id, t.name FROM campaign_step_variants v
            JOIN templates t ON t.id = v.template_id AND t.tenant_id = v.tenant_id
        WHERE v.tenant_id = $1 AND v.step_id = $2";
    UPSERT = "INSERT INTO campaign_step_variants (id, tenant_id, campaign_id, step_id, variant_key, variant_order, weight,
            template_id, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
        ON CONFLICT (step_id, variant_key) DO UPDATE SET variant_order = excluded.variant_order, weight = excluded.weight,
            template_id = excluded.template_id, removed_at = NULL, updated_at = excluded.updated_at
        RETURNING id";
    LEAVE_OUT = "UPDATE campaign_step_variants SET removed_at = $4, updated_at = $4
        WHERE tenant_id = $1 AND step_id = $2 AND removed_at IS NULL AND NOT (id {any $3})";
    // A winner stays whatever becomes of the rule; without variants there is none. Of another sample nobody has waited yet.
    TRIAL = "UPDATE campaign_sequence_steps SET is_trial = $3, trial_by = $4, trial_after_hours = $5, trial_sample_percent = $6,
            trial_check_at = NULL, trial_waited_for_since = CASE WHEN trial_sample_percent = $6 THEN trial_waited_for_since END,
            trial_winner = CASE WHEN $3::boolean THEN trial_winner END,
            trial_decided_at = CASE WHEN $3::boolean THEN trial_decided_at END,
            trial_decided_by = CASE WHEN $3::boolean THEN trial_decided_by END
        WHERE tenant_id = $1 AND id = $2";
    // Those of a variant that is gone go with what everybody gets, else with the first, and are counted there.
    ASSIGN_AGAIN = "UPDATE sends SET updated_at = $4,
            variant = COALESCE((SELECT st.trial_winner FROM campaign_sequence_steps st WHERE st.id = sends.step_id), $3::text)
        WHERE tenant_id = $1 AND step_id = $2 AND variant IS NOT NULL AND open AND status IN ('planned', 'queued')
            AND NOT EXISTS (SELECT 1 FROM campaign_step_variants v WHERE v.step_id = sends.step_id
                AND v.variant_key = sends.variant AND v.removed_at IS NULL)";
}

/// Writes the variants of the given step at `index`, which is `id` in the ledger; one that has none and had none costs nothing.
pub(super) async fn write(
    tx: &mut Tx,
    target: &Target<'_>,
    (index, id): (usize, StepId),
    was_trial: bool,
) -> Result<()> {
    let Target { scope, .. } = target;
    let given = scope.setup.steps[index].trial.as_ref();
    if given.is_none() && !was_trial {
        return Ok(());
    }
    let kept = match given {
        Some(trial) => upsert(tx, target, (index, id), trial).await?,
        None => Vec::new(),
    };
    tx.execute(&LEAVE_OUT, values![scope.tenant_id, id, kept, scope.now]).await?;
    let rule = given.and_then(|trial| trial.rule);
    let trial = values![
        scope.tenant_id,
        id,
        given.is_some(),
        rule.map(|rule| rule.by),
        rule.map(|rule| rule.after.as_secs_f64() / 3600.0),
        rule.map(|rule| rule.sample_percent),
    ];
    ensure_changed("a step", tx.execute(&TRIAL, trial).await?, 1)?;
    let first = given.and_then(|trial| trial.variants.first()).map(|first| first.variant.key.clone());
    tx.execute(&ASSIGN_AGAIN, values![scope.tenant_id, id, first, scope.now]).await.map(drop)
}

/// The rows of the given variants.
async fn upsert(
    tx: &mut Tx,
    target: &Target<'_>,
    (index, id): (usize, StepId),
    trial: &TrialSetup,
) -> Result<Vec<Uuid>> {
    let Target { scope, campaign_id, .. } = target;
    let known = tx.query(&KNOWN, values![scope.tenant_id, id]).await?;
    let template = |row: &Row| Ok((row.get("variant_key")?, (row.get("template_id")?, row.get("name")?)));
    let known: HashMap<String, (TemplateId, String)> = known.iter().map(template).collect::<Result<_>>()?;
    let mut rows = Vec::with_capacity(trial.variants.len());
    for (order, given) in (1_u32..).zip(&trial.variants) {
        let variant = &given.variant;
        let template = known.get(&variant.key).map(|(id, name)| (*id, name.as_str()));
        let of = format!("step {} variant {}", index + 1, variant.key);
        let template_id = write_template(tx, scope, &given.template, template, &of).await?;
        let new_id = (scope.new_id)();
        let params = values![
            new_id,
            scope.tenant_id,
            *campaign_id,
            id,
            &variant.key,
            order,
            variant.weight,
            template_id,
            scope.now
        ];
        rows.push(super::one(tx, &UPSERT, params).await?);
    }
    Ok(rows)
}
