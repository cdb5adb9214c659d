//! How a campaign stands, as the JSON object of SPEC 2 and as a table for people.
//!
//! Not responsible for the numbers (`store::status`). To add one: a field there, here in both forms.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use domain::campaign::CampaignStatus;
use domain::reason::Reason;
use domain::time::Timestamp;
use engines::store::status::CampaignReport;
use serde::Serialize;

/// The object that `run --json` and `campaign status --json` print.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportJson<'a> {
    campaign_id: String,
    status: &'a str,
    /// Why a rule has paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status_reason: Option<&'a str>,
    /// When the next round begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_round_at: Option<Timestamp>,
    planned: u64,
    sent: u64,
    deferred: u64,
    bounced: u64,
    failed: u64,
    held: u64,
    skipped: u64,
    cancelled: u64,
    pending: u64,
    unknown: u64,
    opens: u64,
    clicks: u64,
    unsubscribes: u64,
    seconds: f64,
    reasons: Vec<ReasonJson<'a>>,
}

#[derive(Serialize)]
struct ReasonJson<'a> {
    state: &'a str,
    reason: &'a str,
    count: u64,
}

impl<'a> ReportJson<'a> {
    /// The object for a report; `seconds` is how long the command took.
    pub(crate) fn new(report: &'a CampaignReport, seconds: f64) -> Self {
        Self {
            campaign_id: report.campaign_id.to_string(),
            status: report.status.as_str(),
            status_reason: paused_by_rule(report),
            next_round_at: report.next_round.as_ref().map(|(at, _)| *at),
            planned: report.planned(),
            sent: report.sent,
            deferred: report.deferred,
            bounced: report.bounced,
            failed: report.failed,
            held: report.held,
            skipped: report.skipped,
            cancelled: report.cancelled,
            pending: report.pending,
            unknown: report.unknown,
            opens: report.opens,
            clicks: report.clicks,
            unsubscribes: report.unsubscribes,
            seconds: (seconds * 1000.0).round() / 1000.0,
            reasons: report
                .reasons
                .iter()
                .map(|r| ReasonJson { state: &r.state, reason: &r.reason, count: r.count })
                .collect(),
        }
    }
}

fn paused_by_rule(report: &CampaignReport) -> Option<&str> {
    report.status_reason.as_deref().filter(|_| report.status == CampaignStatus::Paused)
}

/// The status with what went wrong, wherever it is shown: `completed, 3 failed, 1 bounced`.
pub(crate) fn status(report: &CampaignReport) -> String {
    let mut text = report.status.to_string();
    let told = [("failed", report.failed), ("bounced", report.bounced), ("held", report.held)];
    for (word, count) in told.into_iter().filter(|(_, count)| *count > 0) {
        text.push_str(&format!(", {count} {word}"));
    }
    if report.status == CampaignStatus::Completed && report.failed + report.bounced == 0 {
        text.push_str(", nothing failed");
    }
    if let Some((at, zone)) = &report.next_round {
        text.push_str(&format!(", next round on {}", zone.for_people(*at)));
    }
    text
}

/// A table that fits the terminal.
pub(crate) fn table(report: &CampaignReport) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(vec![report.name.clone(), status(report)]);
    let counts = [
        ("sent", report.sent),
        ("deferred", report.deferred),
        ("bounced", report.bounced),
        ("failed", report.failed),
        ("held", report.held),
        ("skipped", report.skipped),
        ("cancelled", report.cancelled),
        ("pending", report.pending),
    ];
    for (word, count) in counts.into_iter().filter(|(word, count)| *count > 0 || *word == "sent") {
        table.add_row(vec![word.to_owned(), count.to_string()]);
    }
    table.add_row(vec!["planned in all".to_owned(), report.planned().to_string()]);
    if report.unknown > 0 {
        table.add_row(vec!["dialogues cut after the dot".to_owned(), report.unknown.to_string()]);
    }
    for (word, count) in [("opens", report.opens), ("clicks", report.clicks), ("unsubscribes", report.unsubscribes)] {
        table.add_row(vec![word.to_owned(), count.to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    if let Some(word) = paused_by_rule(report) {
        let why = word.parse::<Reason>().map_or("", Reason::for_people);
        text.push_str(&format!(
            "\npaused: {why} ({word}); `penguinmails campaign failures` shows them, `campaign resume` goes on"
        ));
    }
    for reason in &report.reasons {
        let why = reason.reason.parse::<Reason>().map_or("", Reason::for_people);
        text.push_str(&format!("\n{} {}: {why} ({})", reason.count, reason.state, reason.reason));
    }
    text
}

/// Whether every send that was tried was accepted, and none waits.
pub(crate) fn is_all_accepted(report: &CampaignReport) -> bool {
    report.failed + report.bounced + report.held + report.deferred + report.pending == 0
}

/// Whether nothing moves any more unless a person acts.
pub(crate) fn is_stuck(report: &CampaignReport) -> bool {
    let moving = report.pending + report.deferred;
    match report.status {
        // What is held waits for a person; the others of the next round do not.
        CampaignStatus::Scheduled | CampaignStatus::Sending if moving == 0 => {
            report.held > 0 && report.next_round.is_none()
        }
        CampaignStatus::Scheduled | CampaignStatus::Sending => !report.has_active_account,
        CampaignStatus::Completed => false,
        CampaignStatus::Draft | CampaignStatus::Paused | CampaignStatus::Cancelled | CampaignStatus::Archived => true,
    }
}
