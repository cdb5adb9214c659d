//! `penguinmails campaign check FILE`: what a campaign file would do, without doing it.

use std::fmt::Write as _;

use domain::campaign::{CampaignSettings, TimezoneStrategy};
use domain::holidays::Country;
use domain::schedule::{DaySet, Hours};
use engines::store::setup::Kept;
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
    window: Window<'a>,
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
    /// Whether a known account keeps its own.
    #[serde(rename = "keepsDailyLimit")]
    keeps_limit: bool,
}

/// When mail may leave.
#[derive(Serialize)]
struct Window<'a> {
    timezone: &'a str,
    #[serde(rename = "timezoneStrategy")]
    timezone_strategy: TimezoneStrategy,
    hours: Vec<Hours>,
    holidays: usize,
    #[serde(rename = "holidayCountries")]
    holiday_countries: Vec<Country>,
    #[serde(rename = "firstStepSpreadHours")]
    first_step_spread_hours: f64,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(rename = "type")]
    step_type: &'static str,
    #[serde(rename = "waitHours")]
    wait_hours: f64,
    subject: Option<&'a str>,
    /// Keys and subjects; the first one's is the step's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variants: Vec<Variant<'a>>,
}

#[derive(Serialize)]
struct Variant<'a> {
    key: &'a str,
    subject: &'a str,
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
                keeps_limit: account.keeps.contains(&Kept::DailyLimit),
            };
        let step = |step: &'a engines::store::setup::StepSetup| Step {
            step_type: step.step_type.as_str(),
            wait_hours: step.wait_hours,
            subject: step.template.as_ref().map(|template| template.subject.as_str()),
            variants: step.trial.iter().flat_map(|trial| &trial.variants).map(Variant::of).collect(),
        };
        Self {
            tenant: &setup.tenant,
            company: &setup.company,
            campaign: &setup.campaign,
            accounts: setup.accounts.iter().zip(&campaign.servers).map(account).collect(),
            window: Window::of(&setup.settings),
            steps: setup.steps.iter().map(step).collect(),
            leads: campaign.leads.rows,
            skipped_rows: campaign.leads.skipped,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("Campaign `{}` of `{}` ({})\n", self.campaign, self.tenant, self.company);
        for account in &self.accounts {
            let limit = account.daily_limit.map_or("no daily limit".into(), |limit| format!("at most {limit} a day"));
            let limit = if account.keeps_limit { limit + ", or its own if it is known" } else { limit };
            let (email, host, port, tls) = (account.email, account.host, account.port, account.tls);
            let _ = writeln!(text, "  from {email} over {host}:{port}, tls {tls}, {limit}");
        }
        text += &self.window.text();
        for (i, step) in self.steps.iter().enumerate() {
            let wait = if step.wait_hours > 0.0 { format!(" after {} h", step.wait_hours) } else { String::new() };
            let subject = step.subject.filter(|_| step.variants.is_empty());
            let subject = subject.map_or(String::new(), |subject| format!(": {subject}"));
            let _ = writeln!(text, "  step {}, {}{wait}{subject}", i + 1, step.step_type);
            for Variant { key, subject } in &step.variants {
                let _ = writeln!(text, "    variant {key}: {subject}");
            }
        }
        let skipped =
            if self.skipped_rows > 0 { format!(", {} bad rows left out", self.skipped_rows) } else { String::new() };
        let _ = write!(text, "  to {} leads{skipped}\nEverything is in order; nothing was done.", self.leads);
        text
    }
}

impl<'a> Variant<'a> {
    fn of(given: &'a engines::store::setup::VariantSetup) -> Self {
        Self { key: &given.variant.key, subject: &given.template.subject }
    }
}

impl<'a> Window<'a> {
    fn of(settings: &'a CampaignSettings) -> Self {
        Self {
            timezone: settings.timezone.name(),
            timezone_strategy: settings.timezone_strategy,
            hours: settings.hours(),
            holidays: settings.holidays.len(),
            holiday_countries: settings.holiday_country.iter().copied().collect(),
            first_step_spread_hours: settings.first_step_spread_hours,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let whose = match self.timezone_strategy {
            TimezoneStrategy::Single => "",
            TimezoneStrategy::RecipientLocal => ", or the lead's own zone",
        };
        for hours in &self.hours {
            let days = if hours.days == DaySet::ALL {
                "every day".to_owned()
            } else {
                hours.days.names().collect::<Vec<_>>().join(", ")
            };
            let (start, end, zone) = (hours.start, hours.end, self.timezone);
            let _ = writeln!(text, "  {days} from {start} to {end}, {zone}{whose}");
        }
        if self.holidays > 0 {
            let _ = writeln!(text, "  not on its own holidays ({})", self.holidays);
        }
        if !self.holiday_countries.is_empty() {
            let names: Vec<&str> = self.holiday_countries.iter().map(|country| country.name()).collect();
            let _ = writeln!(text, "  not on the public holidays of {}", names.join(", "));
        }
        if self.first_step_spread_hours > 0.0 {
            let _ = writeln!(text, "  first steps spread over {} h", self.first_step_spread_hours);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_holds_mail_back_is_said() {
        let text = |toml: &str| Window::of(&toml::from_str(toml).unwrap()).text();
        assert_eq!(text(""), "  every day from 00:00 to 24:00, UTC\n");
        let said = text(
            "timezone = \"Europe/Madrid\"\ntimezone_strategy = \"recipient_local\"\n\
             windows = [{ days = [\"mon\", \"fri\"], end = \"12:00\" }, { start = \"14:00\" }]\n\
             holidays = [\"2026-12-24\"]\nholiday_country = [\"FR\", \"ES\"]\nfirst_step_spread_hours = 1.5\n",
        );
        let lines = [
            "  mon, fri from 00:00 to 12:00, Europe/Madrid, or the lead's own zone",
            "  every day from 14:00 to 24:00, Europe/Madrid, or the lead's own zone",
            "  not on its own holidays (1)",
            "  not on the public holidays of Spain, France",
            "  first steps spread over 1.5 h",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    }
}
