//! Cases of edits: who is who, and where leads go on.

use super::*;
use crate::ids::StepId;
use crate::step::ConditionType;

const HOUR: Duration = Duration::from_secs(3600);

fn mark<'a>(key: Option<&'a str>, subject: &'a str) -> Mark<'a> {
    Mark { key, step_type: StepType::Email, text: Some([subject, "<p>Hi</p>", ""]) }
}

fn mails<'a>(subjects: &[&'a str]) -> Vec<Mark<'a>> {
    subjects.iter().map(|subject| mark(None, subject)).collect()
}

fn known<'a>(marks: &[Mark<'a>]) -> Vec<Known<'a>> {
    marks.iter().map(|mark| Known { mark: *mark, is_removed: false }).collect()
}

const WAIT: Mark<'static> = Mark { key: None, step_type: StepType::Wait, text: None };

#[test]
fn steps_without_keys_are_known_by_their_texts_else_by_their_place() {
    for (stored, given, expected) in [
        // Unchanged, added, left out.
        (&["a", "b"][..], &["a", "b"][..], Ok(vec![Some(0), Some(1)])),
        (&["a", "b"], &["a", "b", "c"], Ok(vec![Some(0), Some(1), None])),
        (&["a", "b"], &["a", "x", "b"], Ok(vec![Some(0), None, Some(1)])),
        (&["a", "b"], &["x", "a", "b"], Ok(vec![None, Some(0), Some(1)])),
        (&["a", "b", "c"], &["a", "c"], Ok(vec![Some(0), Some(2)])),
        // Moved.
        (&["a", "b", "c"], &["a", "c", "b"], Ok(vec![Some(0), Some(2), Some(1)])),
        // Changed where they stand.
        (&["a", "b"], &["a", "B"], Ok(vec![Some(0), Some(1)])),
        (&["a", "b", "c"], &["a", "B", "c"], Ok(vec![Some(0), Some(1), Some(2)])),
        (&["a", "b"], &["A", "B"], Ok(vec![Some(0), Some(1)])),
        // The same text twice.
        (&["a", "a"], &["a", "a", "b"], Ok(vec![Some(0), Some(1), None])),
        // Changed and added, or changed and left out, at once.
        (&["a", "b"], &["a", "B", "c"], Err(Unclear { given: 1 })),
        (&["a", "b", "c"], &["a", "B"], Err(Unclear { given: 1 })),
    ] {
        assert_eq!(recognize(&known(&mails(stored)), &mails(given)), expected, "{stored:?} -> {given:?}");
    }
}

#[test]
fn a_key_tells_what_texts_and_places_cannot() {
    let stored = [mark(Some("hello"), "a"), mark(Some("offer"), "b")];
    let given = [mark(Some("hello"), "a"), mark(Some("news"), "x"), mark(Some("offer"), "B")];
    assert_eq!(recognize(&known(&stored), &given), Ok(vec![Some(0), None, Some(1)]));
    let moved = [mark(Some("offer"), "a"), mark(Some("hello"), "b")];
    assert_eq!(recognize(&known(&stored), &moved), Ok(vec![Some(1), Some(0)]), "though their texts say otherwise");
    // Steps get keys later, and lose them again.
    assert_eq!(recognize(&known(&mails(&["a", "b"])), &stored), Ok(vec![Some(0), Some(1)]));
    assert_eq!(recognize(&known(&stored), &mails(&["a", "B"])), Ok(vec![Some(0), Some(1)]));
}

#[test]
fn a_step_never_becomes_one_of_another_kind() {
    let keyed = |step_type| Mark { key: Some("k"), step_type, text: None };
    let stored = known(&[mark(None, "a"), keyed(StepType::Wait)]);
    assert_eq!(recognize(&stored, &[mark(None, "a"), keyed(StepType::Condition)]), Ok(vec![Some(0), None]));
    let stored = known(&[mark(None, "a"), WAIT, mark(None, "b")]);
    assert_eq!(
        recognize(&stored, &[mark(None, "a"), WAIT, WAIT, mark(None, "B")]),
        Ok(vec![Some(0), Some(1), None, Some(2)])
    );
}

#[test]
fn a_removed_step_comes_back_by_its_text_or_key_and_never_by_its_place() {
    let mut stored = known(&mails(&["a", "b"]));
    stored[1].is_removed = true;
    assert_eq!(recognize(&stored, &mails(&["a", "b"])), Ok(vec![Some(0), Some(1)]));
    assert_eq!(recognize(&stored, &mails(&["a", "B"])), Ok(vec![Some(0), None]));
}

