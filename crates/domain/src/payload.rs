//! Payloads of other programs, checked field by field before they are read.
//!
//! Not responsible for which fields there are (`job`, `event`). To add a kind of rule: a function here.

use serde_json::{Map, Value};

use crate::time::Timestamp;

/// Longest payload, in bytes. A batch of them has to fit into memory, and many into Redis.
pub const LIMIT: usize = 64 * 1024;

/// A payload that is not what it should be, with the field and the rule it breaks; never with a value of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON, or not an object.
    #[error("payload is not a JSON object (hint: see `penguinmails schema`)")]
    NotAnObject,
    /// Longer than anything that has its fields could be.
    #[error("payload has {bytes} bytes, and may have {LIMIT} (hint: ids alone travel on a queue, no texts)")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A required field is missing or a field has the wrong form.
    #[error("field `{field}` {rule}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
}

/// The fields of a payload.
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// Of an object.
    pub(crate) fn of(value: &'a Value) -> Result<Self, PayloadError> {
        value.as_object().map(Self).ok_or(PayloadError::NotAnObject)
    }

    /// The field is there and good.
    pub(crate) fn required(
        &self,
        field: &'static str,
        rule: &'static str,
        is_good: fn(&Value) -> bool,
    ) -> Result<(), PayloadError> {
        if self.0.get(field).is_some_and(is_good) { Ok(()) } else { Err(PayloadError::Field { field, rule }) }
    }

    /// The field is missing, null or good.
    pub(crate) fn optional(
        &self,
        field: &'static str,
        rule: &'static str,
        is_good: fn(&Value) -> bool,
    ) -> Result<(), PayloadError> {
        match self.0.get(field) {
            Some(value) if !value.is_null() && !is_good(value) => Err(PayloadError::Field { field, rule }),
            _ => Ok(()),
        }
    }
}

/// What an id has to be.
pub(crate) const UUID: &str = "must be a UUID string";
/// What a time has to be.
pub(crate) const TIME: &str = "must be an RFC 3339 time";

/// Reads JSON.
pub(crate) fn json(text: &str) -> Result<Value, PayloadError> {
    serde_json::from_str(text).map_err(|_| PayloadError::NotAnObject)
}

pub(crate) fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 36 && uuid::Uuid::try_parse(text).is_ok())
}

pub(crate) fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok())
}
