//! Pace: which slots an email account, a campaign and a tenant still have to give.
//!
//! Not responsible for windows (`schedule`) or for who is due (`plan`). Books are read and written back by the store
//! inside one transaction, so that limits hold across any number of schedulers and workers.
//! To add a limit: a field in a book, a rule in `grant` (when planning) and in `admit` (right before the dot).

mod provider;
mod tenant;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::email_account::{AccountPace, AccountStatus};
use crate::ids::EmailAccountId;
use crate::reason::Reason;
use crate::schedule::{WarmupTable, Window, effective_cap, next_day_start};
use crate::time::{Timestamp, Zone};
pub use provider::{ProviderBook, ProviderLimit, Recipient};
pub use tenant::{Rate, TenantBook};

/// How far ahead a reservation may be moved.
const FARTHEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// Slots of one local day: what is reserved for planned sends and what was used by dots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayUse {
    /// Reserved by plans whose dot is still to come.
    pub reserved: u32,
    /// Used by dots.
    pub used: u32,
}

impl DayUse {
    /// Slots that nobody else can have.
    pub fn taken(self) -> u32 {
        self.reserved.saturating_add(self.used)
    }
}

/// Days by local date (`YYYY-MM-DD`) of their owner's zone.
pub type Days = BTreeMap<String, DayUse>;

/// An account's page of the ledger, as planning and the dot gate change it.
#[derive(Clone, Debug)]
pub struct AccountBook {
    /// Whose book it is.
    pub id: EmailAccountId,
    /// Whether the account may send.
    pub status: AccountStatus,
    /// Its limits.
    pub pace: AccountPace,
    /// Its days around now.
    pub days: Days,
    /// When its last dot was granted.
    pub last_dot_at: Option<Timestamp>,
}

/// A campaign's daily limit and its days.
#[derive(Clone, Debug)]
pub struct CampaignBook {
    /// Most messages a day; none = no limit.
    pub daily_limit: Option<u32>,
    /// The zone whose midnight starts the campaign's day.
    pub zone: Zone,
    /// Its days around now.
    pub days: Days,
}

/// The moment that pacing grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Not before this time.
    pub at: Timestamp,
    /// The account's local day on which it is reserved.
    pub account_day: String,
    /// The campaign's local day on which it is reserved.
    pub campaign_day: String,
}

/// Whom a deferral concerns: a caller need not ask again for anybody else of the same scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This lead alone.
    Lead,
    /// Everybody who sends from this account.
    Account(EmailAccountId),
    /// The whole campaign.
    Campaign,
}

/// Not now: until when, why, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// The next moment worth asking; `Timestamp::MAX` = when a person changes something.
    pub until: Timestamp,
    /// Why.
    pub reason: Reason,
    /// For whom.
    pub scope: Scope,
}

impl Deferral {
    /// Whether its lead waits until a person changes something of its campaign.
    pub fn strands(&self) -> bool {
        self.until == Timestamp::MAX && self.scope == Scope::Lead && self.reason != Reason::AbWinner
    }
}

impl AccountBook {
    /// Most messages on the local day of `at`: the least of daily limit and warm-up ramp.
    pub fn cap(&self, at: Timestamp, warmup: &WarmupTable) -> Option<u32> {
        let ramp = self.pace.warmup_started_at.and_then(|started| warmup.cap(started, at, &self.pace.zone));
        effective_cap(self.pace.daily_limit, ramp)
    }

    /// Whether a day of it can be full.
    pub fn has_cap(&self) -> bool {
        self.pace.daily_limit.is_some() || self.pace.warmup_started_at.is_some()
    }

    /// Slots that are taken of the local day of `at`: more than the cap where that was lowered meanwhile.
    pub fn taken(&self, at: Timestamp) -> u32 {
        self.days.get(&self.pace.zone.day(at)).copied().unwrap_or_default().taken()
    }

    /// Slots left on the local day of `at`; `u32::MAX` without a cap.
    pub fn remaining(&self, at: Timestamp, warmup: &WarmupTable) -> u32 {
        self.cap(at, warmup).map_or(u32::MAX, |cap| cap.saturating_sub(self.taken(at)))
    }
}

/// The books that one slot is booked in.
#[derive(Debug)]
pub struct Pages<'a> {
    /// Of the account that sends.
    pub account: &'a mut AccountBook,
    /// Of the campaign.
    pub campaign: &'a mut CampaignBook,
    /// Of the tenant; none = it has no rate.
    pub tenant: Option<&'a mut TenantBook>,
    /// Of the providers that the tenant limits, and the recipient's; none = it has no limit.
    pub provider: Option<(&'a mut ProviderBook, &'a str)>,
}

/// How far ahead slots are granted.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// The horizon's end.
    pub horizon_end: Timestamp,
    /// The same for a mail that waits for its account or its tenant's rate alone: all their other mail waits behind it anyway.
    pub line_end: Timestamp,
}