#[test]
fn kept_steps_stand_behind_what_stood_before_them() {
    use Entry::{Given, Kept};
    // a b c, and b is left out.
    assert_eq!(arrange(&[Some(0), Some(2)], &[1]), [Given(0), Kept(1), Given(1)]);
    // The first two are left out.
    assert_eq!(arrange(&[Some(2)], &[0, 1]), [Kept(0), Kept(1), Given(0)]);
    // x is put behind a, and b, which stood there, was removed before.
    assert_eq!(arrange(&[Some(0), None], &[1]), [Given(0), Kept(1), Given(1)]);
}

/// Steps by letters with their waits in hours: capital letters are mails, `w` waits, `?` conditions.
fn steps(text: &[(u128, char, u64)]) -> Vec<Step> {
    let step = |(order, (id, kind, hours)): (u32, &(u128, char, u64))| Step {
        id: StepId::from_uuid(uuid::Uuid::from_u128(*id)),
        step_order: order,
        step_type: match kind {
            'w' => StepType::Wait,
            '?' => StepType::Condition,
            _ => StepType::Email,
        },
        email_account_id: None,
        template_id: None,
        wait: HOUR * u32::try_from(*hours).unwrap(),
        wait_until: None,
        condition: ConditionType::Opened.into(),
        stop_if_false: false,
        is_active: true,
    };
    (1..).zip(text).map(step).collect()
}

/// From one list of steps to another; the same id is the same step, and none is kept.
fn edit(before: &[(u128, char, u64)], after: &[(u128, char, u64)]) -> Edit {
    let (before, after) = (steps(before), steps(after));
    let new = |old: &Step| after.iter().find(|new| new.id == old.id).map(|new| (old.step_order, new.step_order));
    let orders = before.iter().filter_map(new).collect();
    Edit { before, after, orders }
}

const A: (u128, char, u64) = (1, 'A', 0);
const B: (u128, char, u64) = (2, 'B', 48);
const C: (u128, char, u64) = (3, 'C', 24);
const X: (u128, char, u64) = (9, 'X', 10);

fn waits(hours: u32) -> Option<Wait> {
    Some(Wait { elapsed: HOUR * hours, until: None })
}

fn at(next: u32, sent: u32) -> Place {
    Place { next, sent }
}

fn goes_on(next: u32, sent: u32, wait: Option<Wait>) -> Resumed {
    Resumed { place: at(next, sent), is_over: false, wait }
}

#[test]
fn nothing_changes_where_nothing_was_changed() {
    let same = edit(&[A, B, C], &[A, B, C]);
    assert!(!same.changes_the_walk());
    assert_eq!(same.resumed(at(2, 1), false), goes_on(2, 1, None));
    assert_eq!(same.resumed(at(2, 1), true), goes_on(2, 1, waits(48)));
    assert_eq!((same.changed_wait(at(2, 1)), same.reopened(at(3, 3))), (None, None));
}

#[test]
fn a_step_added_ahead_of_a_lead_is_got_and_one_behind_it_is_not() {
    let edit = edit(&[A, B, C], &[A, X, B, C]);
    assert!(edit.changes_the_walk());
    assert_eq!(edit.resumed(at(1, 0), false), goes_on(1, 0, None), "it comes there by itself");
    assert_eq!(edit.resumed(at(2, 1), false), goes_on(2, 1, waits(10)), "next now, after its own wait");
    assert_eq!(edit.resumed(at(3, 2), false), goes_on(4, 3, None), "its place is passed");
    assert_eq!(edit.moved(at(3, 2)), at(4, 3));
}

#[test]
fn a_step_added_at_the_end_is_got_by_who_is_under_way_and_by_others_when_they_are_reopened() {
    let edit = edit(&[A, B], &[A, B, X]);
    assert_eq!(edit.resumed(at(2, 1), false), goes_on(2, 1, None));
    assert_eq!(edit.reopened(at(2, 2)), Some(goes_on(3, 2, waits(10))));
}

#[test]
fn a_removed_step_is_passed_over_without_its_wait() {
    let edit = edit(&[A, B, C], &[A, C]);
    assert_eq!(edit.resumed(at(2, 1), false), goes_on(2, 1, waits(24)));
    assert_eq!(edit.resumed(at(3, 2), false).place, at(2, 1), "whoever was sent it stands behind the step before it");
    let last = self::edit(&[A, B], &[A]);
    assert_eq!(last.resumed(at(2, 1), false), Resumed { place: at(1, 1), is_over: true, wait: None });
}

