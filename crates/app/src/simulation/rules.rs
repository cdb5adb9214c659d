//! What may never happen, counted from the moments at which the receiver accepted mail and from the campaign's file alone: no
//! book, plan or calendar of the product is asked.
//!
//! Not responsible for what should happen (`forecast`). To add a rule: a function, called in `Rules::judge`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::time::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::plans::{Account, Hours, Plan, Settings, name};

/// So many mails may have left behind one another without telling anything of jitter.
const FEW: usize = 10;

/// A mail that was accepted: when, for whom, from whom, about what.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) at: Timestamp,
    pub(super) to: String,
    pub(super) from: String,
    pub(super) subject: String,
}

/// The mails, in order of time, and what they must keep to.
pub(super) struct Rules<'a> {
    letters: &'a [Letter],
    /// Those before were judged by what held then.
    first: usize,
}

fn local(at: Timestamp, zone: &str) -> DateTime {
    let at = jiff::Timestamp::from_microsecond(at.micros()).unwrap();
    at.to_zoned(TimeZone::get(zone).unwrap()).datetime()
}

/// Whether a local time lies inside one of the campaign's windows.
fn is_open_then(settings: &Settings, then: DateTime) -> bool {
    if settings.windows.is_empty() {
        return is_within(settings, settings.days, settings.hours, then);
    }
    settings.windows.iter().any(|window| is_within(settings, window.days, Some((window.start, window.end)), then))
}

/// Whether a local time lies inside these days and hours; what runs over midnight belongs to the day it opens.
fn is_within(settings: &Settings, days: &[&str], hours: Option<(&str, &str)>, then: DateTime) -> bool {
    let on = |day: Date| {
        let weekday = format!("{:?}", day.weekday()).to_lowercase();
        let is_holiday = settings.holidays.iter().any(|holiday| holiday.parse::<Date>().unwrap() == day);
        (days.is_empty() || days.iter().any(|known| weekday.starts_with(known))) && !is_holiday
    };
    let Some((start, end)) = hours else { return on(then.date()) };
    let start: Time = start.parse().unwrap();
    // No clock shows it.
    if end == "24:00" {
        return on(then.date()) && start <= then.time();
    }
    let end: Time = end.parse().unwrap();
    if start < end {
        return on(then.date()) && start <= then.time() && then.time() < end;
    }
    let yesterday = then.date().checked_sub(1.day()).unwrap();
    (then.time() >= start && on(then.date())) || (then.time() < end && on(yesterday))
}

/// Whether this lead may be mailed at `at`.
pub(super) fn is_open(plan: &Plan, lead: &str, at: Timestamp) -> bool {
    let own = plan.leads.iter().find(|(email, _)| email == lead).and_then(|(_, zone)| *zone);
    let zone = own.filter(|_| plan.settings.is_local).unwrap_or(plan.settings.zone);
    is_open_then(&plan.settings, local(at, zone))
}

/// Most mails of an account on this day of its zone.
fn most(account: &Account, day: Date) -> u64 {
    if !account.warms_up {
        return account.daily_limit;
    }
    let began = local("2026-03-10T00:00:00Z".parse().unwrap(), account.zone).date();
    let ramp = match day.since(began).unwrap().get_days() + 1 {
        ..=3 => 10,
        4..=7 => 25,
        8..=14 => 50,
        15..=21 => 100,
        _ => u64::MAX,
    };
    account.daily_limit.min(ramp)
}

impl<'a> Rules<'a> {
    /// All letters.
    pub(super) fn of(letters: &'a [Letter]) -> Self {
        Self { letters, first: 0 }
    }

