//! Lists of leads: CSV read row by row in constant memory, every bad row named by its line.
//!
//! A list is read from its start several times (`source`): to check it, to tell addresses that come twice (`twice`), to
//! import it. Encodings and separators are told from the file (`decode`), columns from its header row (`header`), a lead
//! from a row (`row`). Not responsible for storing leads. A message never shows an address, only lines and columns.
//! To add a field of leads: a column in `header` and its arm in `row`.

mod decode;
mod header;
mod row;
mod source;
mod twice;

use std::fs::File;

use csv::ByteRecord;
use engines::store::leads::NewLead;

use crate::problem::{Place, Problem, Problems};
use decode::{Decoded, is_too_long};
use header::Columns;
pub(crate) use source::Source;
use twice::{Filter, Seen, Suspects};

/// How many bad rows are shown; the rest is counted.
const SHOWN: usize = 20;

/// A list that was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct LeadList {
    source: Source,
    suspects: Suspects,
    /// Good rows.
    pub(crate) rows: u64,
    /// Bad rows that will be skipped; 0 unless that was asked for.
    pub(crate) skipped: u64,
    /// The first twenty of them, with their lines.
    pub(crate) skipped_rows: Vec<Problem>,
}

impl LeadList {
    /// The leads, from the first one on. The rows that are skipped come as `Bad`.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub(crate) fn reader(&self) -> Result<LeadReader, Problem> {
        LeadReader::start(&self.source, Seen::Suspects(self.suspects.clone()))
    }
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
pub(crate) fn check(source: Source, skip_bad_rows: bool, problems: &Problems) -> Option<LeadList> {
    let (mut tally, mut reader) = Tally::of(&source, Seen::Filter(Filter::default()), problems)?;
    if reader.seen.has_suspects() {
        (tally, reader) = Tally::of(&source, Seen::Suspects(reader.seen.into_suspects()), problems)?;
    }
    let (Tally { rows, bad, shown }, here) = (tally, Place::file(source.name()));
    if rows == 0 && (bad == 0 || skip_bad_rows) {
        let problem = Problem::new("list holds no leads").at(here);
        problems.add(problem.hint("a header row with `email`, and a row for each lead below it"));
        return None;
    }
    if bad > 0 && !skip_bad_rows {
        shown.into_iter().for_each(|problem| problems.add(problem));
        let shown = if bad > SHOWN as u64 { format!(", the first {SHOWN} are shown") } else { String::new() };
        let are = if bad == 1 { "row is" } else { "rows are" };
        let problem = Problem::new(format!("{bad} {are} bad of {}{shown}", rows + bad)).at(here);
        problems.add(problem.hint("mend them, or leave them out with --skip-bad-rows"));
        return None;
    }
    Some(LeadList { source, suspects: reader.seen.into_suspects(), rows, skipped: bad, skipped_rows: shown })
}

/// Rows of a list, counted.
#[derive(Default)]
struct Tally {
    rows: u64,
    bad: u64,
    /// The first bad ones.
    shown: Vec<Problem>,
}

impl Tally {
    /// Reads a list to its end; none where a problem was noted that ends it.
    fn of(source: &Source, seen: Seen, problems: &Problems) -> Option<(Self, LeadReader)> {
        let mut reader = problems.ok(LeadReader::start(source, seen))?;
        let mut tally = Self::default();
        for row in reader.by_ref() {
            match row {
                Ok(_) => tally.rows += 1,
                Err(RowError::Bad(problem)) => {
                    tally.bad += 1;
                    if tally.shown.len() < SHOWN {
                        tally.shown.push(problem);
                    }
                }
                Err(RowError::Fatal(problem)) => {
                    tally.shown.into_iter().chain([problem]).for_each(|problem| problems.add(problem));
                    return None;
                }
            }
        }
        Some((tally, reader))
    }
}

/// The leads of a list, in order. After a `Fatal` error there are none.
pub(crate) struct LeadReader {
    name: String,
    csv: csv::Reader<Decoded<File>>,
    columns: Columns,
    record: ByteRecord,
    seen: Seen,
    /// Where the row begins that is read next.
    row_start: u64,
    is_over: bool,
}

impl LeadReader {
    /// Goes to the start of a list and reads its header row.
    ///
    /// # Errors
    /// The file cannot be read, is no CSV, or its header row has no `email`.
    fn start(source: &Source, seen: Seen) -> Result<Self, Problem> {
        let name = source.name().to_owned();
        let here = |problem: Problem| problem.at(Place::file(&name));
        let file = source.start().map_err(here)?;
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
        Ok(Self { name, row_start: csv.position().byte(), csv, columns, record, seen, is_over: false })
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
        match self.seen.first_line(&lead.email.to_lowercase(), line) {
            Some(first) => Err(RowError::Bad(self.problem(line, &row::RowProblem::Duplicate(first)))),
            None => Ok(Some(lead)),
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
