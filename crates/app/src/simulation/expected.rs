//! Which lead must get which mail of an edited campaign in the end, by the guide's words: each mail once, a new one where the
//! lead has not been yet, and nothing twice.
//!
//! Follows from where each lead stood when the file was changed. Where that turns on what was under way at that moment, a mail
//! may be got or not; twice it never is. Not responsible for when a mail leaves (`edits`). To add a case: `Expected::verdict`.

use std::collections::{BTreeMap, BTreeSet};

use engines::dialect::Statement;

use super::Simulation;
use super::plans::{NOT_OPENED, OPENED, Step, name};
use super::rules::Letter;

static STAND: Statement = Statement::new(
    "STAND",
    "SELECT l.email, e.status, t.subject, s.open, s.status AS send_status FROM campaign_leads e JOIN leads l ON l.id = e.lead_id
        LEFT JOIN sends s ON s.enrollment_id = e.id AND (NOT s.open OR s.email_account_id IS NOT NULL)
        LEFT JOIN campaign_sequence_steps st ON st.id = s.step_id LEFT JOIN templates t ON t.id = st.template_id",
);

/// What an edit did to the mails.
pub(super) enum Change {
    /// No mail came.
    Known,
    /// This one is new.
    New(String),
    /// This one came back; those stood before it when it was taken out, none where nobody can tell any more.
    Back(String, Vec<String>),
}

/// Where a lead stands.
#[derive(Default)]
pub(super) struct Stand {
    has_finished: bool,
    /// Mails that were sent or left out.
    passed: BTreeSet<String>,
    /// Those of them that were left out.
    left_out: BTreeSet<String>,
    /// The mail that has its slot.
    planned: Option<String>,
}

/// Anything but once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    None,
    AtMostOne,
}

/// What leads get in the end: each mail once, but for these.
#[derive(Default)]
pub(super) struct Expected {
    /// Who gets what otherwise than once: mail and lead.
    copies: BTreeMap<(String, String), Copies>,
    /// Who has opened a mail.
    opened: BTreeSet<String>,
}

impl Expected {
    /// Where each lead stands, as the ledger has it.
    pub(super) async fn stand(simulation: &Simulation) -> BTreeMap<String, Stand> {
        let mut all: BTreeMap<String, Stand> = BTreeMap::new();
        for row in simulation.ctx.store.db().read(&STAND, vec![]).await.unwrap() {
            let stand = all.entry(row.get("email").unwrap()).or_default();
            stand.has_finished = row.get::<String>("status").unwrap() == "completed";
            let Some(subject) = row.get::<Option<String>>("subject").unwrap() else { continue };
            let mail = name(&subject).to_owned();
            if row.get("open").unwrap() {
                stand.planned = Some(mail);
                continue;
            }
            if row.get::<String>("send_status").unwrap() != "sent" {
                stand.left_out.insert(mail.clone());
            }
            stand.passed.insert(mail);
        }
        all
    }

    /// Takes an edit of which these are the steps now.
    pub(super) fn follow(
        &mut self,
        steps: &[Step],
        change: &Change,
        (before, after): (&BTreeMap<String, Stand>, &BTreeMap<String, Stand>),
        reopens: bool,
    ) {
        let mails: Vec<&str> = steps.iter().filter_map(|step| step.what.as_ref().ok()).map(|what| name(what)).collect();
        let unknown = Stand::default();
        for (lead, is) in after {
            let was = before.get(lead).unwrap_or(&unknown);
            let left_out = self.left_out(steps, lead, is);
            for (place, mail) in mails.iter().enumerate() {
                let key = ((*mail).to_owned(), lead.clone());
                if is.left_out.contains(*mail) {
                    self.copies.insert(key, Copies::AtMostOne);
                    continue;
                }
                if is.passed.contains(*mail) || is.planned.as_deref() == Some(*mail) {
                    continue;
                }
                let is_left_out = left_out == Some(*mail);
                let known = self.copies.get(&key).copied();
                let new = match Self::verdict(&mails, place, change, (was, is), reopens) {
                    _ if is_left_out || known == Some(Copies::AtMostOne) => Some(Copies::AtMostOne),
                    Verdict::Unchanged => known,
                    Verdict::Once => None,
                    Verdict::But(copies) => Some(copies),
                };
                match new {
                    Some(copies) => drop(self.copies.insert(key, copies)),
                    None => drop(self.copies.remove(&key)),
                }
            }
        }
    }

