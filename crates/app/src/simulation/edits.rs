//! What an author does to the file of a campaign under way, and which mails may leave then.
//!
//! Not responsible for who gets a mail in the end (`expected`), for when anybody acts or what is foreseen (`steering`). To add
//! an edit: a variant of `Edit`, its arm in `choose` and in `change`.

use std::path::Path;
use std::time::Duration;

use domain::time::Timestamp;
use engines::dialect::Statement;

use super::Simulation;
use super::expected::{Change, Expected};
use super::plans::{Hours, NOT_OPENED, OPENED, Plan, Step, Use, name};
use super::rules::{Letter, Rules};

static ON_THEIR_WAY: Statement =
    Statement::new("ON_THEIR_WAY", "SELECT COUNT(*) AS n FROM sends WHERE open AND email_account_id IS NOT NULL");

/// Two windows a day.
const MIDDAY: &[Hours] =
    &[Hours { days: &[], start: "12:00", end: "13:00" }, Hours { days: &[], start: "14:00", end: "15:30" }];

/// What is changed in the file; steps by their place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Text(usize),
    Wait(usize, u32),
    SwitchOff(usize),
    /// Whether who had finished gets the new last mail too.
    Add(bool),
    /// A mail before this step.
    Insert(usize),
    Remove(usize),
    /// The mail that was taken out last, where it stood.
    BringBack,
    /// Two mails change places.
    Swap(usize, usize),
    /// A condition asks for the contrary, or a first one is asked before this step.
    Ask(usize),
    Hours(usize),
    Limit(usize),
    Gap(usize),
    /// One more on the list.
    Lead,
}

impl Edit {
    /// Settings that move what has its slot already move several mails to one moment, and which of them is first then is the
    /// workers' choice: they are edited while nothing is on its way.
    pub(super) fn needs_quiet(self) -> bool {
        matches!(self, Self::Hours(_) | Self::Limit(_) | Self::Gap(_))
    }
}

/// A mail that was taken out, and where it stood.
struct Removed {
    step: Step,
    place: usize,
    /// Mails before it.
    before: Vec<String>,
    /// Whether the order was changed since.
    is_moved: bool,
}

/// The file, and what became of it.
pub(super) struct Author {
    plan: Plan,
    _folder: tempfile::TempDir,
    edits: usize,
    removed: Vec<Removed>,
    /// Daily limits of the campaign, and since when.
    limits: Vec<(Timestamp, Option<u64>)>,
    expected: Expected,
}

