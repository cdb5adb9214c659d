//! Why a lead's next mail has not left: what holds it now, and when and from where it will leave.
//!
//! Not responsible for leads whose sequence is over, or whose send a person decides about: the ledger says that by itself.
//! To add something that can hold a send that has its slot: `World::hold`.

use super::{Answer, Event, OpenSend, Running, Sent, World};
use crate::campaign::CampaignStatus;
use crate::ids::EnrollmentId;
use crate::pace::{AccountBook, Scope};
use crate::plan::{Candidate, exclusion, last_look};
use crate::reason::Reason;
use crate::settle::Outcome;
use crate::step::{Due, Step, StepType};
use crate::time::Timestamp;

/// Why a mail has not left yet.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// What holds it now; none = nothing, it leaves at its slot.
    pub reason: Option<Reason>,
    /// The account whose limit or state that is, as it stands when those who come before have been served.
    pub account: Option<AccountBook>,
    /// Why its next mail is left out, where it is: the slot is a later mail's then.
    pub left_out: Option<Reason>,
    /// When it leaves, as long as nothing changes; none = not before a person acts, or not within the forecast.
    pub slot: Option<Sent>,
    /// When the next round begins of a lead who has finished this one; none = it has not, or there is none.
    pub next_round: Option<Timestamp>,
}

impl World {
    /// Explains the next mail of an enrollment; slots are looked for before `until`.
    pub fn explain(mut self, campaign: usize, enrollment: EnrollmentId, until: Timestamp) -> Explanation {
        let (reason, account) = self.why_not(campaign, enrollment);
        let excluded = self.excluded(campaign, enrollment);
        let next_round = self.next_round_of(campaign).filter(|_| self.comes_back(campaign, enrollment));
        let (slot, left_out) = self.follow(campaign, enrollment, until);
        // It ends in silence where no mail of its is left out: on a wait, or with one that is planned.
        let reason = excluded.filter(|_| slot.is_none() && left_out.is_none()).or(reason);
        Explanation { reason, account, left_out, slot, next_round }
    }

    /// Goes on until the next mail of an enrollment leaves, or none will any more; that mail, and why one was left out.
    pub(super) fn follow(
        &mut self,
        campaign: usize,
        enrollment: EnrollmentId,
        until: Timestamp,
    ) -> (Option<Sent>, Option<Reason>) {
        let (mut slot, mut left_out, mut is_over) = (None, None, !self.is_there(campaign, enrollment));
        let asked = (campaign, enrollment);
        while slot.is_none()
            && !is_over
            && self.step(until, &mut |event| match event {
                Event::Sent(sent) if (sent.campaign, sent.enrollment_id) == asked => slot = Some(sent),
                Event::Skipped { campaign, enrollment_id, reason } if (campaign, enrollment_id) == asked => {
                    left_out.get_or_insert(reason);
                }
                Event::Ended { campaign, enrollment_id } if (campaign, enrollment_id) == asked => is_over = true,
                Event::Sent(_) | Event::Skipped { .. } | Event::Ended { .. } | Event::Waited { .. } => {}
            })
        {
            is_over = is_over && !self.comes_back(campaign, enrollment);
        }
        (slot, left_out)
    }

    /// Whether something is to come for an enrollment.
    fn is_there(&self, campaign: usize, enrollment: EnrollmentId) -> bool {
        let is_open =
            self.open.values().any(|(of, send)| *of == campaign && send.candidate.enrollment_id == enrollment);
        is_open
            || self.comes_back(campaign, enrollment)
            || self.campaigns.get(campaign).is_some_and(|of| of.waits(enrollment))
    }

    /// Whether it has finished its round and begins another one.
    fn comes_back(&self, campaign: usize, enrollment: EnrollmentId) -> bool {
        self.campaigns.get(campaign).is_some_and(|of| of.coming.has(enrollment))
    }

    /// Why the lead may get no mail, if so.
    fn excluded(&self, campaign: usize, enrollment: EnrollmentId) -> Option<Reason> {
        let running = self.campaigns.get(campaign)?;
        let mut open = self.open.values().map(|(_, send)| &send.candidate);
        let open = open.find(|candidate| candidate.enrollment_id == enrollment);
        let parked = running.parked.get(&enrollment).map(|(_, candidate)| candidate);
        let lead = open.or(parked).or_else(|| running.waiting.of(enrollment))?;
        exclusion(lead.lead_status, lead.suppressed, running.plan.settings.stop_on_reply)
    }

