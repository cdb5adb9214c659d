//! Campaigns that a seed gives: windows, zones, limits, warm-up, several accounts, three mails; as a file, and as plain values
//! that `rules` judges by.
//!
//! Not responsible for running them. To add something that campaigns differ in: a field, its choice in `Plan::vary`, its line
//! in `save`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::time::Timestamp;

/// Numbers that a seed gives.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }

    pub(super) fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[usize::try_from(self.below(some.len() as u64)).unwrap()]
    }
}

const ZONES: [&str; 6] =
    ["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"];
/// Sending days and hours that campaigns choose from; none = always.
const DAYS: [&[&str]; 3] = [&["mon", "tue", "wed", "thu", "fri"], &["sat", "sun", "mon"], &[]];
const HOURS: [Option<(&str, &str)>; 3] = [Some(("09:00", "17:30")), Some(("22:00", "02:30")), None];
/// Several windows a day: before and after lunch, such as touch at midnight, and such as overlap and run over it.
const WINDOWS: [&[Hours]; 3] = [
    &[
        Hours { days: &["mon", "tue", "wed", "thu"], start: "09:00", end: "12:00" },
        Hours { days: &["mon", "tue", "wed", "thu"], start: "14:00", end: "17:30" },
        Hours { days: &["fri"], start: "08:00", end: "13:00" },
    ],
    &[
        Hours { days: &["sat", "sun"], start: "10:00", end: "11:30" },
        Hours { days: &["mon", "wed"], start: "16:00", end: "24:00" },
        Hours { days: &["tue", "thu"], start: "00:00", end: "06:00" },
        Hours { days: &["tue", "thu"], start: "20:00", end: "21:00" },
    ],
    &[
        Hours { days: &[], start: "20:00", end: "00:30" },
        Hours { days: &[], start: "22:00", end: "23:00" },
        Hours { days: &[], start: "11:00", end: "12:15" },
    ],
];
/// Dates that a step may wait for.
const DATES: [&str; 2] = ["2026-03-24T07:30:00Z", "2026-03-29T01:30:00Z"];
/// Chosen so that the seeds of the suites have each of `WINDOWS`, and those stay without that must reach all their limits or rounds in time.
const VARIETY: u64 = 365_413;

/// One of several windows a day, in the words of the file; no days = all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hours {
    pub(super) days: &'static [&'static str],
    pub(super) start: &'static str,
    pub(super) end: &'static str,
}

impl Hours {
    fn text(&self) -> String {
        let Self { days, start, end } = self;
        let days = if days.is_empty() { String::new() } else { format!("days = {days:?}, ") };
        format!("{{ {days}start = \"{start}\", end = \"{end}\" }}")
    }
}

/// A step as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What a mail is about; another kind of step says what it is instead.
    pub(super) what: Result<String, &'static str>,
    pub(super) wait_hours: f64,
    /// Not before this time.
    pub(super) wait_until: Option<&'static str>,
    pub(super) is_active: bool,
}

impl Step {
    pub(super) fn mail(subject: &str, wait_hours: f64) -> Self {
        Self { what: Ok(subject.to_owned()), wait_hours, wait_until: None, is_active: true }
    }

    pub(super) fn other(what: &'static str, wait_hours: f64) -> Self {
        Self { what: Err(what), wait_hours, wait_until: None, is_active: true }
    }

    /// When it is due, where the one before was due or sent at `before`.
    pub(super) fn due(&self, before: Timestamp) -> Timestamp {
        let waited = before + Duration::from_secs_f64(self.wait_hours * 3600.0);
        self.wait_until.map_or(waited, |until| waited.max(until.parse().unwrap()))
    }

    /// By its first word a mail is known again, whatever else is changed of it.
    fn text(&self) -> String {
        let what = match &self.what {
            Ok(subject) => format!("key = \"{}\"\nsubject = \"{subject}\"\nhtml = \"hello.html\"", name(subject)),
            Err(other) => (*other).to_owned(),
        };
        let until = self.wait_until.map_or(String::new(), |until| format!("wait_until = {until}\n"));
        format!("[[step]]\nwait_hours = {:.2}\n{until}active = {}\n{what}\n", self.wait_hours, self.is_active)
    }
}

/// A mail's first word stays whatever becomes of its text.
pub(super) fn name(subject: &str) -> &str {
    subject.split(' ').next().unwrap()
}

