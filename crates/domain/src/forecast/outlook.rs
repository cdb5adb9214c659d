//! A forecast added up: how many mails on which day, when the last one leaves, and what keeps it from being earlier.
//!
//! Not responsible for foreseeing (`forecast`). To add a figure: a field, and its part of `World::outlook`.

use std::collections::BTreeMap;

use super::{Event, Sent, World};
use crate::reason::Reason;
use crate::time::{Timestamp, Zone};

/// What a campaign will do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Every mail that leaves, in order.
    pub slots: Vec<Sent>,
    /// When the last mail leaves; none where not all of them do before the end of the forecast or without a person.
    pub finish: Option<Timestamp>,
    /// Mails by local date of the zone that was given.
    pub days: BTreeMap<String, u64>,
    /// For what leads that are due wait, as parts of 1 of all their waiting, the greatest first.
    pub limits: Vec<(Reason, f64)>,
    /// Mails that are left out.
    pub skipped: u64,
    /// Whether nobody waits for anything in the end.
    pub is_done: bool,
    /// Whether something more is to come behind the end of the forecast, without a person.
    pub goes_on: bool,
    /// When the first round begins that is not foreseen any more; none = there is none.
    pub next_round: Option<Timestamp>,
}

impl World {
    /// What `campaign` does before `until`, with its days in `zone`.
    pub fn outlook(self, campaign: usize, zone: &Zone, until: Timestamp) -> Outlook {
        self.outlook_of(campaign, zone, until, usize::MAX)
    }

    /// The same of its next `most` mails: what comes behind them is not looked at.
    pub fn outlook_of(mut self, campaign: usize, zone: &Zone, until: Timestamp, most: usize) -> Outlook {
        self.look_out(campaign, zone, until, most)
    }

    pub(super) fn look_out(&mut self, campaign: usize, zone: &Zone, until: Timestamp, most: usize) -> Outlook {
        let mut outlook = Outlook::default();
        let mut waits: BTreeMap<Reason, u128> = BTreeMap::new();
        let mut seen = 0;
        while seen < most && !self.is_done(campaign) {
            let mut tell = |event| match event {
                Event::Sent(sent) if sent.campaign == campaign => {
                    seen += 1;
                    *outlook.days.entry(zone.day(sent.at)).or_default() += 1;
                    outlook.slots.push(sent);
                }
                Event::Skipped { campaign: of, .. } if of == campaign => outlook.skipped += 1,
                Event::Waited { campaign: of, reason, lead_seconds } if of == campaign => {
                    *waits.entry(reason).or_default() += lead_seconds;
                }
                Event::Sent(_) | Event::Skipped { .. } | Event::Ended { .. } | Event::Waited { .. } => {}
            };
            if !self.step(until, &mut tell) {
                break;
            }
        }
        outlook.is_done = self.is_done(campaign);
        outlook.goes_on = self.goes_on_behind(campaign, until);
        outlook.next_round = self.next_round_of(campaign);
        outlook.finish = outlook.slots.last().map(|sent| sent.at).filter(|_| outlook.is_done);
        outlook.limits = shares(waits);
        outlook
    }
}

impl World {
    /// Whether planning, a slot or a round of this campaign lies behind `until`.
    fn goes_on_behind(&self, campaign: usize, until: Timestamp) -> bool {
        let Some(running) = self.campaigns.get(campaign) else { return false };
        let of_it = self.open.values().filter(|(of, _)| *of == campaign).map(|(_, send)| send.at);
        let next = of_it.chain([running.plan_at]).chain(running.coming.next());
        next.min().is_some_and(|at| at >= until && at != Timestamp::MAX)
    }
}

fn shares(waits: BTreeMap<Reason, u128>) -> Vec<(Reason, f64)> {
    let all: u128 = waits.values().sum();
    let mut shares: Vec<(Reason, f64)> = waits
        .into_iter()
        .filter(|(_, part)| *part > 0)
        .map(|(reason, part)| (reason, part as f64 / all as f64))
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}
