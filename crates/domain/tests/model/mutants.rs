//! Ways to get the protocol wrong: the model must catch each, else it proves nothing. Each prints its shortest trace.
//!
//! To add one: a `Mutant`, and a test here that says which promise it breaks, and by which faults.

use domain::campaign::OnUnknown;

use super::action::{Action as A, Fault};
use super::protocol::{Mutant, World};
use super::search::{LOST, Violation, explore};
use super::state::End;

/// The shortest way in which a mutant breaks a promise where these faults happen; without it they break none.
fn caught(mutant: Mutant, faults: &[Fault], rule: &str) -> Violation {
    let without: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| !faults.contains(fault)).collect();
    let mut world = World { without, ..World::new(OnUnknown::Resend) };
    if let Some(broken) = explore(&world).broken {
        panic!("the protocol itself: {broken}");
    }
    world.mutant = Some(mutant);
    let found = explore(&world);
    let count = found.states().len();
    let broken = found.broken.unwrap_or_else(|| panic!("{mutant:?} broke nothing in {count} states"));
    eprintln!("{mutant:?} after {count} states: {broken}");
    assert_eq!(broken.rule, rule);
    broken
}

#[test]
fn no_fence_at_p5_sends_a_third_copy() {
    caught(Mutant::NoFence, &[Fault::Cut, Fault::WrongReap, Fault::Twice], "more than two copies");
}

#[test]
fn no_fence_at_p5_sends_before_its_time() {
    caught(Mutant::NoFence, &[Fault::Refusal], "a dot was granted before its time");
}

#[test]
fn a_dot_after_a_commit_in_doubt_is_an_extra_copy() {
    let broken = caught(Mutant::DotInDoubt, &[Fault::Doubt], "an extra copy without kill, cut or wrong reaper");
    assert!(broken.trace.iter().any(|step| matches!(step, A::IntendInDoubt(..))));
}

#[test]
fn without_reconciling_a_hint_that_was_never_pushed_loses_the_send() {
    assert_eq!(caught(Mutant::NoReconcile, &[Fault::Lost], LOST).trace, [A::PlanUnheard]);
}

#[test]
fn without_reconciling_an_emptied_queue_loses_the_send() {
    assert_eq!(caught(Mutant::NoReconcile, &[Fault::Flush], LOST).trace, [A::Plan, A::Flush]);
}

#[test]
fn without_reconciling_a_deferred_send_never_comes_again() {
    let broken = caught(Mutant::NoReconcile, &[Fault::Refusal], LOST);
    assert!(broken.trace.contains(&A::Refuse(0, End::Retry)));
}

#[test]
fn recovery_by_age_is_an_extra_copy_without_any_crash() {
    caught(Mutant::RecoverByAge, &[], "an extra copy without kill, cut or wrong reaper");
}

/// Nothing else has to happen: the queue kept the only word of the job, and whoever popped it is dead.
#[test]
fn brpop_and_a_kill_lose_the_send() {
    assert_eq!(caught(Mutant::Brpop, &[Fault::Kill], LOST).trace, [A::Plan, A::Lease(0), A::Kill(0)]);
}

#[test]
fn results_without_fence_are_an_extra_copy() {
    let rule = "an extra copy without kill, cut or wrong reaper";
    caught(Mutant::ResultWithoutFence, &[Fault::Refusal], rule);
}

#[test]
fn a_known_outcome_that_keeps_the_fence_sends_before_its_time() {
    caught(Mutant::ResultKeepsFence, &[Fault::Refusal], "a dot was granted before its time");
}

#[test]
fn a_withdrawal_of_anybodys_intent_is_an_extra_copy() {
    let rule = "an extra copy without kill, cut or wrong reaper";
    caught(Mutant::WithdrawAnyOwners, &[Fault::Doubt], rule);
}

#[test]
fn resending_every_unknown_is_a_third_copy() {
    caught(Mutant::ResendForEver, &[Fault::Cut], "more than two copies");
}

#[test]
fn an_owner_that_no_heartbeat_names_any_more_keeps_its_dot_for_ever() {
    let broken = caught(Mutant::OwnersByHeartbeat, &[Fault::WrongReap, Fault::Kill], LOST);
    assert!(broken.trace.iter().any(|step| matches!(step, A::Reap(_))));
    let broken = caught(Mutant::OwnersByHeartbeat, &[Fault::Unseen, Fault::Stop, Fault::Kill], LOST);
    assert!(broken.trace.iter().any(|step| matches!(step, A::StartUnseen(_))));
}

#[test]
fn no_last_look_sends_to_a_suppressed_address() {
    caught(Mutant::NoLastLook, &[Fault::Suppression], "a dot was granted to a suppressed address");
}