/// An email account as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) email: String,
    pub(super) zone: &'static str,
    pub(super) daily_limit: u64,
    pub(super) gap: u64,
    /// Since 2026-03-10.
    pub(super) warms_up: bool,
}

impl Account {
    pub(super) fn text(&self) -> String {
        let Self { email, zone, daily_limit, gap, warms_up } = self;
        let since = if *warms_up { "warmup_started_at = 2026-03-10T00:00:00Z\n" } else { "" };
        format!(
            "[[email_account]]\nemail = \"{email}\"\nsmtp = \"smtp://mail.acme.test\"\ntimezone = \"{zone}\"\n\
             daily_limit = {daily_limit}\nmin_gap_seconds = {gap}\n{since}"
        )
    }
}

/// The campaign's settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) zone: &'static str,
    pub(super) is_local: bool,
    pub(super) days: &'static [&'static str],
    pub(super) hours: Option<(&'static str, &'static str)>,
    /// In place of days and hours, where there are any.
    pub(super) windows: &'static [Hours],
    pub(super) holidays: &'static [&'static str],
    pub(super) daily_limit: Option<u64>,
    pub(super) max_lateness: Option<u32>,
    /// Whether the next mail of a lead whose account is stopped leaves from another one.
    pub(super) moves: bool,
}

/// What a campaign is for: what people do to it must leave no choice to the workers, or nobody can foresee it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nobody touches it.
    Foreseen,
    /// It is paused, edited and so on: of each account with a gap one mail is on its way at most, no rate is shared, and
    /// nothing is ever late.
    Steered,
}

/// A campaign file and its list.
pub(super) struct Plan {
    seed: u64,
    chance: Chance,
    pub(super) accounts: Vec<Account>,
    /// Messages a second of the tenant.
    pub(super) rate: Option<f64>,
    pub(super) settings: Settings,
    /// Its steps, which may be edited.
    pub(super) steps: Vec<Step>,
    /// Each lead's address and zone, if it has one.
    pub(super) leads: Vec<(String, Option<&'static str>)>,
    /// Where the file stands.
    pub(super) file: PathBuf,
}

impl Plan {
    /// The campaign of this seed, to `leads` leads; the folder gets its files.
    pub(super) fn write(seed: u64, leads: usize, used: Use, folder: &Path) -> Self {
        let mut chance = Chance::new(seed);
        let rate = match used {
            Use::Foreseen => chance.of(&[None, None, Some(0.1), Some(2.0)]),
            Use::Steered => None,
        };
        let accounts = (0..4).map(|n| account(&mut chance, (seed, n), leads as u64, used)).collect();
        let settings = settings(&mut chance, leads as u64, used);
        let file = folder.join(format!("campaign{seed}.toml"));
        let mut plan = Self { seed, chance, accounts, rate, settings, steps: Vec::new(), leads: Vec::new(), file };
        plan.add_steps();
        plan.vary(used);
        std::fs::write(folder.join("hello.html"), "<p>Hello {{ first_name }}</p>").unwrap();
        for _ in 0..leads {
            plan.add_lead();
        }
        plan.save();
        plan
    }

    pub(super) fn add_lead(&mut self) {
        let zone = if self.chance.below(5) == 0 { None } else { Some(self.chance.of(&ZONES)) };
        self.leads.push((format!("lead{}.{}@example.test", self.leads.len(), self.seed), zone));
    }

    /// Writes the file and the list anew, as everything is now.
    pub(super) fn save(&self) {
        let mut list = "email,timezone\n".to_owned();
        for (email, zone) in &self.leads {
            writeln!(list, "{email},{}", zone.unwrap_or_default()).unwrap();
        }
        std::fs::write(self.file.with_file_name(format!("leads{}.csv", self.seed)), list).unwrap();
        let mut text = "[tenant]\nname = \"Acme\"\n".to_owned();
        if let Some(rate) = self.rate {
            writeln!(text, "max_per_second = {rate}").unwrap();
        }
        text.push_str("[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n");
        text.extend(self.accounts.iter().map(Account::text));
        self.write_campaign(&mut text);
        text.extend(self.steps.iter().map(Step::text));
        std::fs::write(&self.file, text).unwrap();
    }

