//! A campaign: its status and its settings.
//!
//! Not responsible for its steps (`step`) or for deciding anything (`plan`).
//! To add a setting: a documented field with a default in `CampaignSettings`; the campaign file knows it at once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::holidays::Country;
use crate::reason::Reason;
use crate::schedule::{Date, DaySet, Hours, LocalTime, ScheduleError, Window};
use crate::time::Zone;
use crate::words::words;

words! {
    /// Where a campaign stands.
    CampaignStatus, "campaign status", {
        /// Being written; nothing is planned.
        Draft = "draft",
        /// Starts at `scheduled_at`.
        Scheduled = "scheduled",
        /// Under way.
        Sending = "sending" | "active" | "running",
        /// Stopped for now; nothing leaves.
        Paused = "paused",
        /// Every send is final.
        Completed = "completed",
        /// Ended by a person.
        Cancelled = "cancelled",
        /// Put away.
        Archived = "archived",
    }
}

impl CampaignStatus {
    /// Why nothing of a campaign in this status may leave, if so.
    pub fn why_not(self) -> Option<Reason> {
        match self {
            Self::Sending | Self::Scheduled => None,
            Self::Paused => Some(Reason::CampaignPaused),
            Self::Draft => Some(Reason::CampaignNotStarted),
            Self::Completed | Self::Cancelled | Self::Archived => Some(Reason::CampaignCancelled),
        }
    }
}

words! {
    /// Whose local time a window means.
    TimezoneStrategy, "timezone strategy", {
        /// The campaign's zone for everybody.
        Single = "single",
        /// The lead's zone; the campaign's for a lead without one.
        RecipientLocal = "recipient_local",
    }
}

words! {
    /// What becomes of a send whose dialogue was cut after the final dot.
    OnUnknown, "policy for unknown outcomes", {
        /// Send once more with the same Message-ID; a second cut is held.
        Resend = "resend",
        /// A person decides.
        Hold = "hold",
    }
}

words! {
    /// How often a campaign begins anew for the leads who have finished it.
    Repeat, "rhythm of a recurring campaign", {
        /// Every day.
        Daily = "daily",
        /// Every week, on the day on which it began.
        Weekly = "weekly",
        /// Every month, on the day on which it began, or the last one of a month that is too short.
        Monthly = "monthly",
    }
}

words! {
    /// What becomes of the next mail of a lead whose email account may not send any more.
    FollowUps, "policy for follow-ups", {
        /// It waits for its account.
        Wait = "wait",
        /// It goes from another account of the pool, in the same thread.
        Move = "move",
    }
}

/// The JSON in `campaigns.settings`, and the same keys under `[campaign]` in a campaign file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CampaignSettings {
    /// Zone of the window; default UTC.
    pub timezone: Zone,
    /// Whose local time the window means; default `single`.
    pub timezone_strategy: TimezoneStrategy,
    /// Days on which mail may leave; default all.
    pub send_days: DaySet,
    /// When the window opens; default `00:00`.
    pub send_time_start: LocalTime,
    /// When the window closes; default `24:00`; earlier than the start means over midnight.
    pub send_time_end: LocalTime,
    /// Several times a day at which mail may leave, in place of the three above; default none.
    pub windows: Vec<Hours>,
    /// Days without mail.
    pub holidays: Vec<Date>,
    /// Countries on whose public holidays no mail leaves either: a code or a list of them; default none.
    #[serde(deserialize_with = "crate::holidays::one_or_several")]
    pub holiday_country: BTreeSet<Country>,
    /// Most messages a day over all accounts; none = no limit.
    pub daily_limit: Option<u32>,
    /// 1 (most urgent) to 1000; default 100.
    pub priority: u16,
    /// Whether opens are measured; default yes.
    pub track_opens: bool,
    /// Whether clicks are measured; default yes.
    pub track_clicks: bool,
    /// Whether a reply ends the sequence for that lead; default yes.
    pub stop_on_reply: bool,
    /// Hours after its due time at which a mail is skipped instead of sent; none = never too late.
    pub max_lateness: Option<f64>,
    /// Hours over which the first steps of leads become due, from the start of the campaign or their enrollment on, so
    /// that a long list does not come at once; 0 to 8760, default 0.
    pub first_step_spread_hours: f64,
    /// What becomes of an unknown outcome; default `resend`.
    pub on_unknown: OnUnknown,
    /// What becomes of follow-ups whose email account may not send; default `wait`. Who got no mail yet moves in any case.
    pub follow_ups: FollowUps,
    /// How often leads who have finished begin a new round, at the local time of `scheduled_at`; default never.
    pub repeat: Option<Repeat>,
    /// The last day on which a round may begin; default none.
    pub repeat_until: Option<Date>,
    /// How many rounds there are, the first one included, at least 1; default without end.
    pub repeat_count: Option<u32>,
    /// Days, at least 1, after which a lead who has finished begins a new round by being added again; none = never.
    pub re_enroll_after_days: Option<u32>,
}

