//! Puts a checked list of leads into the ledger, batch by batch; one batch is read while the one before is written.
//!
//! Every batch is a transaction and finds again what is there, so a cut import is run again and doubles nothing. Shared
//! by `run`, `campaign import` and `lead import`. Not responsible for reading rows (`leads_csv`).

use domain::first_step::FirstStep;
use engines::store::TenantStore;
use engines::store::leads::{Imported, NewLead};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::exit::Failure;
use crate::leads_csv::{LeadList, LeadReader, RowError};
use crate::problem::{InputErrors, Problem};

/// Leads in one transaction: a thousand or more cost the same each, and a kill undoes one batch.
const BATCH: usize = 2000;

/// Imports a list, and enrolls it in a campaign where one is given with its first step.
///
/// `progress` is told how many leads are in.
///
/// # Errors
/// `Unreachable` where the database does not answer: what was written before stays, and the next run goes on.
pub(crate) async fn import(
    ctx: &Context,
    tenant: &TenantStore,
    campaign: Option<FirstStep>,
    list: &LeadList,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Imported, Failure> {
    let reader = list.reader().map_err(InputErrors::from)?;
    let (sender, mut batches) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || read(reader, &sender));
    let (mut imported, mut written) = (Imported::default(), 0);
    while let Some(batch) = batches.recv().await {
        let count = batch.len() as u64;
        let new_id = || ctx.clock.uuid_v7();
        let result = tenant.import_leads(campaign.as_ref(), batch, &new_id, ctx.clock.now()).await;
        imported += result.map_err(|error| failed(error, written))?;
        written += count;
        progress(written);
    }
    reading.await.map_err(anyhow::Error::from)?.map_err(InputErrors::from)?;
    Ok(imported)
}

/// Reads until the list or its receiver ends.
fn read(mut reader: LeadReader, batches: &mpsc::Sender<Vec<NewLead>>) -> Result<(), Problem> {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            match reader.next() {
                Some(Ok(lead)) => batch.push(lead),
                // The check before has told about it, and was asked to leave it out.
                Some(Err(RowError::Bad(_))) => {}
                Some(Err(RowError::Fatal(problem))) => return Err(problem),
                None => break,
            }
        }
        let is_last = batch.len() < BATCH;
        if (!batch.is_empty() && batches.blocking_send(batch).is_err()) || is_last {
            return Ok(());
        }
    }
}

fn failed(error: engines::Error, written: u64) -> Failure {
    match error {
        error if error.is_transient() => {
            Failure::Unreachable(format!("{error}; {written} leads are in (hint: run it again, it goes on from there)"))
        }
        engines::Error::Stale { .. } => {
            let text = format!("the campaign was ended meanwhile; {written} leads are in");
            InputErrors::from(Problem::new(text)).into()
        }
        other => Failure::Internal(other.into()),
    }
}
