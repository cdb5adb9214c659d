//! Reads TOML that a person wrote, so that every problem names file, line, column and field, and all show at once.
//!
//! Knows no particular file: the configuration and campaign files say which keys they have by asking for them; a key
//! that nobody asked for is a problem. To read another type: give it `Deserialize`; its error becomes the message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Place, Problem, Problems};

/// A parsed file.
pub(crate) struct Document<'t> {
    name: &'t str,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses `text`, what file `name` holds.
    ///
    /// # Errors
    /// The first place that is no TOML.
    pub(crate) fn parse(name: &'t str, text: &'t str) -> Result<Self, Problem> {
        let root = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Problem::new(format!("not valid TOML: {}", error.message().replace('\n', ", ")))
                .at(Place::of_offset(name, text, offset))
        })?;
        Ok(Self { name, text, root })
    }

    /// The keys outside of any section, and the way to the sections.
    pub(crate) fn root<'d>(&'d self, problems: &'d Problems) -> Section<'d> {
        Section {
            file: self.name,
            text: self.text,
            path: String::new(),
            span: 0..0,
            table: self.root.get_ref(),
            asked: BTreeSet::new(),
            problems,
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Spot<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) place: Place,
    /// Its key, with those of the sections around it.
    pub(crate) field: String,
}

impl<T> Spot<T> {
    /// A problem with this value.
    pub(crate) fn problem(&self, text: impl std::fmt::Display) -> Problem {
        Problem::new(text).at(self.place.clone()).field(&self.field)
    }

    /// Another value at the same place.
    pub(crate) fn with<U>(&self, value: U) -> Spot<U> {
        Spot { value, place: self.place.clone(), field: self.field.clone() }
    }
}

/// A table of a file, and which of its keys were asked for.
pub(crate) struct Section<'d> {
    file: &'d str,
    text: &'d str,
    path: String,
    span: Range<usize>,
    table: &'d DeTable<'d>,
    asked: BTreeSet<String>,
    problems: &'d Problems,
}

impl<'d> Section<'d> {
    /// Where the section starts.
    pub(crate) fn place(&self) -> Place {
        self.place_of(&self.span)
    }

    /// A problem with the section as a whole.
    pub(crate) fn problem(&self, text: impl std::fmt::Display) -> Problem {
        let problem = Problem::new(text).at(self.place());
        if self.path.is_empty() { problem } else { problem.field(&self.path) }
    }

