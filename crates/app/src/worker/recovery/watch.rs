//! Who is dead: an owner whose heartbeat stood still for twelve seconds during which we saw it throughout (P8).
//!
//! Never by age alone: a database that was away, or that nobody could write to, or this process having been stopped looks
//! the same from here as the death of all others. Not responsible for asking or for what follows.
//! To add a reason to distrust what was seen: `is_cut_off`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A heartbeat that stands still for so long: dead.
const DEAD_AFTER: Duration = Duration::from_secs(12);
/// Two looks that lie further apart: what happened in between was not seen.
const UNSEEN: Duration = Duration::from_secs(6);
/// Our own heartbeat, written every three seconds, stands still for so long: nobody's can move.
const UNWRITTEN: Duration = Duration::from_secs(6);
/// After a time that was not seen nobody is dead for so long: the living write their heartbeat first.
const SETTLING: Duration = Duration::from_secs(15);

/// What was seen of the owners, look by look.
#[derive(Default)]
pub(super) struct Watch {
    /// Each owner's heartbeat and since when it stands there.
    seen: HashMap<String, (i64, Instant)>,
    /// Our own heartbeat, likewise; none where our row is not there.
    own: Option<(Option<i64>, Instant)>,
    last_look: Option<Instant>,
    /// Nobody is dead before.
    settled_at: Option<Instant>,
}

impl Watch {
    /// The owners could not be asked: everybody's time starts anew.
    pub(super) fn is_cut_off(&mut self, now: Instant) {
        self.seen.clear();
        self.settled_at = Some(now + SETTLING);
    }

    /// Looks at all owners and their heartbeats; those that are dead, with the heartbeat that stood still, never `own`.
    pub(super) fn dead(&mut self, owners: &[(String, i64)], own: &str, now: Instant) -> Vec<(String, i64)> {
        if self.last_look.is_some_and(|last| now.duration_since(last) > UNSEEN) || self.is_unwritten(owners, own, now) {
            self.is_cut_off(now);
        }
        self.last_look = Some(now);
        self.seen.retain(|owner, _| owners.iter().any(|(known, _)| known == owner));
        let is_settled = self.settled_at.is_none_or(|at| now >= at);
        let mut dead = Vec::new();
        for (owner, heartbeat) in owners.iter().filter(|(owner, _)| owner != own) {
            let entry = self.seen.entry(owner.clone()).or_insert((*heartbeat, now));
            if entry.0 != *heartbeat {
                *entry = (*heartbeat, now);
            } else if is_settled && now.duration_since(entry.1) >= DEAD_AFTER {
                dead.push((owner.clone(), *heartbeat));
            }
        }
        dead
    }

    /// Whether our own heartbeat is not written either.
    fn is_unwritten(&mut self, owners: &[(String, i64)], own: &str, now: Instant) -> bool {
        let heartbeat = owners.iter().find(|(owner, _)| owner == own).map(|(_, heartbeat)| *heartbeat);
        let (seen, since) = self.own.get_or_insert((heartbeat, now));
        if *seen != heartbeat {
            (*seen, *since) = (heartbeat, now);
        }
        now.duration_since(*since) > UNWRITTEN
    }

    /// An owner was taken over from.
    pub(super) fn forget(&mut self, owner: &str) {
        self.seen.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every two seconds from `first` to `last`; who was dead at any of them. Every heartbeat but ours stands still.
    fn look(watch: &mut Watch, start: Instant, first: u64, last: u64) -> Vec<String> {
        let at = |second| start + Duration::from_secs(second);
        let owners = |second: u64| [("own".to_owned(), second as i64), ("other".to_owned(), 1)];
        let looks = (first..=last).step_by(2).map(|second| watch.dead(&owners(second), "own", at(second)));
        looks.flatten().map(|(owner, _)| owner).collect()
    }

    /// A full disk answers who reads.
    #[test]
    fn while_nobody_can_write_nobody_is_dead() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let owners = |own: i64| [("own".to_owned(), own), ("other".to_owned(), 1)];
        assert!((0..60).all(|second| watch.dead(&owners(1), "own", at(second)).is_empty()));
        // The living have fifteen seconds to be seen.
        assert!((60..74).all(|second| watch.dead(&owners(second as i64), "own", at(second)).is_empty()));
        assert_eq!(watch.dead(&owners(75), "own", at(75)), [("other".to_owned(), 1)]);
    }

    #[test]
    fn who_stands_still_for_twelve_seconds_is_dead_and_never_we_ourselves() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(look(&mut watch, start, 0, 10).is_empty());
        assert_eq!(look(&mut watch, start, 12, 12), ["other"]);
    }

    #[test]
    fn who_moves_lives() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        for second in 0..60_u32 {
            let owners = [("own".to_owned(), i64::from(second)), ("other".to_owned(), i64::from(second / 9))];
            let now = start + Duration::from_secs(second.into());
            assert!(watch.dead(&owners, "own", now).is_empty(), "{second}");
        }
    }

    #[test]
    fn after_an_outage_everybody_has_fifteen_seconds() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(look(&mut watch, start, 0, 10).is_empty());
        watch.is_cut_off(start + Duration::from_secs(11));
        assert!(look(&mut watch, start, 12, 25).is_empty());
        assert_eq!(look(&mut watch, start, 26, 26), ["other"]);
    }

    /// A server that answers after a long time, or a process that was stopped: no error tells of either.
    #[test]
    fn a_time_that_was_not_seen_is_like_an_outage() {
        let (mut watch, start) = (Watch::default(), Instant::now());
        assert!(look(&mut watch, start, 0, 10).is_empty());
        assert!(look(&mut watch, start, 40, 54).is_empty());
        assert_eq!(look(&mut watch, start, 56, 56), ["other"]);
    }
}
