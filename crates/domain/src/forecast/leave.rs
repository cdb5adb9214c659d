//! A send's moment in a forecast: the last look, the gate's limits, then it leaves, is put off or ends.
//!
//! As the worker does it (`last_look`, `pace::admit`). Not responsible for planning (`forecast`). To foresee another outcome: an
//! arm in `leave`.

use super::{Event, OpenSend, Sent, Shared, World};
use crate::ids::EmailAccountId;
use crate::pace::{Reserved, admit};
use crate::page::ASK_AGAIN;
use crate::plan::last_look;
use crate::reason::Reason;
use crate::settle::Outcome;
use crate::time::Timestamp;

impl World {
    /// The moment of a send's dot: the last look, the limits' last word, and what follows for its lead.
    pub(super) fn leave(&mut self, campaign: usize, send: OpenSend, tell: &mut dyn FnMut(Event)) {
        let now = self.now;
        if send.is_dot {
            return self.sent(campaign, send, tell);
        }
        let was_full = self.is_of_a_full_day(&send);
        let running = &mut self.campaigns[campaign];
        let (candidate, plan) = (&send.candidate, &running.plan);
        let enrollment_id = candidate.enrollment_id;
        if candidate.suppressed {
            running.has_passed(enrollment_id, None);
            tell(Event::Ended { campaign, enrollment_id });
            return self.give_back(campaign, &send);
        }
        match last_look(&plan.settings, candidate.lead_status, candidate.lead_zone.as_ref(), send.at, now) {
            Some(Outcome::WindowClosed(opens)) => {
                return self.put_off(campaign, send, opens);
            }
            Some(Outcome::TooLate) => {
                tell(Event::Skipped { campaign, enrollment_id, reason: Reason::TooLate });
                self.give_back(campaign, &send);
                return self.go_on(campaign, send, now, tell);
            }
            Some(_) => {
                running.has_passed(enrollment_id, None);
                tell(Event::Ended { campaign, enrollment_id });
                return self.give_back(campaign, &send);
            }
            None => {}
        }
        let Shared { accounts, tenant, providers } = &mut self.shared;
        let Some(account) = accounts.get_mut(&send.account) else {
            return tell(Event::Ended { campaign, enrollment_id });
        };
        if let Some(until) = account.pace.backoff_until.filter(|until| *until > now) {
            return self.put_off(campaign, send, until);
        }
        let own = send.reserved_at();
        let provider = send.candidate.recipient.provider();
        if let Some((book, name)) = providers.as_ref().zip(provider)
            && let Err(deferral) = book.check(name, own, now)
        {
            return self.put_off(campaign, send, deferral.until);
        }
        let reserved = Reserved { account_day: send.days.0.as_deref(), campaign_day: send.days.1.as_deref() };
        if let Some(book) = tenant {
            book.spaced_until = Timestamp::MAX;
        }
        let campaign_book = Some(&mut running.book);
        if let Err(deferral) = admit(Some(account), campaign_book, tenant.as_mut(), reserved, &self.rhythm.warmup, now)
        {
            if deferral.until < Timestamp::MAX {
                let is_carried_over = matches!(deferral.reason, Reason::AccountCap | Reason::CampaignCap);
                let carried = || [&account.pace.zone, &running.book.zone].map(|zone| Some(zone.day(deferral.until)));
                let days = if is_carried_over { carried().into() } else { send.days.clone() };
                let is_moved = days != send.days;
                let account = send.account;
                self.put_off_to(campaign, send, deferral.until.min(now + ASK_AGAIN), days);
                if is_moved {
                    self.wake_who_rests(campaign, account, was_full);
                }
            } else {
                running.stranded += 1;
                tell(Event::Ended { campaign, enrollment_id });
            }
            return;
        }
        if let Some((book, name)) = providers.as_mut().zip(provider) {
            book.count(name, own, now);
        }
        self.sent(campaign, send, tell);
    }

    /// Gives a send another moment, and what its provider holds for it with it.
    fn put_off(&mut self, campaign: usize, send: OpenSend, at: Timestamp) {
        let days = send.days.clone();
        self.put_off_to(campaign, send, at, days);
    }