    fn why_not(&self, campaign: usize, enrollment: EnrollmentId) -> (Option<Reason>, Option<AccountBook>) {
        let Some(running) = self.campaigns.get(campaign) else { return (None, None) };
        if let Some(reason) = running.plan.status.why_not() {
            return (Some(reason), None);
        }
        // An edit may have given a start to come to a campaign that has begun: what is planned leaves.
        let is_to_start = running.starts_at.is_some_and(|starts| starts > self.now);
        let mut open = self.open.values().filter(|_| !is_to_start || running.plan.status == CampaignStatus::Sending);
        if let Some((_, send)) = open.find(|(of, send)| *of == campaign && send.candidate.enrollment_id == enrollment) {
            return self.hold(campaign, send);
        }
        if is_to_start {
            return (Some(Reason::CampaignNotStarted), None);
        }
        if running.parked.contains_key(&enrollment) {
            return (Some(Reason::AbWinner), None);
        }
        let mut copy = self.clone();
        match copy.ask(campaign, enrollment) {
            Answer::Waits(deferral) => {
                let account = match deferral.scope {
                    Scope::Account(id) => copy.shared.accounts.remove(&id),
                    Scope::Lead | Scope::Campaign => None,
                };
                (Some(deferral.reason), account)
            }
            Answer::Served => (self.unknown.contains(&enrollment).then_some(Reason::ProviderCap), None),
            Answer::NotAsked => (running.waiting.of(enrollment).map(|lead| self.why_later(running, lead)), None),
        }
    }

    /// Why a lead is not due yet: its wait is not over, or something lasts longer that holds it alone, for which planning may have
    /// put it off.
    fn why_later(&self, running: &Running, lead: &Candidate) -> Reason {
        let Due { step_order, at: due } = lead.due;
        let is_next = |step: &&Step| step.step_order == step_order && !lead.past.ended.contains_key(&step_order);
        let step = running.plan.steps.iter().find(is_next);
        let Some(step) = step.filter(|step| step.step_type == StepType::Email && step.is_active) else {
            return Reason::NotDue;
        };
        if step.template_id.is_none() {
            return Reason::StepWithoutTemplate;
        }
        let account = step.email_account_id.or(lead.email_account_id);
        if account.is_some_and(|id| !self.shared.accounts.contains_key(&id)) {
            return Reason::AccountInactive;
        }
        let window = running.plan.settings.window(lead.lead_zone.as_ref()).ok();
        match window.and_then(|window| window.next_open(self.now + self.rhythm.horizon)) {
            None => return Reason::WindowNeverOpens,
            Some(opens) if opens >= due => return Reason::WindowClosed,
            Some(_) => {}
        }
        let room = self.shared.providers.as_ref().zip(lead.recipient.provider());
        match room.map(|(book, name)| book.next_room(name, self.now)) {
            Some(at) if at > self.now && at == due => Reason::ProviderCap,
            _ => Reason::NotDue,
        }
    }

    /// What holds a send that has its slot.
    fn hold(&self, campaign: usize, send: &OpenSend) -> (Option<Reason>, Option<AccountBook>) {
        let account = self.shared.accounts.get(&send.account).cloned();
        if let Some(book) = &account {
            if let Some(reason) = book.status.why_not() {
                return (Some(reason), account);
            }
            if book.pace.backoff_until.is_some_and(|until| until > self.now) {
                return (Some(Reason::AccountBackoff), account);
            }
        }
        if send.at > self.now {
            let is_its = matches!(
                send.reason,
                Some(
                    Reason::AccountCap
                        | Reason::AccountGap
                        | Reason::AccountBackoff
                        | Reason::AccountInactive
                        | Reason::AuthenticationFailed
                )
            );
            return (send.reason, account.filter(|_| is_its));
        }
        let (settings, candidate) = (&self.campaigns[campaign].plan.settings, &send.candidate);
        match last_look(settings, candidate.lead_status, candidate.lead_zone.as_ref(), send.at, self.now) {
            Some(Outcome::WindowClosed(_)) => (Some(Reason::WindowClosed), None),
            Some(Outcome::TooLate) => (Some(Reason::TooLate), None),
            Some(Outcome::Excluded(reason)) => (Some(reason), None),
            _ if self.unknown.contains(&candidate.enrollment_id) => (Some(Reason::ProviderCap), None),
            _ => (None, account),
        }
    }
}