    fn write_campaign(&self, text: &mut String) {
        let Settings { zone, is_local, holidays, daily_limit, max_lateness, moves, .. } = &self.settings;
        let strategy = if *is_local { "recipient_local" } else { "single" };
        let seed = self.seed;
        writeln!(text, "[campaign]\nname = \"C{seed}\"\nleads = \"leads{seed}.csv\"").unwrap();
        writeln!(text, "timezone = \"{zone}\"\ntimezone_strategy = \"{strategy}\"").unwrap();
        self.write_windows(text);
        if !holidays.is_empty() {
            writeln!(text, "holidays = {holidays:?}").unwrap();
        }
        if let Some(most) = daily_limit {
            writeln!(text, "daily_limit = {most}").unwrap();
        }
        if let Some(hours) = max_lateness {
            writeln!(text, "max_lateness = {hours}").unwrap();
        }
        if *moves {
            text.push_str("follow_ups = \"move\"\n");
        }
    }

    fn write_windows(&self, text: &mut String) {
        let Settings { days, hours, windows, .. } = &self.settings;
        if !windows.is_empty() {
            let windows: Vec<String> = windows.iter().map(Hours::text).collect();
            return writeln!(text, "windows = [{}]", windows.join(", ")).unwrap();
        }
        if !days.is_empty() {
            writeln!(text, "send_days = {days:?}").unwrap();
        }
        if let Some((start, end)) = hours {
            writeln!(text, "send_time_start = \"{start}\"\nsend_time_end = \"{end}\"").unwrap();
        }
    }

    /// What only some campaigns have, by a chance of its own: the others stay as their seeds have made them before.
    fn vary(&mut self, used: Use) {
        let mut chance = Chance::new(self.seed * VARIETY);
        if chance.below(3) == 0 {
            self.settings.windows = chance.of(&WINDOWS);
        }
        if chance.below(4) == 0 {
            let place = chance.of(&[1, self.steps.len() - 1]);
            self.steps[place].wait_until = Some(chance.of(&DATES));
        }
        self.settings.moves = used == Use::Steered && chance.below(2) == 0;
    }

    fn add_steps(&mut self) {
        let waits = [self.chance.of(&[24.0, 48.0, 49.5]), self.chance.of(&[0.0, 72.0, 30.25])];
        let between = match self.chance.below(3) {
            0 => Some(Step::other(NOT_OPENED, 5.0)),
            1 => Some(Step::other("type = \"wait\"", 26.5)),
            _ => None,
        };
        self.steps = vec![Step::mail("One", 0.0), Step::mail("Two", waits[0])];
        self.steps.extend(between);
        self.steps.push(Step::mail("Three", waits[1]));
    }
}

/// Holds: nobody opens anything.
pub(super) const NOT_OPENED: &str = "type = \"condition\"\ncondition = \"not_opened\"";
/// Never holds, so it skips the next mail.
pub(super) const OPENED: &str = "type = \"condition\"\ncondition = \"opened\"";

/// Caps that bind: all accounts together have hardly a day's room for one mail to each lead.
fn account(chance: &mut Chance, (seed, n): (u64, u64), leads: u64, used: Use) -> Account {
    let zone = chance.of(&ZONES);
    let gap = match used {
        Use::Foreseen => chance.of(&[0, 20, 45, 90]),
        Use::Steered => chance.of(&[0, 70, 90, 120]),
    };
    // Without a gap a day's mails leave at one moment, which many lanes would hold longer than a test has patience.
    let most = leads / 8 + chance.below(leads / 4 + 1);
    let daily_limit = if gap == 0 { most.min(100) } else { most.min(400) }.max(1);
    let warms_up = chance.below(3) == 0;
    Account { email: format!("a{n}.{seed}@acme.test"), zone, daily_limit, gap, warms_up }
}

fn settings(chance: &mut Chance, leads: u64, used: Use) -> Settings {
    let zone = chance.of(&ZONES);
    let is_local = chance.below(2) == 0;
    let (days, hours) = (chance.of(&DAYS), chance.of(&HOURS));
    let mut settings = Settings {
        zone,
        is_local,
        days,
        hours,
        windows: &[],
        holidays: &[],
        daily_limit: None,
        max_lateness: None,
        moves: false,
    };
    match chance.below(3) {
        0 => settings.holidays = &["2026-03-24", "2026-04-06"],
        1 => settings.daily_limit = Some((leads / 3).clamp(1, 600)),
        _ if used == Use::Steered => {}
        _ => settings.max_lateness = Some(2),
    }
    settings
}
