//! The store's functions as the sources have them, so that a test over all of them can forget none.
//!
//! Not responsible for calling them (`foreign_ids`, `tenancy`). To follow another form of declaration: `functions_of`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A public function of a type.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    /// Types of its parameters, and words that stand among them.
    pub parameters: BTreeSet<String>,
}

/// Sources of this crate and of `domain`, whose types the parameters have.
fn sources() -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = vec![crates.join("engines/src"), crates.join("domain/src")];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The public functions of a type, by its `impl` blocks.
pub fn functions_of(owner: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for text in sources() {
        for block in text.split(&format!("\nimpl {owner} {{\n")).skip(1) {
            let block = block.split("\n}").next().unwrap();
            for head in block.split("\n    pub ").skip(1) {
                let Some(head) = head.trim_start_matches("async ").strip_prefix("fn ") else { continue };
                let (head, _) = head.split_once(" {\n").unwrap();
                let (name, rest) = head.split_once(['(', '<']).unwrap();
                let parameters = rest.rsplit_once(" -> ").map_or(rest, |(parameters, _)| parameters);
                let parameters = words(parameters).map(str::to_owned).collect();
                found.push(Function { name: name.to_owned(), parameters });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Types that hold a `TenantId`, at whatever depth, and that one itself.
pub fn types_with_a_tenant() -> BTreeSet<String> {
    let texts = sources();
    let bodies = texts.iter().flat_map(|text| text.split("\npub struct ").skip(1)).filter_map(|text| {
        let (head, _) = text.split_once("\n}")?;
        let (name, fields) = head.split_once(" {\n")?;
        // Of the fields the types alone: a comment may name any.
        let fields: String = fields.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        Some((words(name).next()?.to_owned(), words(&fields).map(str::to_owned).collect::<BTreeSet<_>>()))
    });
    let bodies: Vec<(String, BTreeSet<String>)> = bodies.collect();
    let mut found = BTreeSet::from(["TenantId".to_owned()]);
    loop {
        let more: Vec<&String> =
            bodies.iter().filter(|(_, fields)| !fields.is_disjoint(&found)).map(|(name, _)| name).collect();
        let before = found.len();
        found.extend(more.into_iter().cloned());
        if found.len() == before {
            return found;
        }
    }
}
