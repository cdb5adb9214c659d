//! One row of a list to one lead.
//!
//! Not responsible for duplicates: those need the rows before. To add a column: its arm in `set`.

use csv::ByteRecord;
use domain::address::{AddressError, EmailAddress};
use domain::time::{UnknownZone, Zone};
use engines::store::leads::NewLead;
use serde_json::Value;

use super::header::{Columns, Meaning};

/// Why a row is no lead. Columns count from 0.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowProblem {
    #[error(
        "text is not UTF-8; it looks like Latin-1 or Windows-1252 (hint: save the list as CSV UTF-8, or iconv -f WINDOWS-1252 -t UTF-8)"
    )]
    NotUtf8,
    #[error(
        "row and header row differ: {0} against {1} columns (hint: a separator inside a value needs quotes around it)"
    )]
    Length(usize, usize),
    #[error("{1}")]
    Address(usize, AddressError),
    #[error("{1}")]
    Zone(usize, UnknownZone),
    #[error("value holds a control character")]
    Control(usize),
    #[error("value is neither yes nor no (hint: true, false, yes, no, 1 or 0)")]
    Consent(usize),
    #[error("same address as on line {0}")]
    Duplicate(u32),
}

impl RowProblem {
    /// Whether nothing behind the row can be trusted either.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::NotUtf8)
    }

    /// The column that it is about.
    pub(super) fn column(&self) -> Option<usize> {
        match self {
            Self::Address(column, _) | Self::Zone(column, _) | Self::Control(column) | Self::Consent(column) => {
                Some(*column)
            }
            Self::NotUtf8 | Self::Length(..) | Self::Duplicate(_) => None,
        }
    }
}

/// The lead of a row; none where all its columns are blank, as spreadsheets leave them behind.
pub(super) fn read(columns: &Columns, record: &ByteRecord) -> Result<Option<NewLead>, RowProblem> {
    if record.iter().all(|bytes| bytes.trim_ascii().is_empty()) {
        return Ok(None);
    }
    if let Some(_not_utf8) = record.iter().find(|bytes| std::str::from_utf8(bytes).is_err()) {
        return Err(RowProblem::NotUtf8);
    }
    if record.len() != columns.len() {
        return Err(RowProblem::Length(record.len(), columns.len()));
    }
    let mut lead = NewLead::default();
    for (i, ((name, meaning), bytes)) in columns.iter().zip(record).enumerate() {
        let text = std::str::from_utf8(bytes).map_err(|_| RowProblem::NotUtf8)?.trim();
        set(&mut lead, i, name, meaning, text)?;
    }
    Ok(Some(lead))
}

fn set(lead: &mut NewLead, column: usize, name: &str, meaning: Meaning, text: &str) -> Result<(), RowProblem> {
    // Custom fields may run over several lines; a NUL is nothing that a database keeps.
    let may_break = meaning == Meaning::Custom;
    if text.chars().any(|c| c.is_control() && !(may_break && matches!(c, '\n' | '\r' | '\t'))) {
        return Err(RowProblem::Control(column));
    }
    let field = match meaning {
        Meaning::Email => {
            let address = EmailAddress::parse(text).map_err(|error| RowProblem::Address(column, error))?;
            address.as_str().clone_into(&mut lead.email);
            return Ok(());
        }
        _ if text.is_empty() => return Ok(()),
        Meaning::Custom => {
            lead.custom_fields.insert(name.to_owned(), Value::from(text));
            return Ok(());
        }
        Meaning::TrackingConsent => {
            lead.tracking_consent = Some(consent(text).ok_or(RowProblem::Consent(column))?);
            return Ok(());
        }
        Meaning::Timezone => {
            text.parse::<Zone>().map_err(|error| RowProblem::Zone(column, error))?;
            &mut lead.timezone
        }
        Meaning::Name => &mut lead.name,
        Meaning::FirstName => &mut lead.first_name,
        Meaning::LastName => &mut lead.last_name,
        Meaning::Company => &mut lead.company,
        Meaning::JobTitle => &mut lead.job_title,
        Meaning::Phone => &mut lead.phone,
        Meaning::City => &mut lead.city,
        Meaning::State => &mut lead.state,
        Meaning::Country => &mut lead.country,
    };
    *field = Some(text.to_owned());
    Ok(())
}

fn consent(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "y" => Some(true),
        "false" | "no" | "0" | "n" => Some(false),
        _ => None,
    }
}
