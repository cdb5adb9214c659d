//! Breadth-first search over all moments, so that the first one that breaks a rule has the shortest trace; and, backwards
//! from the ends, whether every moment can still come to an end by the way forward alone.
//!
//! Not responsible for the protocol (`protocol`). To add a rule that holds at every moment: `broken_rule`.

use std::fmt;
use std::hash::{Hash, Hasher};

use domain::campaign::OnUnknown;
use domain::send::SendStatus;

use super::action::{Action, Fault, all};
use super::protocol::World;
use super::state::{Broken, State};

/// What was found.
pub struct Explored {
    states: Vec<State>,
    /// How each moment was first reached: from where, by which step, and whether the workers changed places then.
    from: Vec<(u32, u8, bool)>,
    actions: Vec<Action>,
    pub broken: Option<Violation>,
}

/// The rule that every moment has a way to an end.
pub const LOST: &str = "lost: no end can be reached any more";

/// A rule that does not hold, and the shortest way there.
pub struct Violation {
    pub rule: &'static str,
    pub trace: Vec<Action>,
    end: State,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, trace, end } = self;
        write!(f, "{rule}; {trace:?} leads to {} copies and {:?}", end.copies, end.row)
    }
}

/// Explores all moments, at most until the first that breaks a rule.
pub fn explore(world: &World) -> Explored {
    let start = State::start();
    let mut found = Explored { states: vec![start], from: vec![(0, 0, false)], actions: all(), broken: None };
    let mut known = Known::default();
    known.insert(&found.states, 0);
    // The way forward: whoever may go on without a fault, and to where.
    let mut forward: Vec<(u32, u32)> = Vec::new();
    let mut at = 0;
    while at < found.states.len() {
        let state = found.states[at];
        if let Some(rule) = broken_rule(world, &state) {
            found.broken = Some(found.violation(rule, at));
            return found;
        }
        for step in 0..found.actions.len() {
            let action = found.actions[step];
            let Some(next) = world.step(&state, action) else { continue };
            let new = u32::try_from(found.states.len()).unwrap();
            let (next, is_swapped) = next.forgetful().in_order();
            found.states.push(next);
            let index = known.insert(&found.states, new);
            if index == new {
                found.from.push((u32::try_from(at).unwrap(), u8::try_from(step).unwrap(), is_swapped));
            } else {
                found.states.pop();
            }
            if action.fault(&state).is_none() {
                forward.push((u32::try_from(at).unwrap(), index));
            }
        }
        at += 1;
    }
    found.broken = found.lost(forward).map(|at| found.violation(LOST, at));
    found
}

impl Explored {
    /// Every moment, in order of its distance from the start.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The shortest way to a moment, and whether that moment has the workers the other way round.
    pub fn trace(&self, mut at: usize) -> (Vec<Action>, bool) {
        let mut steps = Vec::new();
        while at > 0 {
            let (before, step, swapped) = self.from[at];
            steps.push((self.actions[usize::from(step)], swapped));
            at = before as usize;
        }
        let mut is_swapped = false;
        let mut trace = Vec::with_capacity(steps.len());
        for (action, swaps) in steps.into_iter().rev() {
            trace.push(if is_swapped { action.by_the_other() } else { action });
            is_swapped ^= swaps;
        }
        (trace, is_swapped)
    }

    fn violation(&self, rule: &'static str, at: usize) -> Violation {
        Violation { rule, trace: self.trace(at).0, end: self.states[at] }
    }

    /// The nearest moment from which the way forward leads to no end.
    fn lost(&self, mut forward: Vec<(u32, u32)>) -> Option<usize> {
        forward.sort_unstable_by_key(|(_, to)| *to);
        let mut ends: Vec<bool> = self.states.iter().map(State::is_settled).collect();
        let mut todo: Vec<usize> = (0..ends.len()).filter(|at| ends[*at]).collect();
        while let Some(to) = todo.pop() {
            let first = forward.partition_point(|(_, t)| (*t as usize) < to);
            for (from, _) in forward[first..].iter().take_while(|(_, t)| *t as usize == to) {
                let from = *from as usize;
                if !ends[from] {
                    ends[from] = true;
                    todo.push(from);
                }
            }
        }
        ends.iter().position(|ends| !ends)
    }
}

/// The rule that a moment breaks.
fn broken_rule(world: &World, state: &State) -> Option<&'static str> {
    let unknowns = state.row.map_or(0, |row| row.unknowns);
    let copies = u32::from(state.copies);
    let can_be_unknown = ![Fault::Kill, Fault::Cut, Fault::WrongReap].iter().all(|fault| world.without.contains(fault));
    match state.broken {
        Some(Broken::Early) => Some("a dot was granted before its time"),
        Some(Broken::Suppressed) => Some("a dot was granted to a suppressed address"),
        None if !can_be_unknown && copies > 1 => Some("an extra copy without kill, cut or wrong reaper"),
        None if copies > 1 + unknowns => Some("more copies than one and the unknowns"),
        None if copies > 2 => Some("more than two copies"),
        None if copies > 1 && world.on_unknown == OnUnknown::Hold => Some("an extra copy under hold"),
        None if state.status() == Some(SendStatus::Sent) && copies == 0 => Some("lost: sent, and nobody has it"),
        None => None,
    }
}

/// Which moments are known: open addressing over their places, so that each is kept once.
#[derive(Default)]
struct Known {
    slots: Vec<u32>,
    count: usize,
}

const FREE: u32 = u32::MAX;

impl Known {
    /// The place of a moment that is equal to that at `index`: `index` itself where it is new.
    fn insert(&mut self, states: &[State], index: u32) -> u32 {
        if self.count * 2 >= self.slots.len() {
            let more = vec![FREE; (self.slots.len() * 2).max(1 << 16)];
            let old = std::mem::replace(&mut self.slots, more);
            for place in old.into_iter().filter(|place| *place != FREE) {
                let slot = self.find(states, place);
                self.slots[slot] = place;
            }
        }
        let slot = self.find(states, index);
        if self.slots[slot] == FREE {
            self.slots[slot] = index;
            self.count += 1;
        }
        self.slots[slot]
    }

    fn find(&self, states: &[State], index: u32) -> usize {
        let state = &states[index as usize];
        let mut hasher = Multiply(0);
        state.hash(&mut hasher);
        let mask = self.slots.len() - 1;
        let mut slot = usize::try_from(hasher.finish() >> 20).unwrap() & mask;
        while self.slots[slot] != FREE && states[self.slots[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// Nobody chooses these keys, so a fast hash does.
struct Multiply(u64);

impl Multiply {
    fn mix(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }
    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }
    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.mix(n.cast_unsigned() as u64);
    }
    fn write_i64(&mut self, n: i64) {
        self.mix(n.cast_unsigned());
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