impl Reach {
    /// How far a slot may be that is where it is for this reason. One that a window or a limit of some of the account's mail has put
    /// off would put off the others behind it as well.
    fn end(&self, reason: Reason) -> Timestamp {
        match reason {
            Reason::AccountBackoff | Reason::AccountGap | Reason::AccountCap | Reason::TenantRate => self.line_end,
            _ => self.horizon_end,
        }
    }
}

/// Grants the next slot at or after `earliest` and books it, or says until when there is none.
///
/// `jitter` is added to the account's gap. Nothing is booked beyond `reach`: pauses and edits must act at once. The walk over days
/// ends after 400 of them.
///
/// # Errors
/// A `Deferral` whose `until` is the slot found beyond the horizon.
pub fn grant(
    pages: Pages<'_>,
    window: &Window,
    warmup: &WarmupTable,
    earliest: Timestamp,
    jitter: Duration,
    reach: Reach,
) -> Result<Slot, Deferral> {
    let Pages { account, campaign, tenant, mut provider } = pages;
    let scope = Scope::Account(account.id);
    if let Some(reason) = account.status.why_not() {
        return Err(Deferral { until: Timestamp::MAX, reason, scope });
    }
    let mut limit = Deferral { until: earliest, reason: Reason::NotDue, scope: Scope::Lead };
    let later = |limit: &mut Deferral, at: Timestamp, reason, scope| {
        if at > limit.until {
            *limit = Deferral { until: at, reason, scope };
        }
    };
    if let Some(backoff) = account.pace.backoff_until {
        later(&mut limit, backoff, Reason::AccountBackoff, scope);
    }
    if let (Some(last), false) = (account.pace.last_slot_at, account.pace.min_gap.is_zero()) {
        later(&mut limit, last + account.pace.min_gap + jitter, Reason::AccountGap, scope);
    }
    for _ in 0..400 {
        let is_full = account.remaining(limit.until, warmup) == 0;
        // Where the account's day is full behind its gap or its wait, that is what holds the mail up.
        let gives_way = is_full && matches!(limit.reason, Reason::AccountGap | Reason::AccountBackoff);
        if limit.until > reach.end(limit.reason) && !gives_way {
            return Err(limit);
        }
        // Before the window: what has nothing left within the horizon holds everybody of its scope, whatever their windows. So who
        // stands first in its line stays there until it has.
        let account_day = account.pace.zone.day(limit.until);
        if is_full {
            let next = next_day_start(&account.pace.zone, limit.until);
            later(&mut limit, next, Reason::AccountCap, scope);
            continue;
        }
        let Some(open) = window.next_open(limit.until) else {
            return Err(Deferral { until: Timestamp::MAX, reason: Reason::WindowNeverOpens, scope: Scope::Lead });
        };
        if open > limit.until {
            later(&mut limit, open, Reason::WindowClosed, Scope::Lead);
            continue;
        }
        let campaign_day = campaign.zone.day(limit.until);
        if campaign.is_full(&campaign_day) {
            let next = next_day_start(&campaign.zone, limit.until);
            later(&mut limit, next, Reason::CampaignCap, Scope::Campaign);
            continue;
        }
        if let Some((book, name)) = &provider {
            let next = book.next_room(name, limit.until);
            if next > limit.until {
                later(&mut limit, next, Reason::ProviderCap, Scope::Lead);
                continue;
            }
        }
        if let Some(next) = tenant.as_ref().map(|book| book.next_slot(limit.until)).filter(|at| *at > limit.until) {
            later(&mut limit, next, Reason::TenantRate, Scope::Campaign);
            continue;
        }
        if let Some(book) = tenant.filter(|book| limit.reason == Reason::TenantRate || limit.until <= book.spaced_until)
        {
            book.take(limit.until);
        }
        account.days.entry(account_day.clone()).or_default().reserved += 1;
        campaign.days.entry(campaign_day.clone()).or_default().reserved += 1;
        account.pace.last_slot_at = Some(limit.until);
        if let Some((book, name)) = &mut provider {
            book.take(name, limit.until);
        }
        return Ok(Slot { at: limit.until, account_day, campaign_day });
    }
    Err(limit)
}

/// The days on which a send holds a reservation, if it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved<'a> {
    /// Of its account.
    pub account_day: Option<&'a str>,
    /// Of its campaign.
    pub campaign_day: Option<&'a str>,
}

