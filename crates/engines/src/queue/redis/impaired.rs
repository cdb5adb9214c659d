//! Which lanes cannot be leased from: said once for each, and asked seldom, so that they hold up no other lane.
//!
//! A key of another type impairs one lane; on a Cluster so does a node that is away. Not responsible for what is wrong
//! with a lane (`answer`). To change how often one is asked: `REST`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Lane, List};
use crate::error::Error;

/// How long an impaired lane is not asked while another one is well.
const REST: Duration = Duration::from_secs(1);
/// How long it may then take to answer.
pub(super) const PROBE: Duration = Duration::from_millis(500);

/// Impaired lanes, and when each is to be asked again.
#[derive(Default)]
pub(super) struct Impaired(Mutex<HashMap<(List, Lane), Instant>>);

impl Impaired {
    /// Whether the lane failed when it was last asked.
    pub(super) fn is(&self, list: List, lane: Lane) -> bool {
        self.lanes().contains_key(&(list, lane))
    }

    /// The lanes that are well, and impaired ones that have rested; all where none is well.
    pub(super) fn lanes_to_ask(&self, list: List) -> Vec<Lane> {
        let impaired = self.lanes();
        let now = Instant::now();
        let is_well = |lane: &Lane| !impaired.contains_key(&(list, *lane));
        let any_is_well = list.lanes().iter().any(is_well);
        let rests = |lane: &Lane| impaired.get(&(list, *lane)).is_some_and(|until| now < *until);
        list.lanes().iter().copied().filter(|lane| !any_is_well || !rests(lane)).collect()
    }

    /// Keeps that a lane failed while another one answered, and says so once: leases are drawn many times a second.
    pub(super) fn note(&self, list: List, lane: Lane, error: &Error) {
        if self.lanes().insert((list, lane), Instant::now() + REST).is_none() {
            tracing::warn!(lane = name(list, lane), %error, "jobs of this lane cannot be leased now; other lanes go on");
        }
    }

    /// Keeps that a lane answered, and says so where it had failed.
    pub(super) fn is_well(&self, list: List, lane: Lane) {
        if self.lanes().remove(&(list, lane)).is_some() {
            tracing::info!(lane = name(list, lane), "jobs of this lane can be leased again");
        }
    }

    /// No lane answers, which is the caller's to handle: the first that does is to be asked at once.
    pub(super) fn forget(&self, list: List) {
        self.lanes().retain(|(of, _), _| *of != list);
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<(List, Lane), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(list: List, lane: Lane) -> String {
    format!("{}{}", list.name(), lane.suffix())
}
