//! What the operations page and files say must be true of the binary: commands, options, variables, hardening.
//!
//! To add a file: a call in the test of what it holds.

#![expect(clippy::unwrap_used, reason = "a file that is not there has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap()
}

fn penguinmails(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penguinmails")).args(arguments).env_clear().output().unwrap()
}

/// The commands of `page`: the words behind `penguinmails` up to what ends a command there.
fn commands(page: &str) -> BTreeSet<Vec<String>> {
    let starts = page.match_indices("penguinmails ").filter(|(at, _)| {
        let before = page[..*at].chars().next_back();
        matches!(before, Some('`' | ' ' | '\n' | '/'))
    });
    let mut found = BTreeSet::new();
    for (at, start) in starts {
        let rest = &page[at + start.len()..];
        let line = rest.split(['`', '\n', ';', '&', '|', '#', '(']).next().unwrap();
        // `sudo -u penguinmails penguinmails …`: the user has the program's name.
        let words = line.split_whitespace().skip_while(|word| *word == "penguinmails");
        let words: Vec<String> = words.map(str::to_owned).collect();
        // Options may stand before the command; anything else that is no small word is prose or a path.
        let is_command = words.iter().any(|word| word.chars().all(|c| c.is_ascii_lowercase()));
        if is_command {
            found.insert(words);
        }
    }
    found
}

/// Asks for help with these words: options and commands that do not exist are refused before it is shown.
fn is_known(words: &[String]) -> Result<(), String> {
    // Which parts there are is said by the unit's own variable.
    let arguments: Vec<&str> = words.iter().map(|word| if word == "${PARTS}" { "worker" } else { word }).collect();
    let output = penguinmails(&[&arguments[..], &["--help"]].concat());
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let missing = words.iter().filter(|w| w.starts_with("--")).find(|w| !help.contains(w.split('=').next().unwrap()));
    match (output.status.success(), missing) {
        (true, None) => Ok(()),
        (true, Some(option)) => Err(format!("{words:?} has no option {option}")),
        (false, _) => Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

#[test]
fn every_command_of_the_page_exists_with_its_options() {
    let found = commands(&text("docs/operations.md"));
    assert!(found.len() >= 15, "the page names commands: {found:?}");
    for words in &found {
        is_known(words).unwrap();
    }
    assert!(is_known(&["queue".into(), "emptied".into()]).is_err(), "a command that does not exist is found");
    assert!(is_known(&["doctor".into(), "--mend".into()]).is_err(), "and so is an option");
}

#[test]
fn every_variable_of_page_and_files_is_one_of_ours() {
    let known = String::from_utf8(penguinmails(&["config", "example", "--env"]).stdout).unwrap();
    for path in ["docs/operations.md", "ops/compose.yaml", "ops/Containerfile"] {
        let content = text(path);
        let words = content
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .filter(|word| word.trim_matches('_').contains('_'));
        let ours: BTreeSet<&str> = words.filter(|word| !word.starts_with("POSTGRES_")).collect();
        assert!(!ours.is_empty(), "{path} names variables: {ours:?}");
        for name in ours {
            assert!(known.contains(&format!("#{name}=")), "{path}: {name} is none of `config example --env`");
        }
    }
}

#[test]
fn units_are_hardened_alike_and_start_what_exists() {
    let [one, each] = ["ops/systemd/penguinmails.service", "ops/systemd/penguinmails@.service"].map(text);
    let body = |unit: &str| unit.split_once("\nUser=").unwrap().1.to_owned();
    assert_eq!(body(&one), body(&each), "both units are hardened alike");
    for line in
        ["ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n", "StateDirectory=penguinmails"]
    {
        assert!(one.contains(line), "{line}");
    }
    for unit in [&one, &each] {
        let command =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/penguinmails ")).unwrap();
        is_known(&command.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap();
    }
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        if let Ok(log) = std::env::var("TEST_SKIP_LOG") {
            use std::io::Write as _;
            let mut log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            writeln!(log, "operations: there is no systemd-analyze").unwrap();
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in
        [("penguinmails.service", "penguinmails.service"), ("penguinmails@.service", "penguinmails@w.service")]
    {
        let unit = text(&format!("ops/systemd/{from}"));
        // It looks whether the program is there.
        let here = unit.replace("/usr/local/bin/penguinmails", env!("CARGO_BIN_EXE_penguinmails"));
        let path = dir.path().join(to);
        std::fs::write(&path, &here).unwrap();
        let verify = || Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = verify();
        assert!(said.status.success() && said.stderr.is_empty(), "{from}: {}", String::from_utf8_lossy(&said.stderr));
        std::fs::write(&path, here.replace("ProtectSystem=strict", "ProtectSystem=sternly")).unwrap();
        assert!(!verify().stderr.is_empty(), "a wrong line is told");
    }
}

#[test]
fn containers_run_without_rights_and_redis_keeps_its_jobs() {
    let compose = text("ops/compose.yaml");
    for line in ["read_only: true", "cap_drop: [ALL]", "--appendonly, \"yes\"", "--maxmemory-policy, noeviction"] {
        assert!(compose.contains(line), "{line}");
    }
    for line in compose.lines().filter_map(|line| line.trim().strip_prefix("command: [")) {
        let words: Vec<String> = line.trim_end_matches(']').split(", ").map(str::to_owned).collect();
        if !["postgres", "redis-server"].contains(&words[0].as_str()) {
            is_known(&words).unwrap();
        }
    }
    let image = text("ops/Containerfile");
    assert_eq!(image.matches("\nFROM ").count(), 2, "what builds is not what runs");
    assert!(image.contains("\nUSER 10001:10001\n"));
}
