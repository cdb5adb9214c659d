//! The protocol's model against the store: walks through the model's moments are driven step by step on the database, and
//! after each step the row must be the one that `domain::ledger` says.
//!
//! The model itself is explored in `domain/tests/model`; its files are read here as they are. Not responsible for how a
//! step is done on the store (`driver`). To add a step: its arm there.

#[expect(dead_code, reason = "the search needs more of it than the walks")]
#[path = "../../../../domain/tests/model/action.rs"]
mod action;
mod driver;
#[path = "../../../../domain/tests/model/protocol.rs"]
mod protocol;
#[expect(dead_code, reason = "the search needs more of it than the walks")]
#[path = "../../../../domain/tests/model/state.rs"]
mod state;

use std::collections::BTreeMap;

use domain::campaign::OnUnknown;
use engines::Store;

use self::action::{Action, Fault, all};
use self::driver::Driver;
use self::protocol::World;
use self::state::{Owner, Phase, State};
use super::scene::Scene;
use crate::engine::{Engine, with_store};
use crate::on_every_engine;

/// Walks, and the most steps in each.
const WALKS: u64 = 240;
const STEPS: usize = 60;

/// How often each kind of step was taken.
type Taken = BTreeMap<String, u32>;

/// A walk, mostly the way forward, of kinds of steps that were seldom taken; chance decides between equals.
fn walk(world: &World, seed: u64, taken: &mut Taken) -> Vec<(Action, State)> {
    let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let mut state = State::start();
    let mut steps = Vec::new();
    while steps.len() < STEPS && !(state.is_settled() && nobody_has_anything(&state)) {
        let is_fault = random() % 4 == 0;
        let next = all().into_iter().filter_map(|action| Some((action, world.step(&state, action)?)));
        let seldom = next.map(|(action, next)| (kind(&state, action, &next), action, next));
        let rank = |(kind, action, _): &(String, Action, State)| {
            let is_other = action.fault(&state).is_some() != is_fault;
            (is_other, taken.get(kind).copied().unwrap_or_default(), random())
        };
        let (kind, action, next) = seldom.min_by_key(rank).unwrap();
        *taken.entry(kind).or_default() += 1;
        steps.push((action, next));
        state = next;
    }
    steps
}

fn nobody_has_anything(state: &State) -> bool {
    let idle = |phase| matches!(phase, Phase::Down | Phase::Idle | Phase::Leased | Phase::Acking);
    state.workers.iter().all(|worker| idle(worker.phase) && worker.journal.is_none())
}

/// What makes a step different for the ledger: the row's status, whose dot it is, how far the fence is behind that the
/// step goes by, and whether the row changes.
fn kind(state: &State, action: Action, next: &State) -> String {
    let owner = action.worker().map(Owner::of);
    let first = if owner == Some(Owner::Second) { action.by_the_other() } else { action };
    let Some(row) = state.row else { return format!("{first:?}") };
    let fence = owner.and_then(|owner| match state.workers[owner as usize].phase {
        Phase::Fetched(job) | Phase::InDoubt(job) => Some(job.fence),
        Phase::Granted(_, fence) | Phase::Dotted(_, fence, _) => Some(fence),
        Phase::Ended { ended, .. } => Some(ended.fence),
        _ => None,
    });
    let behind = fence.map(|fence| (row.fence - i64::from(fence)).min(2));
    let is_own = row.owner.map(|of_row| Some(of_row) == owner);
    format!("{first:?} {} own {is_own:?} behind {behind:?} changes {}", row.status, state.row != next.row)
}

fn the_store_takes_the_models_steps(engine: Engine) {
    with_store(engine, async |store: Store| {
        let scene = Scene::started(store, 0, |s| s.steps.truncate(1)).await;
        let mut taken = Taken::new();
        let mut worlds = [OnUnknown::Resend, OnUnknown::Hold, OnUnknown::Resend].map(World::new);
        // Most walks would end by it.
        worlds[..2].iter_mut().for_each(|world| world.without = vec![Fault::Suppression]);
        let mut driven = 0;
        for seed in 1..=WALKS {
            let world = &worlds[usize::try_from(seed % 3).unwrap()];
            let steps = walk(world, seed, &mut taken);
            let mut driver = Driver::begin(&scene, world, seed).await;
            for (action, next) in steps {
                driver.step(action, &next).await;
                driver.compare().await;
                driven += 1;
            }
        }
        eprintln!("{driven} steps of {} kinds: {taken:#?}", taken.len());
    });
}

on_every_engine! {
    the_store_takes_the_models_steps
}
