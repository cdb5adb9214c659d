//! The faults of `docs/design/faults.md`, and what became of the tests that are named by their numbers, on each engine.
//!
//! Not responsible for running them. To add a fault: a row of the page, and a test on every engine whose name begins with
//! its number; where an engine can have none, a row of the page's second table says why. A fault that comes with a part of
//! the product that is not there yet says so: `(with the …)` before what is expected.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/design/faults.md");
/// What opens the page's table of engines without a test.
const EXEMPTIONS: &str = "\n## Engines without a test of their own\n";
/// What ledger and queue lie in: each fault must be tried on each.
const ENGINES: [&str; 3] = ["sqlite", "postgres", "redis"];

/// A row of the page.
struct Fault {
    number: &'static str,
    name: &'static str,
    /// Its part of the product is still to come.
    is_later: bool,
}

/// What became of the tests of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tried {
    passed: u64,
    failed: u64,
    /// How many there were on each engine; one whose path names none counts on none.
    on: BTreeMap<&'static str, u64>,
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
            self.add(number, engine(path), verdict.ends_with("ok"));
        }
    }

    /// One more test of this fault, on this engine; none is no engine in particular.
    pub(crate) fn add(&mut self, number: String, engine: Option<&str>, passed: bool) {
        let tried = self.0.entry(number).or_default();
        *(if passed { &mut tried.passed } else { &mut tried.failed }) += 1;
        if let Some(engine) = ENGINES.into_iter().find(|known| Some(*known) == engine) {
            *tried.on.entry(engine).or_default() += 1;
        }
    }

    fn of(&self, fault: &Fault) -> Tried {
        self.0.get(fault.number).cloned().unwrap_or_default()
    }

    /// Faults that are not for later and that no test has tried, or none on one of these engines, which the page does not
    /// excuse; and what it excuses though there is a test. A line each.
    pub(crate) fn gaps(&self, wanted: &[String]) -> Vec<String> {
        let wanted: Vec<&str> = ENGINES.into_iter().filter(|engine| wanted.iter().any(|word| word == engine)).collect();
        let mut lines = Vec::new();
        for fault in rows().filter(|fault| !fault.is_later) {
            let (number, tried) = (fault.number, self.of(&fault));
            if tried == Tried::default() {
                lines.push(format!("{number} has no test"));
                continue;
            }
            for engine in &wanted {
                match (tried.on.contains_key(engine), is_exempt(number, engine)) {
                    (false, false) => lines.push(format!("{number} has no test on {engine}")),
                    (true, true) => lines.push(format!("{number} has a test on {engine}, which the page excuses")),
                    (true, false) | (false, true) => {}
                }
            }
        }
        lines
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.0.values().filter(|tried| tried.failed > 0).count()
    }

    /// How many fired, of how many: in one line.
    pub(crate) fn summary(&self) -> String {
        let fired = rows().map(|fault| self.of(&fault)).filter(|tried| tried.passed > 0 && tried.failed == 0).count();
        let later: Vec<&str> = rows().filter(|fault| fault.is_later).map(|fault| fault.number).collect();
        let on = |engine| rows().filter(|fault| self.of(fault).on.contains_key(engine)).count();
        let on: Vec<String> = ENGINES.iter().map(|engine| format!("{} on {engine}", on(engine))).collect();
        let (of, on, later) = (rows().count(), on.join(", "), later.join(", "));
        format!("faults: {fired} of {of} fired and were survived, {on}; {later} for later")
    }

    /// What was found of each row.
    pub(crate) fn json(&self) -> Vec<Value> {
        let object = |fault: Fault| {
            let Tried { passed, failed, on } = self.of(&fault);
            json!({ "no": fault.number, "later": fault.is_later, "passed": passed, "failed": failed, "tests_on": on })
        };
        rows().map(object).collect()
    }

    /// The page with what was found, as a table.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "| no. | fault | tests that saw it fire | {} | failed |\n|---|---|---|{}---|",
            ENGINES.map(|engine| format!("on {engine}")).join(" | "),
            "---|".repeat(ENGINES.len())
        );
        for fault in rows() {
            let Tried { passed, failed, on } = self.of(&fault);
            let passed = if fault.is_later { "later".to_owned() } else { passed.to_string() };
            let on = ENGINES.map(|engine| on.get(engine).map_or_else(|| "-".to_owned(), u64::to_string)).join(" | ");
            text.push_str(&format!("\n| {} | {} | {passed} | {on} | {failed} |", fault.number, fault.name));
        }
        text
    }
}

