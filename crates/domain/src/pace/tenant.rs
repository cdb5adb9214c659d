//! A tenant's rate: how many messages a second leave over all its campaigns, accounts and workers.
//!
//! Planning spaces slots evenly along a grid, so that the gate has to refuse only what comes late. Not responsible for
//! days and gaps of one account (`pace`). To add another limit of tenants: a field of `TenantBook`, asked in `next_slot`
//! and `check`.

use std::time::Duration;

use super::{Deferral, Scope};
use crate::reason::Reason;
use crate::time::Timestamp;

/// Seconds that one message may take at the slowest: 400 days, as far as planning looks.
const SLOWEST: f64 = 400.0 * 24.0 * 3600.0;

/// Most messages a second, as windows of the clock in each of which so many may leave.
///
/// From one a second on, a window lasts as long as a second's whole messages take: 100 a second are 100 in a second, 2.5
/// are two in 0.8 seconds. Below, it lasts as long as one message takes: 0.5 a second is one in two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    gap_micros: i64,
    per_window: u32,
}

impl Rate {
    /// From messages a second; none where that is no positive number, which limits nothing.
    ///
    /// Above a million a second it is a million.
    pub fn per_second(messages: f64) -> Option<Self> {
        if !(messages.is_finite() && messages > 0.0) {
            return None;
        }
        // Rounded up, so that the rate is never exceeded. Both casts are bounded by the line above them.
        let gap = (1e6 / messages).ceil().clamp(1.0, SLOWEST * 1e6);
        #[expect(clippy::cast_possible_truncation, reason = "at most 400 days of microseconds")]
        let gap_micros = gap as i64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between one and a million")]
        let per_window = messages.floor().clamp(1.0, 1e6) as u32;
        Some(Self { gap_micros, per_window })
    }

    /// Time between two slots.
    pub fn gap(self) -> Duration {
        Duration::from_micros(self.gap_micros.unsigned_abs())
    }

    /// Most messages in one window.
    pub fn per_window(self) -> u32 {
        self.per_window
    }

    /// Start of the window that `at` lies in; windows are counted from the epoch.
    pub fn window_of(self, at: Timestamp) -> Timestamp {
        let length = self.gap_micros.saturating_mul(i64::from(self.per_window));
        Timestamp::from_micros(at.micros().div_euclid(length) * length)
    }

    /// The first slot of the grid at or after `at`; each window has as many as may leave in it.
    fn slot_from(self, at: Timestamp) -> Timestamp {
        let behind = at.micros().rem_euclid(self.gap_micros);
        if behind == 0 { at } else { at + Duration::from_micros((self.gap_micros - behind).unsigned_abs()) }
    }
}

/// A tenant's page of the ledger, as planning and the dot gate change it.
#[derive(Clone, Debug)]
pub struct TenantBook {
    /// Its limit.
    pub rate: Rate,
    /// The latest slot that was given.
    pub last_slot_at: Option<Timestamp>,
    /// What goes later for another reason is not spaced: its slot would hold up all of the tenant's other mail.
    pub spaced_until: Timestamp,
    /// Start of the window of its latest dot.
    pub window_at: Option<Timestamp>,
    /// Dots in that window.
    pub dots: u32,
}

impl TenantBook {
    /// The next slot at or after `at`, behind those that were given.
    pub(super) fn next_slot(&self, at: Timestamp) -> Timestamp {
        if at > self.spaced_until {
            return at;
        }
        let behind = self.last_slot_at.map_or(at, |last| at.max(last + self.rate.gap()));
        self.rate.slot_from(behind)
    }

    /// Keeps a slot that was given.
    pub(super) fn take(&mut self, slot: Timestamp) {
        self.last_slot_at = self.last_slot_at.max(Some(slot));
    }

    /// Whether a dot may be written now; where not, it takes the next slot.
    pub(super) fn check(&mut self, now: Timestamp) -> Result<(), Deferral> {
        let window = self.window(now);
        if self.dots_in(window) < self.rate.per_window {
            return Ok(());
        }
        let until = self.next_slot(window + self.rate.gap() * self.rate.per_window);
        self.take(until);
        Err(Deferral { until, reason: Reason::TenantRate, scope: Scope::Campaign })
    }

    /// Counts a dot.
    pub(super) fn count(&mut self, now: Timestamp) {
        let window = self.window(now);
        self.dots = self.dots_in(window) + 1;
        self.window_at = Some(window);
    }

    /// The window of `now`; a clock that is behind the latest dot's is taken to be with it.
    fn window(&self, now: Timestamp) -> Timestamp {
        let window = self.rate.window_of(now);
        self.window_at.map_or(window, |latest| window.max(latest))
    }

    fn dots_in(&self, window: Timestamp) -> u32 {
        if self.window_at == Some(window) { self.dots } else { 0 }
    }
}