    /// A lead that stands there opens a mail.
    pub(super) fn open(&mut self, steps: &[Step], lead: &str, is: &Stand) {
        self.opened.insert(lead.to_owned());
        if let Some(mail) = self.left_out(steps, lead, is) {
            self.copies.entry((mail.to_owned(), lead.to_owned())).or_insert(Copies::AtMostOne);
        }
    }

    /// Behind a condition that does not hold the next mail that a lead has not had is left out, if it comes there meanwhile. When it
    /// came there, before it opened a mail or behind it, nobody remembers here.
    fn left_out<'a>(&self, steps: &'a [Step], lead: &str, is: &Stand) -> Option<&'a str> {
        let may_fail = |step: &Step| match step.what {
            Err(OPENED) => true,
            Err(NOT_OPENED) => self.opened.contains(lead),
            Ok(_) | Err(_) => false,
        };
        let asks = steps.iter().position(may_fail)?;
        let mut mails = steps[asks..].iter().filter_map(|step| step.what.as_ref().ok()).map(|what| name(what));
        mails.find(|mail| !is.passed.contains(*mail) && is.planned.as_deref() != Some(*mail))
    }

    /// What an edit means for one lead and a mail that it has not had.
    fn verdict(mails: &[&str], place: usize, change: &Change, (was, is): (&Stand, &Stand), reopens: bool) -> Verdict {
        let place_of = |mail: &String| mails.iter().position(|known| *known == mail.as_str());
        let furthest = is.passed.iter().filter_map(place_of).max();
        let is_ahead = furthest.is_none_or(|furthest| place > furthest);
        let came = match change {
            Change::Known => None,
            Change::New(mail) => Some((mail, true)),
            Change::Back(mail, stood_before) => {
                Some((mail, is.passed.iter().all(|passed| stood_before.contains(passed))))
            }
        };
        let came = came.filter(|(mail, _)| mail.as_str() == mails[place]);
        if was.has_finished {
            return match came {
                _ if reopens && is_ahead => Verdict::Once,
                Some(_) => Verdict::But(Copies::None),
                None => Verdict::Unchanged,
            };
        }
        if let Some(planned) = is.planned.as_ref().and_then(place_of)
            && place < planned
        {
            return Verdict::But(Copies::AtMostOne);
        }
        match came {
            None => Verdict::Unchanged,
            Some((_, true)) if is_ahead => Verdict::Once,
            // Whoever an edit has put back before a mail comes by there, whatever else it has had of what is behind.
            Some(_)
                if matches!(change, Change::New(_)) && mails[..place].iter().all(|mail| is.passed.contains(*mail)) =>
            {
                Verdict::But(Copies::None)
            }
            Some(_) => Verdict::But(Copies::AtMostOne),
        }
    }

    /// Whether a lead has every mail as often as it must; what was switched off it may have.
    pub(super) fn is_met(&self, steps: &[Step], lead: &str, letters: &[Letter]) -> bool {
        let mut mails =
            steps.iter().filter_map(|step| step.what.as_ref().ok().map(|what| (name(what), step.is_active)));
        mails.all(|(mail, is_active)| {
            let copies = letters.iter().filter(|letter| letter.to == lead && name(&letter.subject) == mail).count();
            match self.copies.get(&(mail.to_owned(), lead.to_owned())) {
                Some(Copies::None) => copies == 0,
                Some(Copies::AtMostOne) => copies <= 1,
                None if is_active => copies == 1,
                None => copies <= 1,
            }
        })
    }
}

enum Verdict {
    Unchanged,
    Once,
    But(Copies),
}