impl Author {
    pub(super) fn new(seed: u64, leads: usize, origin: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::write(seed, leads, Use::Steered, folder.path());
        let limits = vec![(origin, plan.settings.daily_limit)];
        Self { plan, _folder: folder, edits: 0, removed: Vec::new(), limits, expected: Expected::default() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.plan.file
    }

    fn mails(&self) -> Vec<usize> {
        (0..self.plan.steps.len()).filter(|place| self.plan.steps[*place].what.is_ok()).collect()
    }

    fn condition(&self) -> Option<usize> {
        self.plan.steps.iter().position(|step| matches!(step.what, Err(NOT_OPENED | OPENED)))
    }

    /// At least one mail stays in use, and the first one stays.
    pub(super) fn choose(&self, pick: &mut impl FnMut(usize) -> usize) -> Edit {
        let mails = self.mails();
        let used: Vec<usize> = mails.iter().copied().filter(|place| self.plan.steps[*place].is_active).collect();
        let place = used[pick(used.len())];
        match pick(22) {
            0..=1 => Edit::Text(place),
            2..=4 => Edit::Wait(place, [0, 6, 24, 60, 100][pick(5)]),
            5 if used.len() > 2 => Edit::SwitchOff(place),
            6..=7 => Edit::Add(pick(2) == 0),
            8..=9 => Edit::Insert(1 + pick(self.plan.steps.len())),
            10..=11 if used.len() > 2 && place > 0 => Edit::Remove(place),
            10..=12 if !self.removed.is_empty() => Edit::BringBack,
            13..=14 if mails.len() > 2 => {
                let one = 1 + pick(mails.len() - 2);
                Edit::Swap(mails[one], mails[one + 1])
            }
            15..=16 => Edit::Ask(1 + pick(self.plan.steps.len())),
            17 => Edit::Hours(pick(3)),
            18 => Edit::Limit(pick(3)),
            19 => Edit::Gap(pick(self.plan.accounts.len())),
            20..=21 => Edit::Lead,
            _ => Edit::Text(place),
        }
    }

    /// Whether no mail has its slot and has not left.
    pub(super) async fn is_quiet(simulation: &Simulation) -> bool {
        let rows = simulation.ctx.store.db().read(&ON_THEIR_WAY, vec![]).await.unwrap();
        rows[0].get::<u64>("n").unwrap() == 0
    }

    /// Changes the file and has it imported, as `campaign import --update` does.
    pub(super) async fn edit(&mut self, edit: Edit, simulation: &Simulation) {
        self.edits += 1;
        let before = Expected::stand(simulation).await;
        let change = self.change(edit);
        if let Edit::Limit(_) = edit {
            self.limits.push((simulation.clock.now(), self.plan.settings.daily_limit));
        }
        self.plan.save();
        let reopens = edit == Edit::Add(true);
        simulation.import(self.file(), true, reopens).await;
        let after = Expected::stand(simulation).await;
        self.expected.follow(&self.plan.steps, &change, (&before, &after), reopens);
    }

    /// A lead opens a mail, which its file may ask about.
    pub(super) async fn open(&mut self, lead: &str, simulation: &Simulation) {
        let stand = Expected::stand(simulation).await;
        self.expected.open(&self.plan.steps, lead, &stand[lead]);
    }

    fn change(&mut self, edit: Edit) -> Change {
        match edit {
            Edit::Text(place) => {
                let subject = self.plan.steps[place].what.as_mut().unwrap();
                *subject = format!("{} {}", name(subject), self.edits);
            }
            Edit::Wait(place, hours) => self.plan.steps[place].wait_hours = f64::from(hours),
            Edit::SwitchOff(place) => self.plan.steps[place].is_active = false,
            Edit::Add(_) => return self.insert(self.plan.steps.len(), 20.0),
            Edit::Insert(place) => return self.insert(place, [0.0, 6.0, 24.0][self.edits % 3]),
            Edit::Remove(place) => {
                let mails = self.mails().into_iter().filter(|mail| *mail < place);
                let known = |mail: usize| name(self.plan.steps[mail].what.as_ref().unwrap()).to_owned();
                let before = mails.map(known).collect();
                let step = self.plan.steps.remove(place);
                self.removed.push(Removed { step, place, before, is_moved: false });
            }
            Edit::BringBack => {
                let Removed { step, place, before, is_moved } = self.removed.pop().unwrap();
                let back = name(step.what.as_ref().unwrap()).to_owned();
                self.plan.steps.insert(place.min(self.plan.steps.len()), step);
                return Change::Back(back, if is_moved { Vec::new() } else { before });
            }
            Edit::Swap(one, other) => {
                self.plan.steps.swap(one, other);
                self.removed.iter_mut().for_each(|removed| removed.is_moved = true);
            }
            Edit::Ask(place) => match self.condition() {
                Some(known) => {
                    let asks = &mut self.plan.steps[known].what;
                    *asks = Err(if *asks == Err(NOT_OPENED) { OPENED } else { NOT_OPENED });
                }
                None => {
                    self.plan.steps.insert(place, Step::other(OPENED, 3.0));
                }
            },
            Edit::Hours(n) => {
                let settings = &mut self.plan.settings;
                settings.hours = [Some(("07:00", "20:00")), None, None][n];
                settings.windows = if n == 1 { MIDDAY } else { &[] };
            }
            Edit::Limit(n) => self.plan.settings.daily_limit = [Some(9), Some(25), None][n],
            Edit::Gap(n) => {
                let account = &mut self.plan.accounts[n];
                account.gap = if account.gap == 80 { 110 } else { 80 };
            }
            Edit::Lead => self.plan.add_lead(),
        }
        Change::Known
    }

    fn insert(&mut self, place: usize, wait_hours: f64) -> Change {
        let subject = format!("Added{}", self.edits);
        self.plan.steps.insert(place, Step::mail(&subject, wait_hours));
        Change::New(subject)
    }

    /// Whether the file says that the last of these letters leaves: its text, and its wait since the one before or `start`.
    pub(super) fn says(&self, letters: &[Letter], start: Timestamp) -> bool {
        let Some((letter, before)) = letters.split_last() else { return false };
        let last = before.iter().rev().find(|other| other.to == letter.to).map_or(start, |other| other.at);
        let is_due = |step: &Step| letter.at >= step.due(last);
        let is_it = |step: &Step| step.what.as_ref() == Ok(&letter.subject) && step.is_active && is_due(step);
        self.plan.steps.iter().any(is_it)
    }

    /// Judges the letters from `first` on by the file as it is.
    pub(super) fn judge(&self, letters: &[Letter], first: usize, now: Timestamp) {
        // A day may have had more before its limit was lowered.
        let lately = now - Duration::from_secs(48 * 3600);
        let before = self.limits.iter().rposition(|(since, _)| *since <= lately).unwrap_or(0);
        let limits: Option<Vec<u64>> = self.limits[before..].iter().map(|(_, limit)| *limit).collect();
        let widest = limits.and_then(|limits| limits.into_iter().max());
        Rules::of(letters).from(first).judge(&self.plan, widest);
    }

    /// Whether a lead who stayed to the end has every mail as often as it must.
    pub(super) fn is_complete(&self, lead: &str, letters: &[Letter]) -> bool {
        self.expected.is_met(&self.plan.steps, lead, letters)
    }
}

/// A file that names the start of its campaign is imported again long after it, with a lead more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leads_who_are_added_begin_when_they_are() {
    const HOUR: Duration = Duration::from_secs(3600);
    let origin: Timestamp = "2026-03-20T10:00:00Z".parse().unwrap();
    let simulation = Simulation::begin(origin).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.toml");
    let text = "[tenant]\nname = \"Acme\"\n[company]\nname = \"Acme Ltd\"\naddress = \"1 Main Street\"\n\
        [[email_account]]\nemail = \"ana@acme.test\"\nsmtp = \"smtp://mail.acme.test\"\n\
        [campaign]\nname = \"C\"\nleads = \"leads.csv\"\nscheduled_at = 2026-03-20T12:00:00Z\n\
        [[step]]\nwait_hours = 5\nsubject = \"One\"\nhtml = \"hello.html\"\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("hello.html"), "<p>Hello</p>").unwrap();
    let list = |leads: &str| std::fs::write(folder.path().join("leads.csv"), format!("email\n{leads}")).unwrap();
    list("first@example.test\n");
    simulation.start(&file).await;
    simulation.live_until(origin + HOUR * 30).await;
    list("first@example.test\nsecond@example.test\n");
    simulation.import(&file, false, false).await;
    simulation.live(origin + HOUR * 1_000).await;
    let happened: Vec<_> = simulation.accepted().into_iter().map(|(at, to, _)| (to, at.since(origin))).collect();
    let expected = [("first@example.test", HOUR * 7), ("second@example.test", HOUR * 35)];
    assert_eq!(happened, expected.map(|(to, after)| (to.to_owned(), after)));
    simulation.end().await;
}
