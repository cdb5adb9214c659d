//! Lists of leads: CSV read row by row in constant memory, every bad row named by its line.
//!
//! Encodings and separators are told from the file (`decode`), columns from its header row (`header`), a lead from a
//! row (`row`). Not responsible for storing leads. A message never shows an address, only lines and columns.
//! To add a field of leads: a column in `header` and its arm in `row`.

mod decode;
mod header;
mod row;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use engines::store::leads::NewLead;

use crate::problem::{Place, Problem, Problems};
use decode::{Decoded, is_too_long};
use header::Columns;

/// How many bad rows are shown; the rest is counted.
const SHOWN: usize = 20;

/// A list that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeadList {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// Good rows.
    pub(crate) rows: u64,
    /// Bad rows that will be skipped; 0 unless that was asked for.
    pub(crate) skipped: u64,
}

/// What ends at a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RowError {
    /// The row is no lead; the next one may be.
    Bad(Problem),
    /// Nothing behind it can be read.
    Fatal(Problem),
}

/// Reads the whole list and notes what is wrong with it; none where it cannot be used.
///
/// Bad rows are problems unless `skip_bad_rows`; the first twenty are shown and the rest is counted. A list without a
/// single good row is a problem either way.
pub(crate) fn check(path: &Path, skip_bad_rows: bool, problems: &Problems) -> Option<LeadList> {
    let reader = problems.ok(LeadReader::open(path))?;
    let mut list = LeadList { path: path.to_owned(), rows: 0, skipped: 0 };
    let mut bad: u64 = 0;
    for row in reader {
        match row {
            Ok(_) => list.rows += 1,
            Err(RowError::Bad(problem)) => {
                bad += 1;
                if bad <= SHOWN as u64 && !skip_bad_rows {
                    problems.add(problem);
                }
            }
            Err(RowError::Fatal(problem)) => {
                problems.add(problem);
                return None;
            }
        }
    }
    let here = Place::file(path.display().to_string());
    if list.rows == 0 && (bad == 0 || skip_bad_rows) {
        let problem = Problem::new("list holds no leads").at(here);
        problems.add(problem.hint("a header row with `email`, and a row for each lead below it"));
        return None;
    }
    if bad > 0 && !skip_bad_rows {
        let shown = if bad > SHOWN as u64 { format!(", the first {SHOWN} are shown") } else { String::new() };
        let rows = if bad == 1 { "row is" } else { "rows are" };
        let problem = Problem::new(format!("{bad} {rows} bad of {}{shown}", list.rows + bad)).at(here);
        problems.add(problem.hint("mend them, or leave them out with --skip-bad-rows"));
        return None;
    }
    list.skipped = bad;
    Some(list)
}

/// The leads of a list, in order. After a `Fatal` error there are none.
pub(crate) struct LeadReader {
    name: String,
    csv: csv::Reader<Decoded<File>>,
    columns: Columns,
    record: ByteRecord,
    /// Hashes of the addresses so far and their lines: a list of a million must not hold a million addresses.
    seen: HashMap<u64, u32>,
    hasher: RandomState,
    /// Where the row begins that is read next.
    row_start: u64,
    is_over: bool,
}

impl LeadReader {
    /// Opens a list and reads its header row.
    ///
    /// # Errors
    /// The file cannot be read, is no CSV, or its header row has no `email`.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        let here = |problem: Problem| problem.at(Place::file(&name));
        let file = File::open(path).map_err(|error| here(Problem::new(format!("failed to open: {error}"))))?;
        let (decoded, head) = Decoded::new(file).map_err(here)?;
        let mut csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(header::separator(&head))
            .from_reader(decoded);
        let mut record = ByteRecord::new();
        let first = |problem: Problem| problem.at(Place::line(&name, 1));
        csv.read_byte_record(&mut record).map_err(|error| first(fatal_message(&error)))?;
        csv.get_ref().row_done();
        let columns = Columns::read(&record).map_err(first)?;
        Ok(Self {
            name,
            row_start: csv.position().byte(),
            csv,
            columns,
            record,
            seen: HashMap::new(),
            hasher: RandomState::new(),
            is_over: false,
        })
    }

    /// None at the end of the list, or for a row of blanks alone.
    fn read(&mut self) -> Result<Option<NewLead>, RowError> {
        let row = row::read(&self.columns, &self.record);
        let line = self.line();
        let lead = match row {
            Ok(lead) => lead,
            Err(error) if error.is_fatal() => return Err(RowError::Fatal(self.problem(line, &error))),
            Err(error) => return Err(RowError::Bad(self.problem(line, &error))),
        };
        let Some(lead) = lead else { return Ok(None) };
        match self.seen.entry(self.hasher.hash_one(lead.email.to_lowercase())) {
            Entry::Occupied(first) => {
                let error = row::RowProblem::Duplicate(*first.get());
                Err(RowError::Bad(self.problem(line, &error)))
            }
            Entry::Vacant(free) => {
                free.insert(u32::try_from(line).unwrap_or(u32::MAX));
                Ok(Some(lead))
            }
        }
    }

    fn problem(&self, line: u64, error: &row::RowProblem) -> Problem {
        let problem = Problem::new(error).at(Place::line(&self.name, line));
        match error.column() {
            Some(column) => problem.field(self.columns.name(column)),
            None => problem,
        }
    }

    /// The line on which the record begins.
    fn line(&self) -> u64 {
        let last = self.csv.get_ref().last_line(self.csv.position().byte());
        let breaks = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("\r\n", "\n").matches(['\n', '\r']).count();
        last.saturating_sub(self.record.iter().map(breaks).sum::<usize>() as u64)
    }
}

impl Iterator for LeadReader {
    type Item = Result<NewLead, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.csv.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.is_over = true;
                    let line = self.csv.get_ref().last_line(self.row_start) + 1;
                    return Some(Err(RowError::Fatal(fatal_message(&error).at(Place::line(&self.name, line)))));
                }
            }
            self.csv.get_ref().row_done();
            self.row_start = self.csv.position().byte();
            match self.read() {
                Ok(Some(lead)) => return Some(Ok(lead)),
                Ok(None) => {}
                Err(error) => {
                    self.is_over = matches!(error, RowError::Fatal(_));
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

fn fatal_message(error: &csv::Error) -> Problem {
    match error.kind() {
        csv::ErrorKind::Io(error) if is_too_long(error) => {
            Problem::new("row is longer than 1 MiB (hint: a quote that is never closed swallows the rows behind it)")
        }
        csv::ErrorKind::Io(error) => Problem::new(format!("failed to read: {error}")),
        _ => Problem::new(format!("not valid CSV: {error}")),
    }
}

#[cfg(test)]
mod tests;