    /// The value of `key`, if it is there and has the right form; the wrong form is noted as a problem.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<Spot<T>> {
        let found = self.find(key)?;
        let spot = self.spot(key, found, ());
        match serde_json::from_value(to_json(found.get_ref())) {
            Ok(value) => Some(spot.with(value)),
            Err(error) => {
                self.problems.add(spot.problem(humanize(&error.to_string())));
                None
            }
        }
    }

    /// The same of something that may be taken away: `"none"`.
    pub(crate) fn take_or_none<T: DeserializeOwned>(&mut self, key: &str) -> Option<Spot<Option<T>>> {
        let found = self.find(key)?;
        if matches!(found.get_ref(), DeValue::String(text) if text == "none") {
            return Some(self.spot(key, found, None));
        }
        let Spot { value, place, field } = self.take(key)?;
        Some(Spot { value: Some(value), place, field })
    }

    /// The value of `key`; its absence is noted as a problem.
    pub(crate) fn require<T: DeserializeOwned>(&mut self, key: &str, hint: &str) -> Option<Spot<T>> {
        if self.table.contains_key(key) {
            return self.take(key);
        }
        self.asked.insert(key.to_owned());
        self.problems.add(self.problem(format!("missing key `{key}`")).hint(hint));
        None
    }

    /// Takes every key that `T` has, and where each given one stands, with the items of a list as `key[1]` and so on; a
    /// key that is not there keeps its default.
    pub(crate) fn fields<T: Default + Serialize + DeserializeOwned>(&mut self) -> (T, BTreeMap<String, Spot<()>>) {
        let Ok(Value::Object(mut whole)) = serde_json::to_value(T::default()) else {
            return (T::default(), BTreeMap::new());
        };
        let mut places = BTreeMap::new();
        for (key, value) in &mut whole {
            let Some(found) = self.find(key) else { continue };
            let (given, spot, items) = (to_json(found.get_ref()), self.spot(key, found, ()), self.items(key, found));
            match wrong_value::<T>(key, &given, &spot, &items) {
                Some(problem) => self.problems.add(problem),
                None => *value = given,
            }
            places.extend((1..).zip(items).map(|(number, (_, spot))| (format!("{key}[{number}]"), spot)));
            places.insert(key.clone(), spot);
        }
        (serde_json::from_value(Value::Object(whole)).unwrap_or_default(), places)
    }

    /// The items of a list, each with its place; none of what is no list.
    fn items(&self, key: &str, found: &Spanned<DeValue<'_>>) -> Vec<(Value, Spot<()>)> {
        let DeValue::Array(items) = found.get_ref() else { return Vec::new() };
        let item = |(number, item): (usize, &Spanned<DeValue<'_>>)| {
            (to_json(item.get_ref()), self.spot(&format!("{key}[{number}]"), item, ()))
        };
        (1..).zip(items.iter()).map(item).collect()
    }

    /// The section `[key]`, if it is there.
    pub(crate) fn section(&mut self, key: &str) -> Option<Section<'d>> {
        let found = self.find(key)?;
        let DeValue::Table(table) = found.get_ref() else {
            let spot = self.spot(key, found, ());
            self.problems.add(spot.problem(format!("expected a section (hint: write [{}])", spot.field)));
            return None;
        };
        Some(self.below(self.path_of(key), found.span(), table))
    }

    /// The sections `[[key]]`, in order.
    pub(crate) fn sections(&mut self, key: &str) -> Vec<Section<'d>> {
        let Some(found) = self.find(key) else { return Vec::new() };
        let path = self.path_of(key);
        let wrong = || Problem::new(format!("expected sections (hint: write [[{path}]] above each)"));
        let DeValue::Array(items) = found.get_ref() else {
            self.problems.add(wrong().at(self.place_of(&found.span())).field(&path));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(self.below(format!("{path}[{}]", i + 1), item.span(), table));
                }
                _ => self.problems.add(wrong().at(self.place_of(&item.span())).field(&path)),
            }
        }
        sections
    }

    /// Whether the section holds `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(name) {
                continue;
            }
            let shown: String = name.chars().take(64).collect();
            let hint = match self.asked.iter().min_by_key(|known| (distance(name, known), known.len())) {
                Some(near) if distance(name, near) <= 2 => format!("did you mean `{near}`?"),
                _ => format!("known here: {}", self.asked.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
            };
            let problem = Problem::new("unknown key").at(self.place_of(&key.span())).field(self.path_of(&shown));
            self.problems.add(problem.hint(hint));
        }
    }

    fn below(&self, path: String, span: Range<usize>, table: &'d DeTable<'d>) -> Section<'d> {
        Section { path, span, table, asked: BTreeSet::new(), ..*self }
    }

    fn find(&mut self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.insert(key.to_owned());
        self.table.get(key)
    }

    fn spot<T>(&self, key: &str, found: &Spanned<DeValue<'_>>, value: T) -> Spot<T> {
        Spot { value, place: self.place_of(&found.span()), field: self.path_of(key) }
    }

    fn place_of(&self, span: &Range<usize>) -> Place {
        Place::of_offset(self.file, self.text, span.start)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// What is wrong with the value of a key of `T`, at the item that it is about where the value is a list.
fn wrong_value<T: DeserializeOwned>(
    key: &str,
    given: &Value,
    spot: &Spot<()>,
    items: &[(Value, Spot<()>)],
) -> Option<Problem> {
    // Each alone: only so is it known which key or item an error is about.
    let error_of = |given: Value| serde_json::from_value::<T>(serde_json::json!({ key: given })).err();
    let error = error_of(given.clone())?;
    let wrong_item = items.iter().find_map(|(item, spot)| Some((error_of(vec![item.clone()].into())?, spot)));
    let (error, spot) = wrong_item.unwrap_or((error, spot));
    Some(spot.problem(humanize(&error.to_string())))
}

/// The same value as JSON; dates and times become text. A number that is none (`nan`, `inf`) becomes null.
fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(at) => Value::from(at.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(k, v)| (k.get_ref().to_string(), to_json(v.get_ref())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// serde's words for types, in words of people who write TOML.
fn humanize(message: &str) -> String {
    let mut text = message.to_owned();
    for (theirs, ours) in [
        ("invalid type: ", "wrong type: "),
        ("invalid value: ", "value out of range: "),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number from 0"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
    ] {
        text = text.replace(theirs, ours);
    }
    text
}

/// Edits from one name to another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, with: impl FnOnce(&mut Section<'_>)) -> String {
        let problems = Problems::default();
        let document = Document::parse("f.toml", text).unwrap();
        let mut root = document.root(&problems);
        with(&mut root);
        root.finish();
        problems.into_result().map_or_else(|errors| errors.to_string(), |()| String::new())
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_all_named_with_their_place() {
        let text = "name = 5\nnmae = \"x\"\n[far]\naway = 1\n";
        let said = read(text, |root| assert!(root.take::<String>("name").is_none()));
        assert_eq!(
            said,
            "error: f.toml:1:8: `name`: wrong type: integer `5`, expected a string\n\
             error: f.toml:2:1: `nmae`: unknown key\n  hint: did you mean `name`?\n\
             error: f.toml:3:2: `far`: unknown key\n  hint: known here: name\n\
             3 problems; nothing was done"
        );
    }

    #[test]
    fn sections_have_numbers_in_their_path() {
        let said = read("[[step]]\n[[step]]\nx = 1\n", |root| {
            for section in root.sections("step") {
                section.finish();
            }
        });
        assert_eq!(said, "error: f.toml:3:1: `step[2].x`: unknown key\n  hint: known here: ");
    }

    #[test]
    fn broken_toml_names_its_place() {
        let problem = Document::parse("f.toml", "a = 1\nb = \"x").err().unwrap().to_string();
        assert!(problem.starts_with("f.toml:2:"), "{problem}");
    }
}
