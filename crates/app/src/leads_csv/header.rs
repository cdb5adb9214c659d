//! The header row: which column means what, and what separates columns.
//!
//! Names are compared without case, spaces, dashes and underscores. A column that is not one of ours is a custom field
//! under the name it has. To add a column: a row in `KNOWN` and its arm in `row`.

use csv::ByteRecord;

use crate::problem::Problem;

/// Most columns.
const MAX_COLUMNS: usize = 1000;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Email,
    Name,
    FirstName,
    LastName,
    Company,
    JobTitle,
    Phone,
    City,
    State,
    Country,
    Timezone,
    TrackingConsent,
    Custom,
}

/// Folded names of our own columns.
const KNOWN: &[(&str, Meaning)] = &[
    ("email", Meaning::Email),
    ("emailaddress", Meaning::Email),
    ("mail", Meaning::Email),
    ("name", Meaning::Name),
    ("fullname", Meaning::Name),
    ("firstname", Meaning::FirstName),
    ("givenname", Meaning::FirstName),
    ("lastname", Meaning::LastName),
    ("familyname", Meaning::LastName),
    ("surname", Meaning::LastName),
    ("company", Meaning::Company),
    ("companyname", Meaning::Company),
    ("jobtitle", Meaning::JobTitle),
    ("phone", Meaning::Phone),
    ("phonenumber", Meaning::Phone),
    ("city", Meaning::City),
    ("state", Meaning::State),
    ("country", Meaning::Country),
    ("timezone", Meaning::Timezone),
    ("trackingconsent", Meaning::TrackingConsent),
];

/// The columns of a list.
#[derive(Debug)]
pub(super) struct Columns(Vec<(String, Meaning)>);

impl Columns {
    /// Reads a header row.
    pub(super) fn read(record: &ByteRecord) -> Result<Self, Problem> {
        if record.len() > MAX_COLUMNS {
            return Err(Problem::new(format!(
                "header row has {} columns, at most {MAX_COLUMNS} are read",
                record.len()
            )));
        }
        let mut columns: Vec<(String, Meaning)> = Vec::with_capacity(record.len());
        let mut folded: Vec<String> = Vec::with_capacity(record.len());
        for (i, bytes) in record.iter().enumerate() {
            let name = std::str::from_utf8(bytes).map_err(|_| Problem::new(super::row::RowProblem::NotUtf8))?.trim();
            if name.is_empty() {
                let problem = Problem::new(format!("column {} has no name", i + 1));
                return Err(problem.hint("name it in the header row, or remove the column"));
            }
            if name.chars().any(char::is_control) {
                return Err(Problem::new(format!("name of column {} holds a control character", i + 1)));
            }
            let key = fold(name);
            let meaning =
                KNOWN.iter().find(|(known, _)| *known == key).map_or(Meaning::Custom, |(_, meaning)| *meaning);
            let is_same =
                |(other, known): (&String, Meaning)| *other == key || (meaning != Meaning::Custom && known == meaning);
            if let Some(first) = folded.iter().zip(columns.iter().map(|c| c.1)).position(is_same) {
                let (first_name, name) = (shown(&columns[first].0), shown(name));
                let problem =
                    Problem::new(format!("columns {} `{first_name}` and {} `{name}` mean the same", first + 1, i + 1));
                return Err(problem.hint("keep one of the two"));
            }
            folded.push(key);
            columns.push((name.to_owned(), meaning));
        }
        let columns = Self(columns);
        columns.check()
    }

    fn check(self) -> Result<Self, Problem> {
        if self.0.iter().any(|(_, meaning)| *meaning == Meaning::Email) {
            return Ok(self);
        }
        if self.0.iter().any(|(name, _)| name.contains('@')) {
            let problem = Problem::new("first row looks like a lead, not like a header");
            return Err(problem.hint("name the columns in the first row: email,first_name,…"));
        }
        let names: Vec<String> = self.0.iter().take(10).map(|(name, _)| format!("`{}`", shown(name))).collect();
        let found = if names.is_empty() { "file is empty".into() } else { format!("found {}", names.join(", ")) };
        let problem = Problem::new(format!("header row has no column `email`; {found}"));
        Err(problem.hint("columns are separated by comma, semicolon or tab"))
    }

    /// How many columns there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Name and meaning of each, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Meaning)> {
        self.0.iter().map(|(name, meaning)| (name.as_str(), *meaning))
    }

    /// The name of a column, from 0.
    pub(super) fn name(&self, column: usize) -> &str {
        self.0.get(column).map_or("", |(name, _)| name)
    }
}

/// What separates the columns of a first line: comma, semicolon or tab, whichever it has most of outside of quotes.
pub(super) fn separator(head: &[u8]) -> u8 {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let line = head[start..].split(|byte| *byte == b'\n' || *byte == b'\r').next().unwrap_or(&[]);
    let count = |separator: u8| {
        let mut is_quoted = false;
        line.iter()
            .filter(|byte| {
                is_quoted ^= **byte == b'"';
                !is_quoted && **byte == separator
            })
            .count()
    };
    // The last of equals wins, so the comma stands last.
    [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator)).unwrap_or(b',')
}

fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).flat_map(char::to_lowercase).collect()
}

fn shown(name: &str) -> String {
    name.chars().take(40).collect()
}
