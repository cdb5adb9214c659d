//! Caps of recipients' providers: how many messages a UTC hour and a UTC day a tenant sends to one, over all its campaigns
//! and accounts.
//!
//! Not responsible for whose a recipient is (`crate::provider`) or for counting what was sent (the store). To add a stretch
//! of time that a cap holds for: a field of `ProviderLimit`, asked in `Room::is_full`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DayUse, Deferral, Scope};
use crate::reason::Reason;
use crate::time::Timestamp;

const HOUR: i64 = 3_600_000_000;
const HOURS_A_DAY: i64 = 24;
/// Hours and days that are looked through for room.
const FAR: usize = 10_000;
/// When a recipient is asked about again whose provider nobody knows yet.
const LOOK_UP: Duration = Duration::from_secs(5);

/// What a tenant sends to one provider at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderLimit {
    /// The provider, as `crate::provider` names it.
    pub provider: String,
    /// Most messages in an hour of the clock (UTC); none = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Most messages in a day (UTC); none = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
}

/// Whose a recipient is, as far as limits ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Recipient {
    /// Nobody's who has a limit.
    #[default]
    Unlimited,
    /// Its tenant has limits, and its provider was not looked up yet.
    NotKnown,
    /// A provider's that has a limit.
    Of(Arc<str>),
}

impl Recipient {
    /// The provider that has a limit.
    pub fn provider(&self) -> Option<&Arc<str>> {
        if let Self::Of(provider) = self { Some(provider) } else { None }
    }

    /// What a mail waits for whose provider is not known: never is one sent beyond a cap.
    pub fn not_known(&self, now: Timestamp) -> Option<Deferral> {
        let deferral = Deferral { until: now + LOOK_UP, reason: Reason::ProviderCap, scope: Scope::Lead };
        (*self == Self::NotKnown).then_some(deferral)
    }
}

/// A tenant's page of the ledger about providers that have a limit, as planning and the dot gate change it.
#[derive(Clone, Debug, Default)]
pub struct ProviderBook(BTreeMap<Arc<str>, Room>);

/// What one provider still takes.
#[derive(Clone, Debug)]
struct Room {
    limit: ProviderLimit,
    /// By hours since the epoch.
    hours: BTreeMap<i64, DayUse>,
}

fn hour_of(at: Timestamp) -> i64 {
    at.micros().div_euclid(HOUR)
}

impl Room {
    /// Whether the hour, and its day, are full, where `taken` says what counts.
    fn is_full(&self, hour: i64, taken: impl Fn(DayUse) -> u32) -> (bool, bool) {
        let day = hour.div_euclid(HOURS_A_DAY) * HOURS_A_DAY;
        let of_hour = self.hours.get(&hour).copied().map_or(0, &taken);
        let of_day: u32 = self.hours.range(day..day + HOURS_A_DAY).map(|(_, hour)| taken(*hour)).sum();
        let is_full = |limit: Option<u32>, taken| limit.is_some_and(|most| taken >= most);
        (is_full(self.limit.per_hour, of_hour), is_full(self.limit.per_day, of_day))
    }

    fn next_room(&self, at: Timestamp) -> Timestamp {
        let mut hour = hour_of(at);
        for _ in 0..FAR {
            match self.is_full(hour, DayUse::taken) {
                (false, false) => return at.max(Timestamp::from_micros(hour * HOUR)),
                (_, true) => hour = (hour.div_euclid(HOURS_A_DAY) + 1) * HOURS_A_DAY,
                (true, false) => hour += 1,
            }
        }
        Timestamp::MAX
    }

    fn release(&mut self, at: Timestamp) {
        if let Some(hour) = self.hours.get_mut(&hour_of(at)) {
            hour.reserved = hour.reserved.saturating_sub(1);
        }
    }
}

impl ProviderBook {
    /// A book in which nothing is taken yet.
    pub fn new(limits: impl IntoIterator<Item = ProviderLimit>) -> Self {
        let room = |limit: ProviderLimit| (limit.provider.as_str().into(), Room { limit, hours: BTreeMap::new() });
        Self(limits.into_iter().map(room).collect())
    }

    /// Whose a recipient of this provider is, as far as these limits ask; none = it was not looked up.
    pub fn recipient(&self, provider: Option<&str>) -> Recipient {
        match provider {
            None => Recipient::NotKnown,
            Some(provider) => {
                self.0.get_key_value(provider).map_or(Recipient::Unlimited, |(name, _)| Recipient::Of(Arc::clone(name)))
            }
        }
    }

    /// Notes what the ledger says of the hour of `at`.
    pub fn note(&mut self, provider: &str, at: Timestamp, hour: DayUse) {
        if let Some(room) = self.0.get_mut(provider) {
            room.hours.insert(hour_of(at), hour);
        }
    }

    /// The next moment from `at` on at which the provider has room.
    pub(crate) fn next_room(&self, provider: &str, at: Timestamp) -> Timestamp {
        self.0.get(provider).map_or(at, |room| room.next_room(at))
    }

    /// Reserves room for a mail that is to leave at `at`.
    pub fn take(&mut self, provider: &str, at: Timestamp) {
        if let Some(room) = self.0.get_mut(provider) {
            room.hours.entry(hour_of(at)).or_default().reserved += 1;
        }
    }

    /// Gives back what was reserved at `at`.
    pub fn release(&mut self, provider: &str, at: Timestamp) {
        if let Some(room) = self.0.get_mut(provider) {
            room.release(at);
        }
    }

