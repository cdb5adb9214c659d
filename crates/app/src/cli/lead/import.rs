//! `penguinmails lead import FILE`: a list of leads into a tenant, and into a campaign where one is named.
//!
//! To add a count: a field of `Report`, shown in both forms.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use domain::campaign::CampaignStatus;
use domain::first_step::FirstStep;
use domain::ids::{CampaignId, TenantId};
use serde::Serialize;

use super::super::run::{Progress, quieten};
use super::super::{Global, Outcome, block_on, campaign, output, tenant};
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::leads_csv::{self, LeadList, Source};
use crate::problem::{InputErrors, Problem, Problems};
use crate::{lead_import, memory};

/// Import a list of leads into a tenant, and enroll them in a campaign
///
/// Leads are found again by address: new ones are added, known ones get what the list says of them (an empty cell says
/// nothing), and nobody who unsubscribed comes back. A list with bad rows is refused before anything is written. Cut
/// off or killed, the same command goes on and doubles nobody.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penguinmails lead import spring.csv --tenant Acme
  penguinmails lead import spring.csv --tenant Acme --campaign Welcome
      Enroll them too, also while the campaign is under way
  zcat spring.csv.gz | penguinmails lead import - --tenant Acme --skip-bad-rows --json")]
pub(crate) struct ImportArgs {
    /// The list: CSV with a header row that names `email`; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name or id of the tenant
    #[arg(long, value_name = "NAME|ID")]
    tenant: String,
    /// Enroll the leads in this campaign, by its name or id
    #[arg(long, value_name = "NAME|ID")]
    campaign: Option<String>,
    /// Leave out bad rows instead of refusing the list
    #[arg(long)]
    skip_bad_rows: bool,
}

/// What was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    tenant_id: TenantId,
    campaign_id: Option<CampaignId>,
    rows: u64,
    new: u64,
    updated: u64,
    unchanged: u64,
    enrolled: u64,
    began_again: u64,
    skipped: u64,
    /// The first twenty rows that were skipped.
    skipped_rows: Vec<Problem>,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

/// Where the leads go.
struct Target {
    tenant_id: TenantId,
    campaign: Option<FirstStep>,
}

impl ImportArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let env = Environment::of_process();
        let mut config = config::load(&global.options(), &env)?;
        let problems = Problems::default();
        let source = problems.ok(open(&self.file, &config.data));
        let list = source.and_then(|source| leads_csv::check(source, self.skip_bad_rows, &problems));
        problems.into_result()?;
        let list = list.expect("a list that cannot be used has noted why");
        quieten(&mut config, &env);
        block_on(async {
            let started = tokio::time::Instant::now();
            let ctx = Context::open(config, 1.0).await?;
            let target = self.target(&ctx).await?;
            let progress = Progress::new(global.json, list.rows);
            let store = ctx.store.tenant(target.tenant_id);
            let told = |written| progress.leads(written);
            let imported = lead_import::import(&ctx, &store, target.campaign, &list, &told).await?;
            progress.finish();
            let LeadList { rows, skipped, skipped_rows, .. } = list;
            let report = Report {
                tenant_id: target.tenant_id,
                campaign_id: target.campaign.map(|first| first.campaign_id),
                rows: rows + skipped,
                new: imported.new,
                updated: imported.updated,
                unchanged: imported.unchanged,
                enrolled: imported.enrolled,
                began_again: imported.began_again,
                skipped,
                skipped_rows,
                seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
                peak_memory_bytes: memory::peak_resident_bytes(),
            };
            if global.json {
                output::print_json(&report);
            } else {
                output::print(report.table());
            }
            Ok(Exit::Done)
        })?
    }

    async fn target(&self, ctx: &Context) -> Result<Target, Failure> {
        let (tenant_id, name) = tenant::find(ctx, &self.tenant).await?;
        let Some(campaign) = &self.campaign else { return Ok(Target { tenant_id, campaign: None }) };
        let campaign = campaign::find(ctx, campaign, Some(&name)).await?;
        if matches!(campaign.status, CampaignStatus::Cancelled | CampaignStatus::Archived) {
            let text = format!("the campaign `{}` is {}", campaign.name, campaign.status);
            return refuse(Problem::new(text).field("--campaign").hint("it has ended: enroll them in another one"));
        }
        let stored = ctx.store.tenant(tenant_id).get_campaign(campaign.id).await?;
        let now = ctx.clock.now();
        let start = campaign.scheduled_at.map_or(now, |at| at.max(now));
        match FirstStep::of(&stored.plan, start) {
            Some(first) => Ok(Target { tenant_id, campaign: Some(first) }),
            None => refuse(Problem::new(format!("the campaign `{}` has no steps", campaign.name)).field("--campaign")),
        }
    }
}

fn refuse<T>(problem: Problem) -> Result<T, Failure> {
    Err(InputErrors::from(problem).into())
}

/// The list; what can be read only once is kept first.
fn open(path: &Path, data: &Path) -> Result<Source, Problem> {
    if path.as_os_str() == "-" {
        return Source::keep("standard input", std::io::stdin().lock(), data);
    }
    let source = Source::open(path)?;
    if path.is_dir() || source.is_regular() {
        return Ok(source);
    }
    Source::keep(&path.display().to_string(), &source, data)
}

impl Report {
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        let mut row = |word: &str, value: String| {
            table.add_row(vec![word.to_owned(), value]);
        };
        row("rows", self.rows.to_string());
        row("new leads", self.new.to_string());
        row("updated", self.updated.to_string());
        row("unchanged", self.unchanged.to_string());
        if self.campaign_id.is_some() {
            row("enrolled", self.enrolled.to_string());
        }
        if self.began_again > 0 {
            row("began a new round", self.began_again.to_string());
        }
        if self.skipped > 0 {
            row("skipped", self.skipped.to_string());
        }
        row("seconds", format!("{:.1}", self.seconds));
        if let Some(bytes) = self.peak_memory_bytes {
            row("peak memory", format!("{} MiB", bytes >> 20));
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.to_string();
        for problem in &self.skipped_rows {
            text.push_str(&format!("\nskipped {problem}"));
        }
        if self.skipped > self.skipped_rows.len() as u64 {
            text.push_str(&format!("\nand {} more", self.skipped - self.skipped_rows.len() as u64));
        }
        text
    }
}