/// The page in two: faults, and the table of engines without a test.
fn parts() -> (&'static str, &'static str) {
    PAGE.split_once(EXEMPTIONS).unwrap_or((PAGE, ""))
}

/// Each row of the page.
fn rows() -> impl Iterator<Item = Fault> {
    parts().0.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number = cells.next()?;
        let name = cells.next().unwrap_or_default();
        let is_later = cells.next().is_some_and(|expected| expected.starts_with("(with "));
        (number.starts_with('F') && number.len() == 4).then_some(Fault { number, name, is_later })
    })
}

/// Each fault and engine that the page excuses; `FS01 to FS03, FS05` are four faults.
fn exemptions() -> impl Iterator<Item = (String, &'static str)> {
    let lines = parts().1.lines().take_while(|line| !line.starts_with("## "));
    lines.filter_map(|line| line.strip_prefix("| ").filter(|row| row.starts_with('F'))).flat_map(|row| {
        let mut cells = row.split(" | ");
        let mut cell = || cells.next().unwrap_or_default();
        let (faults, engines) = (cell().to_lowercase().replace([',', ' '], "_"), cell());
        numbers(&faults).into_iter().flat_map(move |no| engines.split(", ").map(move |engine| (no.clone(), engine)))
    })
}

fn is_exempt(number: &str, engine: &str) -> bool {
    exemptions().any(|(no, on)| no == number && on == engine)
}

/// The engine that a test's path names: its innermost module with an engine's name among its words.
fn engine(path: &str) -> Option<&'static str> {
    let (modules, _) = path.rsplit_once("::")?;
    let named = |module: &str| ENGINES.into_iter().find(|engine| module.split('_').any(|word| word == *engine));
    modules.rsplit("::").find_map(named)
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
    use std::collections::BTreeSet;

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
    fn the_innermost_module_that_names_an_engine_tells_it() {
        assert_eq!(engine("postgres_faults::redis::fd01_a_server"), Some("redis"));
        assert_eq!(engine("redis_faults::fr01_a_flush"), Some("redis"));
        assert_eq!(engine("tracker::fr03_without_redis"), None, "a test's own name tells none");
    }

    #[test]
    fn what_is_excused_is_a_fault_of_the_page_on_an_engine() {
        let all: Vec<(String, &str)> = exemptions().collect();
        let is_known = |(no, engine): &(String, &str)| {
            rows().any(|fault| fault.number == no && !fault.is_later) && ENGINES.contains(engine)
        };
        assert!(!all.is_empty() && all.iter().all(is_known), "{all:?}");
        let once: BTreeSet<&(String, &str)> = all.iter().collect();
        assert_eq!(once.len(), all.len(), "each once: {all:?}");
        assert!(parts().1.lines().filter(|line| line.starts_with("| F")).all(|line| line.split(" | ").count() == 3));
    }

    fn gaps(faults: &Faults, engines: &[&str]) -> Vec<String> {
        faults.gaps(&engines.iter().map(|&engine| engine.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_fault_without_a_test_is_told() {
        let mut faults = Faults::default();
        assert_eq!(gaps(&faults, &ENGINES).len(), 74, "one is for later");
        faults.take("test fault_points::sqlite::fp04_to_fp07_a_worker ... ok");
        faults.take("test a::fs36_a_name ... FAILED");
        assert_eq!((gaps(&faults, &["sqlite"]).len(), faults.failed()), (69, 1));
        assert!(faults.summary().starts_with("faults: 4 of 75 fired"), "{}", faults.summary());
    }

    #[test]
    fn an_engine_without_a_test_and_an_excuse_without_a_need_are_told() {
        let mut faults = Faults::default();
        for engine in ["sqlite", "postgres"] {
            faults.take(&format!("test fault_points::{engine}::fp04_a_worker ... ok"));
            faults.take(&format!("test overtaken::{engine}::fp10_an_owner ... ok"));
        }
        let lines = gaps(&faults, &ENGINES);
        let of = |number: &str| lines.iter().filter(|line| line.starts_with(number)).cloned().collect::<Vec<_>>();
        assert_eq!(of("FP04"), ["FP04 has no test on redis"]);
        assert_eq!(of("FP10"), ["FP10 has a test on sqlite, which the page excuses", "FP10 has no test on redis"]);
        assert!(!gaps(&faults, &["sqlite"]).iter().any(|line| line.starts_with("FP04")), "redis was not asked for");
    }
}
