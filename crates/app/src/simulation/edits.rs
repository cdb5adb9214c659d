//! What an author does to the file of a campaign under way, and which mails may and must leave then.
//!
//! Not responsible for when anybody acts, or for what is foreseen (`steering`). To add an edit: a variant of `Edit`, its arm
//! in `choose` and in `edit`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use domain::time::Timestamp;
use engines::dialect::Statement;
use engines::values;

use super::Simulation;
use super::plans::{Plan, Step};

static FINISHED: Statement = Statement::new(
    "FINISHED",
    "SELECT l.email FROM campaign_leads e JOIN leads l ON l.id = e.lead_id WHERE e.status = 'completed'",
);

/// What is changed in the file; steps by their place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Text(usize),
    Wait(usize, u32),
    SwitchOff(usize),
    /// Whether who had finished gets the new last mail too.
    Add(bool),
}

/// A mail that was accepted: when, for whom, about what.
pub(super) type Letter = (Timestamp, String, String);

/// The file, and who had gone through it when its last mails were added.
pub(super) struct Author {
    plan: Plan,
    _folder: tempfile::TempDir,
    edits: usize,
    too_late_for: BTreeMap<String, BTreeSet<String>>,
}

/// A mail's first word stays whatever becomes of its text.
pub(super) fn name(subject: &str) -> &str {
    subject.split(' ').next().unwrap()
}

impl Author {
    pub(super) fn new(seed: u64, leads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::write(seed, leads, folder.path());
        Self { plan, _folder: folder, edits: 0, too_late_for: BTreeMap::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.plan.file
    }

    fn mails(&self) -> impl Iterator<Item = (usize, &Step, &str)> {
        let mail = |(place, step)| {
            let step: &Step = step;
            step.what.as_ref().ok().map(|subject| (place, step, subject.as_str()))
        };
        self.plan.steps.iter().enumerate().filter_map(mail)
    }

    /// At least one mail stays in use.
    pub(super) fn choose(&self, pick: &mut impl FnMut(usize) -> usize) -> Edit {
        let used: Vec<usize> = self.mails().filter(|(_, step, _)| step.is_active).map(|(place, ..)| place).collect();
        let place = used[pick(used.len())];
        match pick(8) {
            0..=1 => Edit::Text(place),
            2..=4 => Edit::Wait(place, [0, 6, 24, 60, 100][pick(5)]),
            5 if used.len() > 1 => Edit::SwitchOff(place),
            5..=6 => Edit::Add(false),
            _ => Edit::Add(true),
        }
    }

    /// Changes the file and has it imported, as `campaign import --update` does.
    pub(super) async fn edit(&mut self, edit: Edit, simulation: &Simulation) {
        self.edits += 1;
        match edit {
            Edit::Text(place) => {
                let subject = self.plan.steps[place].what.as_mut().unwrap();
                *subject = format!("{} {}", name(subject), self.edits);
            }
            Edit::Wait(place, hours) => self.plan.steps[place].wait_hours = f64::from(hours),
            Edit::SwitchOff(place) => self.plan.steps[place].is_active = false,
            Edit::Add(reopens) => {
                let subject = format!("Added{}", self.edits);
                self.plan.steps.push(Step::mail(&subject, 20.0));
                if reopens {
                    self.too_late_for.clear();
                } else {
                    let finished = simulation.ctx.store.db().read(&FINISHED, values![]).await.unwrap();
                    let finished = finished.iter().map(|row| row.get("email").unwrap()).collect();
                    self.too_late_for.insert(subject, finished);
                }
            }
        }
        self.plan.save();
        simulation.import(self.file(), true, edit == Edit::Add(true)).await;
    }

    /// Whether the file says that the last of these letters leaves: its text, and its wait since the one before or `start`.
    pub(super) fn says(&self, letters: &[Letter], start: Timestamp) -> bool {
        let Some(((at, to, subject), before)) = letters.split_last() else { return false };
        let last = before.iter().rev().find(|(_, other, _)| other == to).map_or(start, |(at, ..)| *at);
        let is_due = |step: &Step| *at >= last + Duration::from_secs_f64(step.wait_hours * 3600.0);
        self.mails().any(|(_, step, known)| known == subject && step.is_active && is_due(step))
    }

    /// Whether a lead who stayed to the end has every mail once that it must have; what was switched off it may have.
    pub(super) fn is_complete(&self, lead: &str, letters: &[Letter]) -> bool {
        self.mails().all(|(_, step, subject)| {
            let copies = letters.iter().filter(|(_, to, about)| to == lead && name(about) == name(subject)).count();
            let is_late = self.too_late_for.get(name(subject)).is_some_and(|leads| leads.contains(lead));
            if step.is_active { copies == usize::from(!is_late) } else { copies <= 1 }
        })
    }
}
