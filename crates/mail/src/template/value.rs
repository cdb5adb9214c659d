//! The values that templates work with: views of a lead's data and of the template, so that no step copies them.
//!
//! What a filter made is shared. All that walks a value asks the meter first. To add a kind: a variant, and its arms.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::{Number, Value as Json};

use super::RenderError;
use super::meter::{ITEM, Meter};

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Nothing,
    Bool(bool),
    Number(Number),
    /// A text of the data or the template.
    Text(&'a str),
    /// A text that a filter made.
    Made(Rc<str>),
    /// Whole numbers: the first, and how many.
    Range(i64, usize),
    /// A list that was made.
    List(Rc<[Value<'a>]>),
    /// A list or object of the data.
    Data(&'a Json),
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Nothing,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.clone()),
            Json::String(text) => Self::Text(text),
            Json::Array(_) | Json::Object(_) => Self::Data(json),
        }
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number.into())
    }
}

impl<'a> Value<'a> {
    pub(super) fn made(text: impl Into<Rc<str>>) -> Self {
        Self::Made(text.into())
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        self.as_number().and_then(Number::as_f64)
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        self.as_number().and_then(Number::as_i64)
    }

    /// A list's length.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Range(_, length) => Some(*length),
            Self::List(items) => Some(items.len()),
            Self::Data(Json::Array(items)) => Some(items.len()),
            _ => None,
        }
    }

    /// How many items: nothing has none, and what is no list is one of its own.
    pub(super) fn count(&self) -> usize {
        self.length().unwrap_or(usize::from(!self.is_nothing()))
    }

    /// An item by its index, below `count`.
    pub(super) fn item(&self, at: usize) -> Option<Self> {
        match self {
            Self::Nothing => None,
            Self::Range(first, length) => {
                let offset = i64::try_from(at).ok().filter(|_| at < *length)?;
                Some(Self::Number(first.saturating_add(offset).into()))
            }
            Self::List(items) => items.get(at).cloned(),
            Self::Data(Json::Array(items)) => items.get(at).map(Self::from),
            other => (at == 0).then(|| other.clone()),
        }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = Self> {
        (0..self.count()).filter_map(|at| self.item(at))
    }

    pub(super) fn is_truthy(&self) -> bool {
        !matches!(self, Self::Nothing | Self::Bool(false)) && self.as_text() != Some("")
    }

    /// Whether nothing is there: nil, false, an empty text, list or object.
    pub(super) fn is_blank(&self, meter: &mut Meter) -> Result<bool, RenderError> {
        if let Some(text) = self.as_text() {
            meter.read(text.len())?;
            return Ok(text.trim().is_empty());
        }
        Ok(match self {
            Self::Nothing | Self::Bool(false) => true,
            Self::Data(Json::Object(map)) => map.is_empty(),
            other => other.length() == Some(0),
        })
    }

    /// The text that a value shows as: a list's items one behind the other, an object none.
    pub(super) fn text(&self, meter: &mut Meter) -> Result<Cow<'_, str>, RenderError> {
        if let Some(text) = self.as_text() {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::new();
        self.write(&mut out, meter)?;
        Ok(Cow::Owned(out))
    }

    /// Writes the text onto `out`.
    pub(super) fn write(&self, out: &mut String, meter: &mut Meter) -> Result<(), RenderError> {
        match self {
            Self::Nothing => Ok(()),
            Self::Bool(value) => write(if *value { "true" } else { "false" }, out, meter),
            Self::Number(number) => write(&number.to_string(), out, meter),
            Self::Text(text) => write(text, out, meter),
            Self::Made(text) => write(text, out, meter),
            Self::Data(json) => write_json(json, out, meter),
            Self::Range(..) | Self::List(_) => self.items().try_for_each(|item| {
                meter.read(ITEM)?;
                item.write(out, meter)
            }),
        }
    }

    /// Whether both are the same, kind and content.
    pub(super) fn same(&self, other: &Self, meter: &mut Meter) -> Result<bool, RenderError> {
        meter.read(ITEM)?;
        if let (Some(a), Some(b)) = (self.as_text(), other.as_text()) {
            meter.read(a.len().min(b.len()))?;
            return Ok(a == b);
        }
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Ok(true),
            (Self::Bool(a), Self::Bool(b)) => Ok(a == b),
            (Self::Number(a), Self::Number(b)) => Ok(a == b),
            (Self::Data(a), Self::Data(b)) => {
                weigh(a, meter)?;
                Ok(a == b)
            }
            (a, b) if a.length().is_some() && a.length() == b.length() => {
                for (a, b) in a.items().zip(b.items()) {
                    if !a.same(&b, meter)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn write(text: &str, out: &mut String, meter: &mut Meter) -> Result<(), RenderError> {
    meter.make(text.len())?;
    out.push_str(text);
    Ok(())
}

fn write_json(json: &Json, out: &mut String, meter: &mut Meter) -> Result<(), RenderError> {
    match json {
        Json::Array(items) => items.iter().try_for_each(|item| {
            meter.read(ITEM)?;
            write_json(item, out, meter)
        }),
        Json::Object(_) => Ok(()),
        other => Value::from(other).write(out, meter),
    }
}

/// Asks to read all that lies within a value of the data; its bytes, about.
pub(super) fn weigh(json: &Json, meter: &mut Meter) -> Result<usize, RenderError> {
    meter.read(ITEM)?;
    let mut size = ITEM;
    match json {
        Json::String(text) => {
            meter.read(text.len())?;
            size += text.len();
        }
        Json::Array(items) => {
            for item in items {
                size += weigh(item, meter)?;
            }
        }
        Json::Object(map) => {
            for (key, value) in map {
                meter.read(key.len())?;
                size += key.len() + weigh(value, meter)?;
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
    Ok(size)
}
