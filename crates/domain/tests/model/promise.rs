//! What the protocol promises, in every moment of every world: any number of faults, in any order.

use domain::campaign::OnUnknown;
use domain::send::SendStatus;

use super::action::Fault;
use super::protocol::World;
use super::search::{Explored, explore};

/// A world in which no rule is broken; rules are in `search::broken_rule`.
fn holds(name: &str, world: &World) -> Explored {
    let found = explore(world);
    eprintln!("{name}: {} states", found.states().len());
    if let Some(broken) = &found.broken {
        panic!("{broken}");
    }
    found
}

#[test]
fn nothing_is_lost_and_copies_are_at_most_one_and_the_unknowns() {
    let without = vec![Fault::Suppression];
    let found = holds("any faults, resend", &World { without, ..World::new(OnUnknown::Resend) });
    assert!(found.states().len() > 1_000_000);
    // The faults fired: a model in which nothing goes wrong proves nothing.
    for copies in 0..=2 {
        assert!(found.states().iter().any(|state| state.copies == copies), "never {copies} copies");
    }
}

#[test]
fn a_suppressed_address_gets_no_dot_and_its_send_ends() {
    let without = vec![Fault::Unseen, Fault::Stop, Fault::Break, Fault::Refusal];
    let found = holds("suppression, resend", &World { without, ..World::new(OnUnknown::Resend) });
    assert!(found.states().iter().any(|state| state.status() == Some(SendStatus::Cancelled)));
}

#[test]
fn there_is_no_extra_copy_under_hold() {
    let found = holds("any faults, hold", &World::new(OnUnknown::Hold));
    let statuses = |status| found.states().iter().any(|state| state.status() == Some(status));
    assert!(SendStatus::ALL.iter().all(|status| *status == SendStatus::Skipped || statuses(*status)));
}

#[test]
fn without_kill_cut_and_wrong_reaper_every_end_is_exactly_one_copy() {
    let without = vec![Fault::Kill, Fault::Cut, Fault::WrongReap, Fault::Refusal, Fault::Suppression];
    let found = holds("no kill, cut or wrong reaper", &World { without, ..World::new(OnUnknown::Resend) });
    assert!(found.states().iter().all(|state| state.row.is_none_or(|row| row.unknowns == 0)));
    let ends: Vec<_> = found.states().iter().filter(|state| state.is_settled()).collect();
    assert!(!ends.is_empty());
    assert!(ends.iter().all(|end| end.status() == Some(SendStatus::Sent) && end.copies == 1));
}

#[test]
fn refusals_without_kill_cut_and_wrong_reaper_make_no_extra_copy() {
    let without = vec![Fault::Kill, Fault::Cut, Fault::WrongReap];
    let found = holds("refusals, no kill, cut or wrong reaper", &World { without, ..World::new(OnUnknown::Resend) });
    let of_one = |status| {
        found
            .states()
            .iter()
            .filter(|state| state.is_settled() && state.copies == 1)
            .any(|end| end.status() == Some(status))
    };
    assert!(SendStatus::ALL.iter().all(|status| of_one(*status) == (*status == SendStatus::Sent)));
}