    /// Whether a dot may be written now, of a mail that holds a reservation at `reserved`: the cap's last word. One that is
    /// granted is counted by `count`.
    ///
    /// In its own hour a mail has its room, unless others that came late have used all of it.
    ///
    /// # Errors
    /// A `Deferral` until there is room that nobody has reserved.
    pub fn check(&self, provider: &str, reserved: Option<Timestamp>, now: Timestamp) -> Result<(), Deferral> {
        let Some(room) = self.0.get(provider) else { return Ok(()) };
        let mut room = room.clone();
        if let Some(at) = reserved {
            room.release(at);
        }
        let hour = hour_of(now);
        let is_its_own = reserved.is_some_and(|at| hour_of(at) == hour);
        let full = if is_its_own { room.is_full(hour, |hour| hour.used) } else { room.is_full(hour, DayUse::taken) };
        if full == (false, false) {
            return Ok(());
        }
        let until = room.next_room(Timestamp::from_micros((hour + 1) * HOUR));
        Err(Deferral { until, reason: Reason::ProviderCap, scope: Scope::Lead })
    }

    /// Counts a dot: what was reserved for it is used now.
    pub fn count(&mut self, provider: &str, reserved: Option<Timestamp>, now: Timestamp) {
        let Some(room) = self.0.get_mut(provider) else { return };
        if let Some(at) = reserved {
            room.release(at);
        }
        room.hours.entry(hour_of(now)).or_default().used += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_seconds(1_772_452_800);
    const GOOGLE: &str = "google.com";

    fn book(per_hour: Option<u32>, per_day: Option<u32>) -> ProviderBook {
        ProviderBook::new([ProviderLimit { provider: GOOGLE.into(), per_hour, per_day }])
    }

    fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }

    #[test]
    fn a_full_hour_leads_to_the_next_and_a_full_day_to_tomorrow() {
        let mut book = book(Some(2), Some(3));
        let late = NOON + Duration::from_secs(1800);
        assert_eq!(book.next_room(GOOGLE, late), late);
        book.take(GOOGLE, late);
        book.take(GOOGLE, late);
        assert_eq!(book.next_room(GOOGLE, late), NOON + hours(1));
        book.take(GOOGLE, NOON + hours(1));
        assert_eq!(book.next_room(GOOGLE, late), NOON + hours(12), "midnight in UTC");
        book.release(GOOGLE, late);
        assert_eq!(book.next_room(GOOGLE, late), late, "given back");
        assert_eq!(book.next_room("acme.test", late), late, "others have no limit");
    }

    #[test]
    fn a_mail_has_its_room_in_its_own_hour_alone() {
        let mut book = book(Some(1), None);
        book.take(GOOGLE, NOON);
        assert_eq!(book.check(GOOGLE, Some(NOON), NOON + Duration::from_secs(60)), Ok(()));
        let refused = book.check(GOOGLE, None, NOON).unwrap_err();
        assert_eq!((refused.until, refused.reason), (NOON + hours(1), Reason::ProviderCap), "another one's");
        book.count(GOOGLE, Some(NOON), NOON);
        book.take(GOOGLE, NOON);
        assert_eq!(book.check(GOOGLE, Some(NOON), NOON).unwrap_err().until, NOON + hours(1), "who came late used it");
        assert_eq!(book.check(GOOGLE, Some(NOON), NOON + hours(1)), Ok(()), "late itself, where there is room");
    }

    #[test]
    fn whose_a_recipient_is() {
        let book = book(Some(1), None);
        assert_eq!(book.recipient(Some("acme.test")), Recipient::Unlimited);
        assert_eq!(book.recipient(Some(GOOGLE)).provider().map(|name| &**name), Some(GOOGLE));
        let waits = book.recipient(None).not_known(NOON).unwrap();
        assert!(waits.until > NOON && waits.scope == Scope::Lead);
        assert_eq!(Recipient::Unlimited.not_known(NOON), None);
    }

    proptest! {
        /// Whatever comes late, is given back or asks without a reservation: no hour and no day has more dots than its cap.
        #[test]
        fn no_cap_is_exceeded(
            per_hour in proptest::option::of(1..4_u32),
            per_day in proptest::option::of(1..9_u32),
            acts in proptest::collection::vec((0..4_u8, 0..5_400_u64), 1..200),
        ) {
            let mut book = book(per_hour, per_day);
            let (mut now, mut open, mut dots) = (NOON, Vec::new(), Vec::new());
            for (act, seconds) in acts {
                match act {
                    0 => {
                        let at = book.next_room(GOOGLE, now + Duration::from_secs(seconds));
                        book.take(GOOGLE, at);
                        open.push(Some(at));
                    }
                    1 => open.push(None),
                    2 => {
                        if let Some(Some(at)) = open.pop() {
                            book.release(GOOGLE, at);
                        }
                    }
                    _ => {
                        now = now + Duration::from_secs(seconds);
                        let (due, later): (Vec<_>, Vec<_>) =
                            open.into_iter().partition(|at| at.is_none_or(|at| at <= now));
                        open = later;
                        for own in due {
                            match book.check(GOOGLE, own, now) {
                                Ok(()) => {
                                    book.count(GOOGLE, own, now);
                                    dots.push(hour_of(now));
                                }
                                Err(refused) => {
                                    prop_assert!(refused.until > now);
                                    if let Some(at) = own {
                                        book.release(GOOGLE, at);
                                    }
                                    book.take(GOOGLE, refused.until);
                                    open.push(Some(refused.until));
                                }
                            }
                        }
                    }
                }
            }
            for hour in &dots {
                let in_hour = dots.iter().filter(|other| *other == hour).count();
                let in_day = dots.iter().filter(|other| other.div_euclid(24) == hour.div_euclid(24)).count();
                prop_assert!(per_hour.is_none_or(|most| in_hour <= most as usize), "{in_hour} in an hour");
                prop_assert!(per_day.is_none_or(|most| in_day <= most as usize), "{in_day} in a day");
            }
        }
    }
}
