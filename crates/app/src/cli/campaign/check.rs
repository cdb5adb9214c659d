//! `penguinmails campaign check FILE`: what a campaign file would do, without doing it.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::{Global, Outcome, output};
use super::FileArgs;
use crate::campaign_file::{self, CampaignSetup, LoadOptions};
use crate::config::{self, Environment};
use crate::exit::Exit;

#[derive(Serialize)]
struct Report<'a> {
    tenant: &'a str,
    company: &'a str,
    campaign: &'a str,
    accounts: Vec<Account<'a>>,
    steps: Vec<Step<'a>>,
    leads: u64,
    #[serde(rename = "skippedRows")]
    skipped_rows: u64,
}

#[derive(Serialize)]
struct Account<'a> {
    email: &'a str,
    host: &'a str,
    port: u16,
    tls: &'static str,
    #[serde(rename = "dailyLimit")]
    daily_limit: Option<u32>,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(rename = "type")]
    step_type: &'static str,
    #[serde(rename = "waitHours")]
    wait_hours: f64,
    subject: Option<&'a str>,
}

pub(super) fn run(args: &FileArgs, global: &Global) -> Outcome {
    let env = Environment::of_process();
    let config = config::load(&global.options(), &env)?;
    let smtp = args.smtp()?;
    let options = LoadOptions {
        env: &env,
        settings: &config.settings,
        smtp: smtp.as_ref(),
        keeps_servers: false,
        skip_bad_rows: args.skip_bad_rows,
        update: false,
        reopen: false,
    };
    let campaign = campaign_file::load(&args.file, &options)?;
    let report = Report::of(&campaign);
    if global.json {
        output::print_json(&report);
    } else {
        output::print(report.text());
    }
    Ok(Exit::Done)
}

impl<'a> Report<'a> {
    fn of(campaign: &'a CampaignSetup) -> Self {
        let setup = &campaign.setup;
        let account =
            |(account, server): (&'a engines::store::setup::AccountSetup, &'a campaign_file::AccountServer)| Account {
                email: &account.email,
                host: &server.settings.host,
                port: server.settings.port,
                tls: server.settings.tls.as_str(),
                daily_limit: account.daily_limit,
            };
        let step = |step: &'a engines::store::setup::StepSetup| Step {
            step_type: step.step_type.as_str(),
            wait_hours: step.wait_hours,
            subject: step.template.as_ref().map(|template| template.subject.as_str()),
        };
        Self {
            tenant: &setup.tenant,
            company: &setup.company,
            campaign: &setup.campaign,
            accounts: setup.accounts.iter().zip(&campaign.servers).map(account).collect(),
            steps: setup.steps.iter().map(step).collect(),
            leads: campaign.leads.rows,
            skipped_rows: campaign.leads.skipped,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("Campaign `{}` of `{}` ({})\n", self.campaign, self.tenant, self.company);
        for account in &self.accounts {
            let limit = account.daily_limit.map_or("no daily limit".into(), |limit| format!("at most {limit} a day"));
            let (email, host, port, tls) = (account.email, account.host, account.port, account.tls);
            let _ = writeln!(text, "  from {email} over {host}:{port}, tls {tls}, {limit}");
        }
        for (i, step) in self.steps.iter().enumerate() {
            let wait = if step.wait_hours > 0.0 { format!(" after {} h", step.wait_hours) } else { String::new() };
            let subject = step.subject.map_or(String::new(), |subject| format!(": {subject}"));
            let _ = writeln!(text, "  step {}, {}{wait}{subject}", i + 1, step.step_type);
        }
        let skipped =
            if self.skipped_rows > 0 { format!(", {} bad rows left out", self.skipped_rows) } else { String::new() };
        let _ = write!(text, "  to {} leads{skipped}\nEverything is in order; nothing was done.", self.leads);
        text
    }
}