    /// The same where it is reserved on other days from now on.
    fn put_off_to(
        &mut self,
        campaign: usize,
        mut send: OpenSend,
        at: Timestamp,
        days: (Option<String>, Option<String>),
    ) {
        let before = send.reserved_at();
        (send.at, send.days) = (at, days);
        if let Some((book, name)) = self.shared.providers.as_mut().zip(send.candidate.recipient.provider()) {
            if let Some(before) = before {
                book.release(name, before);
            }
            if let Some(at) = send.reserved_at() {
                book.take(name, at);
            }
        }
        self.slot(campaign, send);
    }

    /// What ends without a dot holds no room of its days any more; whoever rests for it is asked again, as in the ledger.
    fn give_back(&mut self, campaign: usize, send: &OpenSend) {
        let (account_day, campaign_day) = &send.days;
        let was_full = self.is_of_a_full_day(send);
        if let Some((book, name)) = self.shared.providers.as_mut().zip(send.candidate.recipient.provider())
            && let Some(at) = send.reserved_at()
        {
            book.release(name, at);
        }
        let account = self.shared.accounts.get_mut(&send.account).map(|book| &mut book.days);
        let of_campaign = Some(&mut self.campaigns[campaign].book.days);
        for (days, day) in [(account, account_day), (of_campaign, campaign_day)] {
            if let Some(day) = days.zip(day.as_ref()).and_then(|(days, day)| days.get_mut(day)) {
                day.reserved = day.reserved.saturating_sub(1);
            }
        }
        self.wake_who_rests(campaign, send.account, was_full);
    }

    /// Whether the day that its account holds for it may be full.
    fn is_of_a_full_day(&self, send: &OpenSend) -> bool {
        let day = self.shared.accounts.get(&send.account).zip(send.days.0.as_ref());
        day.is_some_and(|(book, day)| {
            let taken = book.days.get(day).map_or(0, |day| day.taken());
            book.pace.warmup_started_at.is_some() || book.pace.daily_limit.is_some_and(|most| taken >= most)
        })
    }

    /// Ends the rest of those who may rest for a day of this campaign, or of its account that was full.
    fn wake_who_rests(&mut self, campaign: usize, account: EmailAccountId, was_full: bool) {
        for index in 0..self.campaigns.len() {
            let running = &self.campaigns[index];
            let is_its_own = index == campaign && running.book.daily_limit.is_some();
            if is_its_own || (was_full && running.senders.contains(&account)) {
                self.wake(index);
            }
        }
    }

    /// Has planning look at a campaign in its next turn, also where it rests.
    pub(super) fn wake(&mut self, campaign: usize) {
        let running = &mut self.campaigns[campaign];
        let from = running.starts_at.map_or(self.now, |starts| starts.max(self.now));
        if running.plan.status.why_not().is_none() {
            running.stopped_until = running.stopped_until.min(from);
            self.plan_by(campaign, from);
        }
    }

    /// A mail leaves, and its lead goes on.
    fn sent(&mut self, campaign: usize, mut send: OpenSend, tell: &mut dyn FnMut(Event)) {
        let now = self.now;
        let (step_order, enrollment_id) = (send.candidate.due.step_order, send.candidate.enrollment_id);
        self.campaigns[campaign].has_sent(enrollment_id, step_order, now);
        tell(Event::Sent(Sent {
            campaign,
            enrollment_id,
            lead_id: send.candidate.lead_id,
            step_order,
            account: send.account,
            at: now,
        }));
        send.candidate.email_account_id = Some(send.account);
        send.candidate.is_new = false;
        send.candidate.past.last_sent_at = Some(now);
        self.go_on(campaign, send, now, tell);
    }

    /// A lead whose step is behind it waits for the next one.
    fn go_on(&mut self, campaign: usize, send: OpenSend, at: Timestamp, tell: &mut dyn FnMut(Event)) {
        if !send.moves_on {
            return;
        }
        let mut candidate = send.candidate;
        let running = &mut self.campaigns[campaign];
        let next = candidate.past.next_due(&running.plan.steps, candidate.due.step_order, at);
        running.has_passed(candidate.enrollment_id, next.map(|due| due.step_order));
        let Some(due) = next else {
            let enrollment_id = candidate.enrollment_id;
            running.coming.finish(&running.plan.settings, candidate, at);
            return tell(Event::Ended { campaign, enrollment_id });
        };
        candidate.due = due;
        running.waiting.insert(candidate);
        self.plan_by(campaign, due.at - self.rhythm.horizon);
    }
}
