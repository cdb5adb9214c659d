//! The protocol's model against the store: traces of the model are driven step by step on the database, and after each
//! step the row must be the one that `domain::ledger` says.
//!
//! The shortest way to every kind of step, and walks, which go further. The model itself is explored in
//! `domain/tests/model`; its files are read here as they are. Not responsible for how a step is done on the store
//! (`driver`). To add a step: its arm there; a world: `WORLDS`.

#[path = "../../../../domain/tests/model/action.rs"]
mod action;
mod driver;
#[path = "../../../../domain/tests/model/protocol.rs"]
mod protocol;
#[path = "../../../../domain/tests/model/search.rs"]
mod search;
#[path = "../../../../domain/tests/model/state.rs"]
mod state;

use std::collections::BTreeMap;

use domain::campaign::OnUnknown;
use engines::Store;

use self::action::{Action, Fault, all};
use self::driver::Driver;
use self::protocol::World;
use self::search::explore;
use self::state::{Owner, Phase, State};
use super::scene::Scene;
use crate::engine::{Engine, with_store};
use crate::on_every_engine;

/// Worlds whose every moment is looked at: by the faults that happen in them, small enough for a build without
/// optimization.
const WORLDS: [&[Fault]; 6] = [
    &[Fault::Doubt, Fault::Lost],
    &[Fault::Refusal, Fault::Lost],
    &[Fault::WrongReap, Fault::Cut],
    &[Fault::WrongReap, Fault::Break],
    &[Fault::Kill, Fault::Unseen],
    &[Fault::Cut, Fault::Suppression],
];
/// Kinds that try a predicate each; the others are as many as the model has.
const RARE: [&str; 9] = [
    "Intend(0): dot other's, 1 behind, changes nothing",
    "Intend(0): queued nobody's, 1 behind, changes nothing",
    "Intend(0): held nobody's, 0 behind, changes nothing",
    "Intend(0): held nobody's, 1 behind, changes nothing",
    "Withdraw(0): dot own, 1 behind, changes it",
    "Withdraw(0): dot other's, 1 behind, changes nothing",
    "Apply(0) Unknown: queued nobody's, 0 behind, changes nothing",
    "Apply(0) Accepted: held nobody's, 0 behind, changes it",
    "Apply(0) Accepted: dot other's, 1 behind, changes nothing",
];

/// Walks, and the most steps in each.
const WALKS: u64 = 120;
const STEPS: usize = 60;

/// How often each kind of step was taken.
type Taken = BTreeMap<String, u32>;

/// The shortest way to every kind of step of a world that is not yet known.
fn ways(world: &World, known: &mut Taken) -> Vec<Vec<Action>> {
    let found = explore(world);
    assert!(found.broken.is_none());
    let mut ways = Vec::new();
    for (at, state) in found.states().iter().enumerate() {
        for action in all().into_iter().filter(|action| touches_the_ledger(*action)) {
            let Some(next) = world.step(state, action) else { continue };
            let kind = kind(state, action, &next);
            if known.insert(kind, 1).is_none() {
                let (mut way, is_swapped) = found.trace(at);
                way.push(if is_swapped { action.by_the_other() } else { action });
                ways.push(way);
            }
        }
    }
    ways
}

/// Whether the ledger is asked or told something.
fn touches_the_ledger(action: Action) -> bool {
    use Action as A;
    let is_of_the_queue = matches!(action, A::PushTwice | A::Flush | A::LeaseEnds | A::Lease(_));
    let is_of_the_server = matches!(action, A::Refuse(..) | A::Break(..) | A::Dot(..) | A::Answer(_) | A::Cut(_));
    let is_heard_by_nobody = matches!(action, A::IntendInDoubt(_, false) | A::Journal(_));
    let is_an_ack = matches!(action, A::Acknowledge(_) | A::AcknowledgeLost(_));
    !is_of_the_queue && !is_of_the_server && !is_heard_by_nobody && !is_an_ack
}

/// A walk, mostly the way forward, of kinds of steps that were seldom taken; chance decides between equals.
fn walk(world: &World, seed: u64, taken: &mut Taken) -> Vec<Action> {
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
        steps.push(action);
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
    let (fence, end) = owner.map_or((None, None), |owner| match state.workers[owner as usize].phase {
        Phase::Fetched(job) | Phase::InDoubt(job) => (Some(job.fence), None),
        Phase::Granted(_, fence) | Phase::Dotted(_, fence, _) => (Some(fence), None),
        Phase::Ended { ended, .. } => (Some(ended.fence), Some(ended.end)),
        _ => (None, None),
    });
    let behind = fence.map_or("-".to_owned(), |fence| (row.fence - i64::from(fence)).min(2).to_string());
    let whose = match row.owner {
        None => "nobody's",
        Some(of_row) if Some(of_row) == owner => "own",
        Some(_) => "other's",
    };
    let end = end.map_or(String::new(), |end| format!(" {end:?}"));
    let change = if state.row == next.row { "changes nothing" } else { "changes it" };
    format!("{first:?}{end}: {} {whose}, {behind} behind, {change}", row.status)
}

/// Drives a trace; the rows that it led to.
async fn drive(scene: &Scene, world: &World, name: &str, trace: &[Action]) -> u32 {
    let mut driver = Driver::begin(scene, world, name).await;
    let (mut state, mut steps) = (State::start(), 0);
    for action in trace {
        // The search forgets what makes no difference, so a step of its may do nothing here.
        let Some(next) = world.step(&state, *action) else { continue };
        driver.step(*action, &next).await;
        driver.compare().await;
        (state, steps) = (next, steps + 1);
    }
    steps
}

async fn scene(store: Store) -> Scene {
    Scene::started(store, 0, |s| s.steps.truncate(1)).await
}

fn the_store_takes_every_kind_of_step(engine: Engine) {
    with_store(engine, async |store: Store| {
        let scene = scene(store).await;
        let (mut steps, mut traces) = (0, 0);
        let mut kinds = Taken::new();
        for on_unknown in [OnUnknown::Resend, OnUnknown::Hold] {
            let mut known = Taken::new();
            for faults in WORLDS {
                let mut world = World::new(on_unknown);
                world.without = Fault::ALL.into_iter().filter(|fault| !faults.contains(fault)).collect();
                for way in ways(&world, &mut known) {
                    traces += 1;
                    steps += drive(&scene, &world, &format!("way{traces}"), &way).await;
                }
            }
            kinds.extend(known);
        }
        for rare in RARE {
            assert!(kinds.contains_key(rare), "never driven: {rare}; {kinds:#?}");
        }
        eprintln!("{traces} traces, {steps} steps");
    });
}

fn the_store_takes_the_models_walks(engine: Engine) {
    with_store(engine, async |store: Store| {
        let scene = scene(store).await;
        let mut taken = Taken::new();
        let mut worlds = [OnUnknown::Resend, OnUnknown::Hold, OnUnknown::Resend].map(World::new);
        // Most walks would end by it.
        worlds[..2].iter_mut().for_each(|world| world.without = vec![Fault::Suppression]);
        let mut steps = 0;
        for seed in 1..=WALKS {
            let world = &worlds[usize::try_from(seed % 3).unwrap()];
            let trace = walk(world, seed, &mut taken);
            steps += drive(&scene, world, &format!("walk{seed}"), &trace).await;
        }
        eprintln!("{WALKS} walks, {steps} steps");
        assert!(steps > 1_000);
    });
}

on_every_engine! {
    the_store_takes_every_kind_of_step
    the_store_takes_the_models_walks
}