#[test]
fn each_known_step_is_got_once_wherever_it_stands_now() {
    let edit = edit(&[A, B, C], &[A, C, B]);
    assert_eq!(edit.resumed(at(2, 1), false), goes_on(2, 1, waits(24)), "C is next");
    assert_eq!(edit.resumed(at(3, 2), false), goes_on(2, 3, None), "C is still to come, as long after B as it was");
}

#[test]
fn a_step_that_comes_back_is_got_by_who_was_never_sent_it() {
    let mut back = edit(&[A, B, C], &[A, B, C]);
    back.before.remove(1);
    assert_eq!(back.resumed(at(3, 1), false), goes_on(2, 1, waits(48)), "it was passed over while it was away");
    assert_eq!(back.resumed(at(3, 2), false), goes_on(3, 2, None), "it was sent before");
}

#[test]
fn a_changed_wait_counts_for_who_waits_for_it() {
    let longer = edit(&[A, B, C], &[A, (2, 'B', 72), C]);
    assert_eq!(longer.resumed(at(2, 1), false), goes_on(2, 1, waits(72)));
    assert_eq!(longer.resumed(at(3, 2), false), goes_on(3, 2, None));
    assert_eq!(longer.changed_wait(at(2, 1)), waits(72));
    assert_eq!(longer.changed_wait(at(3, 2)), None);
    let between = edit(&[A, (5, 'w', 5), (6, '?', 7), B], &[A, (5, 'w', 6), (6, '?', 7), B]);
    assert_eq!(between.resumed(at(4, 1), false), goes_on(4, 1, waits(6 + 7 + 48)), "all on the way adds up");
    assert_eq!(between.resumed(at(3, 1), false), goes_on(3, 1, waits(6 + 7)));
}

#[test]
fn a_date_on_the_way_holds_and_later_waits_count_from_it() {
    let date = Timestamp::from_unix_seconds(1_000_000);
    let mut dated = edit(&[A, (5, 'w', 5), B], &[A, (5, 'w', 5), B]);
    dated.after[1].wait_until = Some(date);
    let wait = Wait { elapsed: 53 * HOUR, until: Some(date + 48 * HOUR) };
    assert_eq!(dated.resumed(at(3, 1), false), goes_on(3, 1, Some(wait)));
}

#[test]
fn a_step_switched_off_is_still_waited_for_and_then_skipped() {
    let mut off = edit(&[A, B, C], &[A, B, C]);
    off.after[1].is_active = false;
    assert!(off.changes_the_walk());
    assert_eq!(off.resumed(at(2, 1), false), goes_on(2, 1, None));
    assert_eq!(off.resumed(at(3, 1), false), goes_on(3, 1, None), "whoever passed it before is not concerned");
    let mut still_off = off;
    still_off.before[1].is_active = false;
    still_off.after[2].wait = 30 * HOUR;
    assert_eq!(still_off.resumed(at(3, 1), false), goes_on(3, 1, waits(48 + 30)), "it was waited for");
}

#[test]
fn the_waits_that_a_false_condition_skipped_with_its_mail_are_not_counted_anew() {
    let same = [A, (5, 'w', 5), (6, '?', 7), (7, 'w', 72), B, (8, 'w', 3), C];
    let same = edit(&same, &same);
    assert_eq!(same.resumed(at(7, 1), true), goes_on(7, 1, waits(5 + 7 + 3 + 24)), "B was skipped");
    assert_eq!(same.resumed(at(5, 1), true), goes_on(5, 1, waits(5 + 7 + 72 + 48)), "the condition held");
    assert_eq!(same.resumed(at(7, 5), true), goes_on(7, 5, waits(3 + 24)), "B was sent");
    let ask = |id| (id, '?', 0);
    let added = edit(&[A, ask(6), (7, 'w', 24), ask(8), B], &[A, ask(6), (7, 'w', 24), X, ask(8), B]);
    assert_eq!(added.resumed(at(5, 1), false), goes_on(6, 1, None), "X skips nothing, since nobody is to get it");
}

#[test]
fn a_condition_that_was_passed_keeps_what_is_added_before_it_passed() {
    let edit = edit(&[A, (6, '?', 0), B], &[A, X, (6, '?', 0), B]);
    assert_eq!(edit.resumed(at(3, 1), false), goes_on(4, 1, None), "X stands before the condition that was asked");
    assert_eq!(edit.resumed(at(2, 1), false), goes_on(2, 1, waits(10)));
}
