//! `[campaign]`: its name, its list of leads and its settings.
//!
//! The settings are `domain::campaign::CampaignSettings`: a field there is a key here. To add a key that is no
//! setting: `campaign`, and the store's `Setup`.

use std::collections::BTreeMap;

use domain::campaign::{CampaignSettings, SettingsError};
use domain::schedule::ScheduleError;
use domain::time::Timestamp;

use super::Reader;
use crate::leads_csv::LeadList;
use crate::problem::Problem;
use crate::toml_input::{Section, Spot};

/// The campaign of the file.
pub(super) struct FileCampaign {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) scheduled_at: Option<Timestamp>,
    pub(super) settings: CampaignSettings,
    pub(super) leads: LeadList,
}

impl Reader<'_> {
    /// None where a problem was noted.
    pub(super) fn campaign(&self, root: &mut Section<'_>) -> Option<FileCampaign> {
        let mut section = self.section(root, "campaign", "[campaign] with name and leads")?;
        let name = section.require("name", "the campaign is found by its name when the file is run again");
        let description = section.take::<String>("description").map(|spot| spot.value);
        let scheduled_at = section.take("scheduled_at").map(|spot| spot.value);
        let leads: Option<Spot<String>> = section.require("leads", "a CSV file: leads = \"leads.csv\"");
        let (settings, places) = section.fields::<CampaignSettings>();
        if let Err(error) = settings.check() {
            self.problems.add(settings_problem(&error, &places, &section));
        }
        section.finish();
        let name = name.and_then(|name| self.one_line(name));
        let leads = self.leads(&leads?);
        Some(FileCampaign { name: name?, description, scheduled_at, settings, leads: leads? })
    }
}

/// The problem at the key that it is about.
fn settings_problem(error: &SettingsError, places: &BTreeMap<String, Spot<()>>, section: &Section<'_>) -> Problem {
    let one_window;
    let keys: &[&str] = match error {
        SettingsError::Window(ScheduleError::NoDays | ScheduleError::Day(_)) => &["send_days"],
        SettingsError::Window(ScheduleError::OpensAtEnd) => &["send_time_start"],
        SettingsError::Window(ScheduleError::TooMany(_)) => &["windows"],
        SettingsError::Window(ScheduleError::BesideWindows(key)) => &[*key],
        SettingsError::Window(_) => &["send_time_end", "send_time_start"],
        SettingsError::OneWindow(number, _) => {
            one_window = format!("windows[{number}]");
            &[one_window.as_str()]
        }
        SettingsError::Priority(_) => &["priority"],
        SettingsError::NoDailyLimit => &["daily_limit"],
        SettingsError::Lateness(_) => &["max_lateness"],
        SettingsError::Spread(_) => &["first_step_spread_hours"],
        SettingsError::NoRepeat(key) => &[*key],
        SettingsError::NoRounds => &["repeat_count"],
        SettingsError::NoDays => &["re_enroll_after_days"],
    };
    match keys.iter().find_map(|key| places.get(*key)) {
        Some(spot) => spot.problem(error),
        None => section.problem(error),
    }
}
