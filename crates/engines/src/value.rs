//! Typed values that go into a statement and rows that come out, the same for both databases.
//!
//! PostgreSQL has native types (`uuid`, `timestamptz`, `jsonb`); SQLite has BLOB, INTEGER microseconds and TEXT. This
//! file holds neither SQL nor a connection. To add a type: a variant, its arms in `db/sqlite.rs` and `db/postgres.rs`,
//! and a `FromValue`.

use std::sync::Arc;

use domain::time::Timestamp;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL of any type.
    Null,
    /// `boolean`; 0 or 1 on SQLite.
    Bool(bool),
    /// `bigint` and `integer`.
    Int(i64),
    /// `double precision`.
    Float(f64),
    /// `text`.
    Text(String),
    /// `uuid`; 16 bytes on SQLite.
    Uuid(Uuid),
    /// `timestamptz`; microseconds on SQLite.
    Time(Timestamp),
    /// `jsonb`; text on SQLite.
    Json(serde_json::Value),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// A list of ids for `{any …}`; JSON text of hexadecimal ids on SQLite.
    Uuids(Vec<Uuid>),
}

macro_rules! into_value {
    ($($from:ty => |$v:ident| $to:expr;)*) => {$(
        impl From<$from> for Value { fn from($v: $from) -> Self { $to } }
    )*};
}

into_value! {
    bool => |v| Value::Bool(v);
    i64 => |v| Value::Int(v);
    i32 => |v| Value::Int(i64::from(v));
    u32 => |v| Value::Int(i64::from(v));
    u16 => |v| Value::Int(i64::from(v));
    f64 => |v| Value::Float(v);
    String => |v| Value::Text(v);
    &str => |v| Value::Text(v.to_owned());
    &String => |v| Value::Text(v.clone());
    Uuid => |v| Value::Uuid(v);
    Timestamp => |v| Value::Time(v);
    serde_json::Value => |v| Value::Json(v);
    Vec<Uuid> => |v| Value::Uuids(v);
}

macro_rules! ids {
    ($($id:ident)*) => {$(
        impl From<domain::ids::$id> for Value {
            fn from(id: domain::ids::$id) -> Self { Value::Uuid(id.uuid()) }
        }
        impl FromValue for domain::ids::$id {
            fn from_value(value: &Value) -> Option<Self> { Uuid::from_value(value).map(Self::from_uuid) }
        }
    )*};
}
ids! { TenantId CompanyId DomainId EmailAccountId TemplateId LeadId CampaignId StepId EnrollmentId SendId EventId }

macro_rules! words {
    ($($word:path)*) => {$(
        impl From<$word> for Value {
            fn from(word: $word) -> Self { Value::Text(word.as_str().to_owned()) }
        }
        impl FromValue for $word {
            fn from_value(value: &Value) -> Option<Self> {
                match value { Value::Text(text) => text.parse().ok(), _ => None }
            }
        }
    )*};
}
words! {
    domain::lead::LeadStatus domain::email_account::AccountStatus domain::campaign::CampaignStatus
    domain::step::StepType domain::step::ConditionType domain::send::SendStatus domain::event::EventType
    domain::event::Verdict domain::reason::Reason domain::rounds::EnrollmentStatus domain::trial::Measure
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Makes a `Vec<Value>` of anything that converts.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Value::from($value)),*] };
}

/// A type that a column can be read as.
pub trait FromValue: Sized {
    /// The value as this type; none where the value has another form.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($to:ty => $($pattern:pat => $result:expr),+;)*) => {$(
        impl FromValue for $to {
            fn from_value(value: &Value) -> Option<Self> {
                match value { $($pattern => $result,)+ _ => None }
            }
        }
    )*};
}

from_value! {
    bool => Value::Bool(v) => Some(*v), Value::Int(v) => Some(*v != 0);
    i64 => Value::Int(v) => Some(*v);
    u64 => Value::Int(v) => u64::try_from(*v).ok();
    u32 => Value::Int(v) => u32::try_from(*v).ok();
    u16 => Value::Int(v) => u16::try_from(*v).ok();
    f64 => Value::Float(v) => Some(*v), Value::Int(v) => Some(*v as f64);
    String => Value::Text(v) => Some(v.clone());
    Uuid => Value::Uuid(v) => Some(*v), Value::Bytes(v) => Uuid::from_slice(v).ok();
    Timestamp => Value::Time(v) => Some(*v), Value::Int(v) => Some(Timestamp::from_micros(*v));
    serde_json::Value => Value::Json(v) => Some(v.clone()), Value::Text(v) => serde_json::from_str(v).ok();
    domain::time::Zone => Value::Text(v) => v.parse().ok();
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row of a result.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The column of this name as `T`.
    ///
    /// # Errors
    /// `Column` where there is none of that name or its value has another form; the value stays out of the text.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let wrong = |problem: &str| Error::Column { column: column.to_owned(), problem: problem.to_owned() };
        let index = self.columns.iter().position(|name| name == column).ok_or_else(|| wrong("is not in the result"))?;
        T::from_value(&self.values[index])
            .ok_or_else(|| wrong(&format!("does not hold a {}", std::any::type_name::<T>())))
    }
}

/// The rows of a bulk statement: what `{rows …}` stands for, one `Vec<Value>` per row.
#[derive(Clone, Debug, Default)]
pub struct Rows(pub(crate) Vec<Vec<Value>>);

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Vec<Value>> for Rows {
    fn from_iter<I: IntoIterator<Item = Vec<Value>>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}