/// Whether a dot may be written now: the last word of the limits, with reservations turned into use.
///
/// Who has no limits has no book. A dot on the day that is reserved needs no new room, unless its limit was lowered; on another day
/// it needs some, since the day of the dot is charged. A dot closer than the account's gap to its last one is refused with the moment
/// at which it may come, and so is one beyond the tenant's rate, which takes the tenant's next slot. Where the day of the account or the
/// campaign is full, its reservations move to the next days on which both have room, those of the deferral's `until`; so whoever is carried
/// over, or tried again, is not overtaken by those who are planned later.
///
/// # Errors
/// A `Deferral`; but for that slot and that reservation the books are unchanged then.
pub fn admit(
    mut account: Option<&mut AccountBook>,
    mut campaign: Option<&mut CampaignBook>,
    mut tenant: Option<&mut TenantBook>,
    reserved: Reserved<'_>,
    warmup: &WarmupTable,
    now: Timestamp,
) -> Result<(), Deferral> {
    if let Some(book) = &mut account {
        book.check(now)?;
        let taken = taken_for(&book.days, &book.pace.zone.day(now), reserved.account_day);
        if book.cap(now, warmup).is_some_and(|cap| taken >= cap) {
            let (reason, scope) = (Reason::AccountCap, Scope::Account(book.id));
            return Err(Deferral { until: carry_over(account, campaign, reserved, warmup, now), reason, scope });
        }
    }
    if let Some(book) = &mut tenant {
        book.check(now)?;
    }
    if let Some(book) = &mut campaign {
        let today = book.zone.day(now);
        let taken = taken_for(&book.days, &today, reserved.campaign_day);
        if book.daily_limit.is_some_and(|most| taken >= most) {
            let (reason, scope) = (Reason::CampaignCap, Scope::Campaign);
            return Err(Deferral { until: carry_over(account, campaign, reserved, warmup, now), reason, scope });
        }
        charge(&mut book.days, reserved.campaign_day, today);
    }
    if let Some(book) = account {
        charge(&mut book.days, reserved.account_day, book.pace.zone.day(now));
        book.last_dot_at = Some(now);
    }
    if let Some(book) = tenant {
        book.count(now);
    }
    Ok(())
}

/// What counts against the limit of a day for a dot that holds a reservation, or none: on its own day those that have left, since all
/// others there have room like it, unless the limit was lowered.
fn taken_for(days: &Days, day: &str, reserved_day: Option<&str>) -> u32 {
    let of_day = days.get(day).copied().unwrap_or_default();
    if reserved_day == Some(day) { of_day.used } else { of_day.taken() }
}

/// Moves the reservations of a dot that finds a day full to the first moment at which its account's day and its campaign's have room
/// both: with one of them alone it might find the other one full each day. `MAX` where there is none within 400 days.
fn carry_over(
    mut account: Option<&mut AccountBook>,
    mut campaign: Option<&mut CampaignBook>,
    reserved: Reserved<'_>,
    warmup: &WarmupTable,
    now: Timestamp,
) -> Timestamp {
    if let Some(book) = &mut account {
        release(&mut book.days, reserved.account_day);
    }
    if let Some(book) = &mut campaign {
        release(&mut book.days, reserved.campaign_day);
    }
    let mut at = now;
    while at < now + FARTHEST {
        let of_account = account.as_ref().filter(|book| book.remaining(at, warmup) == 0).map(|book| &book.pace.zone);
        let of_campaign = campaign.as_ref().filter(|book| book.is_full(&book.zone.day(at))).map(|book| &book.zone);
        if let Some(zone) = of_account.or(of_campaign) {
            at = next_day_start(zone, at);
            continue;
        }
        if let Some(book) = account {
            book.days.entry(book.pace.zone.day(at)).or_default().reserved += 1;
        }
        if let Some(book) = campaign {
            book.days.entry(book.zone.day(at)).or_default().reserved += 1;
        }
        return at;
    }
    Timestamp::MAX
}

fn charge(days: &mut Days, reserved_day: Option<&str>, today: String) {
    release(days, reserved_day);
    days.entry(today).or_default().used += 1;
}

fn release(days: &mut Days, reserved_day: Option<&str>) {
    if let Some(day) = reserved_day.and_then(|day| days.get_mut(day)) {
        day.reserved = day.reserved.saturating_sub(1);
    }
}

impl AccountBook {
    /// Whether it may send now at all, whatever its day has left.
    fn check(&self, now: Timestamp) -> Result<(), Deferral> {
        let scope = Scope::Account(self.id);
        if let Some(reason) = self.status.why_not() {
            return Err(Deferral { until: Timestamp::MAX, reason, scope });
        }
        if let Some(last) = self.last_dot_at.filter(|last| now < *last + self.pace.min_gap) {
            return Err(Deferral { until: last + self.pace.min_gap, reason: Reason::AccountGap, scope });
        }
        Ok(())
    }
}

impl CampaignBook {
    fn is_full(&self, day: &str) -> bool {
        let taken = self.days.get(day).copied().unwrap_or_default().taken();
        self.daily_limit.is_some_and(|most| taken >= most)
    }
}

#[cfg(test)]
mod tests;