    /// Only those from this place on.
    pub(super) fn from(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// By a campaign's file as it is; `most_a_day`: the campaign's limit, where none was wider of late.
    pub(super) fn judge(&self, plan: &Plan, most_a_day: Option<u64>) {
        for letter in &self.letters[self.first..] {
            assert!(is_open(plan, &letter.to, letter.at), "outside of its window: {letter:?} {:?}", plan.settings);
        }
        self.judge_accounts(&plan.accounts);
        self.judge_rate(plan.rate);
        if let Some(most) = most_a_day {
            self.count_days(|_| true, plan.settings.zone, |_| most, "the campaign");
        }
    }

    /// Caps and gaps of accounts, over all campaigns.
    pub(super) fn judge_accounts(&self, accounts: &[Account]) {
        for account in accounts {
            let is_its = |letter: &&Letter| letter.from == account.email;
            self.count_days(|letter| is_its(&letter), account.zone, |day| most(account, day), &account.email);
            let own: Vec<(usize, &Letter)> =
                self.letters.iter().enumerate().filter(|(_, letter)| is_its(letter)).collect();
            for pair in own.windows(2).filter(|pair| pair[1].0 >= self.first) {
                let apart = pair[1].1.at.since(pair[0].1.at);
                assert!(apart >= Duration::from_secs(account.gap), "{apart:?} apart: {pair:?} {account:?}");
            }
        }
    }

    /// Whether mails of an account that leave as soon as its gap allows are not all the same time apart: it has jitter, of half
    /// the gap at most. Where a tenant has a rate, that spaces them.
    pub(super) fn judge_jitter(&self, plan: &Plan) {
        for account in plan.accounts.iter().filter(|account| account.gap > 0 && plan.rate.is_none()) {
            let own: Vec<Timestamp> =
                self.letters.iter().filter(|letter| letter.from == account.email).map(|letter| letter.at).collect();
            let apart = own.windows(2).map(|pair| pair[1].since(pair[0]));
            let close: Vec<Duration> =
                apart.filter(|apart| *apart <= Duration::from_secs(account.gap) * 3 / 2).collect();
            let distinct: BTreeSet<&Duration> = close.iter().collect();
            assert!(close.len() < FEW || distinct.len() > close.len() / 2, "{account:?}: {close:?}");
        }
    }

    /// No letter is one too many on its local day.
    fn count_days(&self, is_its: impl Fn(&Letter) -> bool, zone: &str, most: impl Fn(Date) -> u64, of: &str) {
        let mut days: BTreeMap<Date, u64> = BTreeMap::new();
        for (n, letter) in self.letters.iter().enumerate().filter(|(_, letter)| is_its(letter)) {
            let day = local(letter.at, zone).date();
            let count = days.entry(day).or_default();
            *count += 1;
            assert!(n < self.first || *count <= most(day), "{count} of {} for {of} on {day}: {letter:?}", most(day));
        }
    }

    /// In each window of the clock no more than the tenant may send.
    pub(super) fn judge_rate(&self, rate: Option<f64>) {
        let Some(rate) = rate else { return };
        let (micros, most) = if rate < 1.0 { ((1e6 / rate).round() as i64, 1) } else { (1_000_000, rate as u64) };
        let mut windows: BTreeMap<i64, u64> = BTreeMap::new();
        for letter in self.letters {
            let count = windows.entry(letter.at.micros().div_euclid(micros)).or_default();
            *count += 1;
            assert!(*count <= most, "{count} at a rate of {rate}: {letter:?}");
        }
    }

    /// Of a file that was never edited: each lead gets its mails in order, each no sooner than its waits say.
    pub(super) fn judge_waits(&self, plan: &Plan, start: Timestamp) {
        for (lead, _) in &plan.leads {
            let mut due = start;
            let mut own = self.letters.iter().filter(|letter| letter.to == *lead).peekable();
            for step in &plan.steps {
                due = step.due(due);
                let Ok(subject) = &step.what else { continue };
                let Some(letter) = own.next_if(|letter| name(&letter.subject) == name(subject)) else { continue };
                assert!(letter.at >= due, "sooner than {due}: {letter:?}");
                due = letter.at;
            }
            assert!(own.peek().is_none(), "out of turn, or too many: {:?}", own.peek());
        }
    }
}

/// Over midnight on three days, of which one is a holiday.
const NIGHTS: Settings = Settings {
    zone: "UTC",
    is_local: false,
    days: &["sat", "sun", "mon"],
    hours: Some(("22:00", "02:30")),
    windows: &[],
    holidays: &["2026-03-22"],
    daily_limit: None,
    max_lateness: None,
    moves: false,
};

#[test]
fn the_rules_know_windows_over_midnight_and_holidays() {
    let settings = NIGHTS;
    let is_open = |text: &str| is_open_then(&settings, text.parse().unwrap());
    assert!(is_open("2026-03-21T22:00:00") && is_open("2026-03-22T02:29:59"), "Saturday's runs into the holiday");
    assert!(!is_open("2026-03-22T02:30:00") && !is_open("2026-03-22T22:00:00") && !is_open("2026-03-23T01:00:00"));
    assert!(is_open("2026-03-24T01:00:00") && !is_open("2026-03-24T22:00:00"), "Monday's ends on Tuesday");
}

#[test]
fn the_rules_know_several_windows_a_day() {
    let windows = &[
        Hours { days: &["fri"], start: "09:00", end: "12:00" },
        Hours { days: &["fri", "sun"], start: "20:00", end: "24:00" },
        Hours { days: &["sat"], start: "00:00", end: "01:00" },
    ];
    let settings = Settings { windows, ..NIGHTS };
    let is_open = |text: &str| is_open_then(&settings, text.parse().unwrap());
    assert!(is_open("2026-03-20T09:00:00") && !is_open("2026-03-20T12:00:00") && !is_open("2026-03-20T19:59:59"));
    assert!(is_open("2026-03-20T20:00:00") && is_open("2026-03-20T23:59:59") && is_open("2026-03-21T00:59:59"));
    assert!(!is_open("2026-03-21T01:00:00") && !is_open("2026-03-21T22:00:00"), "other hours beside them say nothing");
    assert!(!is_open("2026-03-22T20:00:00"), "a holiday");
}