/// A year: whoever spreads a list over more forgets it.
const MOST_SPREAD_HOURS: f64 = 8760.0;

impl Default for CampaignSettings {
    fn default() -> Self {
        Self {
            timezone: Zone::UTC,
            timezone_strategy: TimezoneStrategy::Single,
            send_days: DaySet::ALL,
            send_time_start: LocalTime::MIDNIGHT,
            send_time_end: LocalTime::END_OF_DAY,
            windows: Vec::new(),
            holidays: Vec::new(),
            holiday_country: BTreeSet::new(),
            daily_limit: None,
            priority: 100,
            track_opens: true,
            track_clicks: true,
            stop_on_reply: true,
            max_lateness: None,
            first_step_spread_hours: 0.0,
            on_unknown: OnUnknown::Resend,
            follow_ups: FollowUps::Wait,
            repeat: None,
            repeat_until: None,
            repeat_count: None,
            re_enroll_after_days: None,
        }
    }
}

/// A settings object that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The window is empty or malformed.
    #[error(transparent)]
    Window(#[from] ScheduleError),
    /// One of several windows is; its number counts from 1.
    #[error("{1}")]
    OneWindow(usize, ScheduleError),
    /// Priority out of range.
    #[error("priority `{0}` is out of range (hint: 1 is most urgent, 1000 least, 100 the default)")]
    Priority(u16),
    /// A daily limit of nothing.
    #[error("daily_limit is 0, so nothing would ever be sent (hint: leave it out for no limit, or pause the campaign)")]
    NoDailyLimit,
    /// A lateness that is not a number of hours.
    #[error("max_lateness `{0}` is not a positive number of hours")]
    Lateness(f64),
    /// A spread that is no time, or longer than a year.
    #[error("first_step_spread_hours `{0}` is not a number of hours from 0 to 8760")]
    Spread(f64),
    /// An end of rounds that do not come.
    #[error(
        "{0} says when a campaign stops coming back, but nothing says how often it does (hint: repeat = \"daily\", \"weekly\" or \"monthly\", or leave it out)"
    )]
    NoRepeat(&'static str),
    /// Not even a first round.
    #[error("repeat_count is 0, but there is always a first round (hint: 1 is once; leave it out for no end)")]
    NoRounds,
    /// A re-enrollment after no time.
    #[error("re_enroll_after_days is 0, so every import would begin anew (hint: 1 or more; leave it out for never)")]
    NoDays,
}

impl CampaignSettings {
    /// The sending window, in the lead's zone where the strategy says so and the lead has one.
    ///
    /// # Errors
    /// Where days or times make no window, or `windows` and the keys that it takes the place of are both given.
    pub fn window(&self, lead_zone: Option<&Zone>) -> Result<Window, ScheduleError> {
        let zone = match (self.timezone_strategy, lead_zone) {
            (TimezoneStrategy::RecipientLocal, Some(zone)) => zone.clone(),
            _ => self.timezone.clone(),
        };
        if !self.windows.is_empty() {
            self.check_alone()?;
        }
        let window = Window::new(zone, self.hours(), self.holidays.iter().copied())?;
        Ok(window.closed_on_holidays_of(self.holiday_country.iter().copied()))
    }

    /// The hours of its window: `windows`, or the one that the other three keys make.
    pub fn hours(&self) -> Vec<Hours> {
        if self.windows.is_empty() { vec![self.only_hours()] } else { self.windows.clone() }
    }

    fn only_hours(&self) -> Hours {
        Hours { days: self.send_days, start: self.send_time_start, end: self.send_time_end }
    }

