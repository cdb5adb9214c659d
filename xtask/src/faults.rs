//! The faults of `docs/design/faults.md`, and what became of the tests that are named by their numbers.
//!
//! Not responsible for running them. To add a fault: a row of the page, and a test whose name begins with its number; one
//! that comes with a part of the product that is not there yet says so: `(with the …)` before what is expected.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/design/faults.md");

/// A row of the page.
struct Fault {
    number: &'static str,
    name: &'static str,
    /// Its part of the product is still to come.
    is_later: bool,
}

/// What became of the tests of one fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tried {
    passed: u64,
    failed: u64,
}

/// What became of the tests of every fault.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(BTreeMap<String, Tried>);

impl Faults {
    /// Takes one line of `cargo test`'s output.
    pub(crate) fn take(&mut self, line: &str) {
        let Some((path, verdict)) = line.strip_prefix("test ").and_then(|test| test.split_once(" ... ")) else {
            return;
        };
        for number in numbers(path) {
            self.add(number, verdict.ends_with("ok"));
        }
    }

    /// One more test of this fault.
    pub(crate) fn add(&mut self, number: String, passed: bool) {
        let tried = self.0.entry(number).or_default();
        *(if passed { &mut tried.passed } else { &mut tried.failed }) += 1;
    }

    fn of(&self, fault: &Fault) -> Tried {
        self.0.get(fault.number).copied().unwrap_or_default()
    }

    /// The numbers of those that no test has tried and that are not for later.
    pub(crate) fn untried(&self) -> Vec<&'static str> {
        rows().filter(|fault| !fault.is_later && self.of(fault) == Tried::default()).map(|fault| fault.number).collect()
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.0.values().filter(|tried| tried.failed > 0).count()
    }

    /// How many fired, of how many: in one line.
    pub(crate) fn summary(&self) -> String {
        let fired = rows().map(|fault| self.of(&fault)).filter(|tried| tried.passed > 0 && tried.failed == 0).count();
        let later: Vec<&str> = rows().filter(|fault| fault.is_later).map(|fault| fault.number).collect();
        format!("faults: {fired} of {} fired and were survived; {} for later", rows().count(), later.join(", "))
    }

    /// What was found of each row.
    pub(crate) fn json(&self) -> Vec<Value> {
        let object = |fault: Fault| {
            let Tried { passed, failed } = self.of(&fault);
            json!({ "no": fault.number, "later": fault.is_later, "passed": passed, "failed": failed })
        };
        rows().map(object).collect()
    }

    /// The page with what was found, as a table.
    pub(crate) fn table(&self) -> String {
        let mut text = "| no. | fault | tests that saw it fire | failed |\n|---|---|---|---|".to_owned();
        for fault in rows() {
            let Tried { passed, failed } = self.of(&fault);
            let passed = if fault.is_later { "later".to_owned() } else { passed.to_string() };
            text.push_str(&format!("\n| {} | {} | {passed} | {failed} |", fault.number, fault.name));
        }
        text
    }
}

/// Each row of the page.
fn rows() -> impl Iterator<Item = Fault> {
    PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?;
        let name = cells.next().unwrap_or_default();
        let is_later = cells.next().is_some_and(|expected| expected.starts_with("(with "));
        (number.starts_with('F') && number.len() == 4).then_some(Fault { number, name, is_later })
    })
}

/// The faults that a test's name speaks of: `fp06_and_fp07_…` two, `fp04_to_fp07_…` four.
fn numbers(path: &str) -> Vec<String> {
    let name = path.rsplit("::").next().unwrap_or(path);
    let words: Vec<&str> = name.split('_').collect();
    let number = |word: &str| {
        let (kind, digits) = (word.get(..2)?, word.get(2..)?);
        (["fp", "fr", "fd", "fs"].contains(&kind) && digits.len() == 2)
            .then_some((kind.to_uppercase(), digits.parse::<u32>().ok()?))
    };
    let mut found = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let Some((kind, last)) = number(word) else { continue };
        let first = match place.checked_sub(2).map(|before| (words[before], words[before + 1])) {
            Some((before, "to")) => number(before).map_or(last, |(_, first)| first + 1),
            _ => last,
        };
        found.extend((first..=last).map(|no| format!("{kind}{no:02}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_speak_of_one_fault_of_two_or_of_a_range() {
        assert_eq!(numbers("redis::faults::fr04_a_replica_refuses"), ["FR04"]);
        assert_eq!(numbers("fault_points::sqlite::fp06_and_fp07_under_hold"), ["FP06", "FP07"]);
        assert_eq!(numbers("fault_points::redis::fp04_to_fp07_a_worker"), ["FP04", "FP05", "FP06", "FP07"]);
        assert!(numbers("store::sqlite::a_case_of_fs_and_fp").is_empty());
    }

    #[test]
    fn the_page_has_every_fault_once() {
        let numbers: Vec<&str> = rows().map(|fault| fault.number).collect();
        let mut once = numbers.clone();
        once.dedup();
        assert_eq!((numbers.len(), once.len()), (75, 75));
    }

    #[test]
    fn a_fault_without_a_test_is_told() {
        let mut faults = Faults::default();
        assert_eq!(faults.untried().len(), 74, "one is for later");
        faults.take("test fault_points::sqlite::fp04_to_fp07_a_worker ... ok");
        faults.take("test a::fs36_a_name ... FAILED");
        assert_eq!((faults.untried().len(), faults.failed()), (69, 1));
        assert!(faults.summary().starts_with("faults: 4 of 75 fired"), "{}", faults.summary());
    }
}
