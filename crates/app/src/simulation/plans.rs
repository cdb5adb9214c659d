//! Campaigns that a seed gives: windows, zones, limits, warm-up, several accounts, three mails.
//!
//! Not responsible for running them. To add something that campaigns differ in: a line of `Plan::of`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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

    fn of<T: Copy>(&mut self, some: &[T]) -> T {
        some[usize::try_from(self.below(some.len() as u64)).unwrap()]
    }
}

const ZONES: [&str; 6] =
    ["UTC", "Europe/Madrid", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"];

/// A step as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What a mail is about; another kind of step says what it is instead.
    pub(super) what: Result<String, &'static str>,
    pub(super) wait_hours: f64,
    pub(super) is_active: bool,
}

impl Step {
    pub(super) fn mail(subject: &str, wait_hours: f64) -> Self {
        Self { what: Ok(subject.to_owned()), wait_hours, is_active: true }
    }

    fn text(&self) -> String {
        let what = match &self.what {
            Ok(subject) => format!("subject = \"{subject}\"\nhtml = \"hello.html\""),
            Err(other) => (*other).to_owned(),
        };
        format!("[[step]]\nwait_hours = {:.2}\nactive = {}\n{what}\n", self.wait_hours, self.is_active)
    }
}

/// A campaign file and its list.
pub(super) struct Plan {
    chance: Chance,
    /// All before the steps.
    text: String,
    /// Its steps, which may be edited.
    pub(super) steps: Vec<Step>,
    /// Where the file stands.
    pub(super) file: PathBuf,
}

impl Plan {
    /// The campaign of this seed, to `leads` leads; the folder gets its files.
    pub(super) fn write(seed: u64, leads: usize, folder: &Path) -> Self {
        let file = folder.join(format!("campaign{seed}.toml"));
        let mut plan = Self { chance: Chance::new(seed), text: String::new(), steps: Vec::new(), file };
        let rate = plan.chance.of(&["", "", "max_per_second = 0.1", "max_per_second = 2"]);
        plan.add(&format!("[tenant]\nname = \"Acme\"\n{rate}"));
        plan.add("[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"");
        for n in 0..4 {
            plan.account(seed, n);
        }
        plan.campaign(seed);
        plan.add_steps();
        plan.save();
        std::fs::write(folder.join("hello.html"), "<p>Hello {{ first_name }}</p>").unwrap();
        let mut list = "email,timezone\n".to_owned();
        for n in 0..leads {
            let zone = if plan.chance.below(5) == 0 { "" } else { plan.chance.of(&ZONES) };
            writeln!(list, "lead{n}.{seed}@example.test,{zone}").unwrap();
        }
        std::fs::write(folder.join(format!("leads{seed}.csv")), list).unwrap();
        plan
    }

    /// Writes the file anew, with the steps as they are now.
    pub(super) fn save(&self) {
        let steps: String = self.steps.iter().map(Step::text).collect();
        std::fs::write(&self.file, format!("{}{steps}", self.text)).unwrap();
    }

    fn add(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Without a gap a day's mails leave at one moment, as many as a lane holds at most.
    fn account(&mut self, seed: u64, n: u64) {
        let zone = self.chance.of(&ZONES);
        let gap = self.chance.of(&[0, 20, 45, 90]);
        let most = if gap == 0 { 40 + self.chance.below(60) } else { 150 + self.chance.below(250) };
        self.add(&format!(
            "[[email_account]]\nemail = \"a{n}.{seed}@acme.test\"\nsmtp = \"smtp://mail.acme.test\"\n\
             timezone = \"{zone}\"\ndaily_limit = {most}\nmin_gap_seconds = {gap}"
        ));
        if self.chance.below(3) == 0 {
            self.add("warmup_started_at = 2026-03-10T00:00:00Z");
        }
    }

    fn campaign(&mut self, seed: u64) {
        let zone = self.chance.of(&ZONES);
        self.add(&format!("[campaign]\nname = \"C{seed}\"\nleads = \"leads{seed}.csv\"\ntimezone = \"{zone}\""));
        let lines: [&[&str]; 4] = [
            &["timezone_strategy = \"single\"", "timezone_strategy = \"recipient_local\""],
            &[
                "send_days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]",
                "send_days = [\"sat\", \"sun\", \"mon\"]",
                "",
            ],
            &[
                "send_time_start = \"09:00\"\nsend_time_end = \"17:30\"",
                "send_time_start = \"22:00\"\nsend_time_end = \"02:30\"",
                "",
            ],
            &["holidays = [\"2026-03-24\", \"2026-04-06\"]", "daily_limit = 600", "max_lateness = 2"],
        ];
        for choices in lines {
            let line = self.chance.of(choices);
            self.add(line);
        }
    }

    fn add_steps(&mut self) {
        let waits = [self.chance.of(&[24.0, 48.0, 49.5]), self.chance.of(&[0.0, 72.0, 30.25])];
        let other = |what, wait_hours| Some(Step { what: Err(what), wait_hours, is_active: true });
        let between = match self.chance.below(3) {
            0 => other("type = \"condition\"\ncondition = \"not_opened\"", 5.0),
            1 => other("type = \"wait\"", 26.5),
            _ => None,
        };
        self.steps = vec![Step::mail("One", 0.0), Step::mail("Two", waits[0])];
        self.steps.extend(between);
        self.steps.push(Step::mail("Three", waits[1]));
    }
}