    /// Two answers to one question would let mail leave when one of them says no.
    fn check_alone(&self) -> Result<(), ScheduleError> {
        let (given, default) = (self.only_hours(), Hours::default());
        let beside = [
            ("send_days", given.days != default.days),
            ("send_time_start", given.start != default.start),
            ("send_time_end", given.end != default.end),
        ];
        match beside.iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) => Err(ScheduleError::BesideWindows(key)),
            None => Ok(()),
        }
    }

    /// Over how long first steps are spread; what cannot be used is brought into the range.
    pub fn first_step_spread(&self) -> Duration {
        let hours = self.first_step_spread_hours;
        let hours = if hours > 0.0 { hours.min(MOST_SPREAD_HOURS) } else { 0.0 };
        Duration::from_secs_f64(hours * 3600.0)
    }

    fn check_rounds(&self) -> Result<(), SettingsError> {
        let ends = [("repeat_until", self.repeat_until.is_some()), ("repeat_count", self.repeat_count.is_some())];
        if let Some((key, _)) = ends.into_iter().find(|(_, is_given)| *is_given && self.repeat.is_none()) {
            return Err(SettingsError::NoRepeat(key));
        }
        if self.repeat_count == Some(0) {
            return Err(SettingsError::NoRounds);
        }
        if self.re_enroll_after_days == Some(0) {
            return Err(SettingsError::NoDays);
        }
        Ok(())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (number, hours) in (1..).zip(&self.windows) {
            hours.check().map_err(|error| SettingsError::OneWindow(number, error))?;
        }
        self.window(None)?;
        if !(1..=1000).contains(&self.priority) {
            return Err(SettingsError::Priority(self.priority));
        }
        if self.daily_limit == Some(0) {
            return Err(SettingsError::NoDailyLimit);
        }
        if !(0.0..=MOST_SPREAD_HOURS).contains(&self.first_step_spread_hours) {
            return Err(SettingsError::Spread(self.first_step_spread_hours));
        }
        self.check_rounds()?;
        match self.max_lateness {
            Some(hours) if !(hours.is_finite() && hours > 0.0) => Err(SettingsError::Lateness(hours)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<CampaignSettings, String> {
        let settings: CampaignSettings = serde_json::from_str(json).map_err(|e| e.to_string())?;
        settings.check().map_err(|e| e.to_string()).map(|()| settings)
    }

    #[test]
    fn several_windows_take_the_place_of_the_three_keys_of_one() {
        let settings = read(r#"{"windows":[{"end":"12:00"},{"days":["fri"],"start":"14:00"}]}"#).unwrap();
        assert_eq!(settings.hours().len(), 2);
        assert_eq!(read("{}").unwrap().hours(), [Hours::default()]);
        for (key, value) in
            [("send_days", r#"["mon"]"#), ("send_time_start", r#""09:00""#), ("send_time_end", r#""17:00""#)]
        {
            let said = read(&format!(r#"{{"windows":[{{}}],"{key}":{value}}}"#)).unwrap_err();
            assert!(said.ends_with(&format!("(hint: leave `{key}` out)")), "{said}");
        }
        // What another program writes is not checked before it is used: then nothing opens.
        let both = r#"{"windows":[{}],"send_time_start":"09:00"}"#;
        assert!(serde_json::from_str::<CampaignSettings>(both).unwrap().window(None).is_err());
        assert!(read(r#"{"windows":[{},{"start":"09:00","end":"09:00"}]}"#).is_err());
    }

    #[test]
    fn one_country_or_several_are_read_and_a_wrong_one_is_refused() {
        let codes = |json| read(json).map(|settings| settings.holiday_country.into_iter().map(Country::code).collect());
        let none: Vec<&str> = Vec::new();
        assert_eq!(codes("{}"), Ok(none));
        assert_eq!(codes(r#"{"holiday_country":"es"}"#), Ok(vec!["ES"]));
        assert_eq!(codes(r#"{"holiday_country":["FR","ES","FR"]}"#), Ok(vec!["ES", "FR"]));
        let said = codes(r#"{"holiday_country":["ES","XX"]}"#).unwrap_err();
        assert!(said.starts_with("`XX` is no country whose holidays are known (hint: one of AT"), "{said}");
        let said = codes(r#"{"holiday_country":34}"#).unwrap_err();
        assert!(said.starts_with("expected a country code or a list of them"), "{said}");
        let settings = read(r#"{"holiday_country":"ES"}"#).unwrap();
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<CampaignSettings>(&written).unwrap(), settings);
        let noon = "2026-12-25T12:00:00Z".parse().unwrap();
        assert!(!settings.window(None).unwrap().is_open(noon), "Christmas Day");
    }
}
