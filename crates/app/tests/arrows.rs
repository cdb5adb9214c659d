//! The walls of the house (ARCHITECTURE.md): reads every `use` line, path and manifest, and fails on a wrong arrow.
//!
//! To add a wall: a line in `WALLS`, or in `MANIFESTS` for a dependency.
#![expect(clippy::unwrap_used, reason = "a tree that cannot be read has failed")]

use std::path::{Path, PathBuf};

/// Files below this folder or file, save for the exception, must not hold these words.
struct Wall {
    place: &'static str,
    except: &'static str,
    words: &'static [&'static str],
}

const NONE: &str = "-";

const WALLS: &[Wall] = &[
    Wall {
        place: "domain/src",
        except: NONE,
        words: &["engines::", "mail::", "tokio::", "std::fs", "std::net", "Instant::now", "SystemTime"],
    },
    Wall { place: "engines/src", except: NONE, words: &["mail::", "own_error_delay", "settle::settle("] },
    Wall { place: "mail/src", except: NONE, words: &["engines::", "rusqlite", "tokio_postgres", "redis::"] },
    Wall { place: "app/src/scheduler.rs", except: NONE, words: &["mail::"] },
    Wall { place: "app/src/tracking", except: "unsubscribe.rs", words: &["engines::store", ".store."] },
    Wall { place: "app/src/tracking.rs", except: NONE, words: &["engines::store", ".store."] },
    Wall { place: "app/src/api", except: NONE, words: &["queue::table"] },
    Wall { place: "app/src/api.rs", except: NONE, words: &["queue::table"] },
    Wall { place: "app/src", except: NONE, words: &["rusqlite", "tokio_postgres", "deadpool", "redis::"] },
];

/// A crate and dependencies that its manifest must not name.
const MANIFESTS: &[(&str, &[&str])] = &[
    ("domain", &["engines", "mail", "tokio", "rusqlite", "tokio-postgres", "redis"]),
    ("mail", &["engines", "rusqlite", "tokio-postgres", "redis"]),
    ("engines", &["mail"]),
    ("app", &["rusqlite", "tokio-postgres", "deadpool-postgres", "redis"]),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().unwrap() != "tests.rs" {
            found.push(path);
        }
    }
    found
}

/// Words in code: comments and the tests at a file's end do not count.
fn broken(text: &str, words: &[&str]) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.filter(|line| words.iter().any(|word| holds(line, word))).map(|line| line.trim().to_owned()).collect()
}

/// Whether a line holds a path that begins with the word, not one that ends with it.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        word.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn no_wall_is_broken() {
    let mut found = Vec::new();
    for wall in WALLS {
        let files = sources(&crates().join(wall.place));
        assert!(!files.is_empty(), "{} is gone: mend its wall", wall.place);
        for file in files.iter().filter(|file| !file.ends_with(wall.except)) {
            for line in broken(&std::fs::read_to_string(file).unwrap(), wall.words) {
                found.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "walls are broken (see ARCHITECTURE.md):\n{}", found.join("\n"));
}

#[test]
fn no_manifest_names_what_it_must_not() {
    for (name, forbidden) in MANIFESTS {
        let manifest = std::fs::read_to_string(crates().join(name).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("[dev-dependencies]").next().unwrap();
        for line in dependencies.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            assert!(!forbidden.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn a_broken_wall_is_found() {
    let text = "use engines::store::Store;\n// engines::store in a comment\nlet x = ctx.store.tenant(id);\n";
    assert_eq!(broken(text, &["engines::store", ".store."]).len(), 2);
    assert!(broken("use crate::email::x;\nuse gmail::y;", &["mail::"]).is_empty());
}
