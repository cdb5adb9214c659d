//! Filters over lists. Each asks for the items it reads and makes before it does.
//!
//! Not responsible for making lists of texts (`texts`). To add one: an arm in `apply`, linear in what it asked for.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use super::super::RenderError;
use super::super::meter::{ITEM, Meter};
use super::super::value::{Value, weigh};
use super::Filter;

pub(super) fn apply<'a>(
    filter: Filter,
    value: &Value<'a>,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let end = |at: Option<usize>| at.and_then(|at| value.item(at)).unwrap_or(Value::Nothing);
    match filter {
        Filter::Join => join(value, arguments.first(), meter),
        Filter::First => Ok(end(Some(0))),
        Filter::Last => Ok(end(value.count().checked_sub(1))),
        Filter::Size => size(value, meter),
        Filter::Sort => sorted(value, meter),
        Filter::Uniq => uniq(value, meter),
        _ => {
            meter.make_list(value.count())?;
            let mut items: Vec<_> = value.items().collect();
            items.reverse();
            Ok(Value::List(items.into()))
        }
    }
}

fn join<'a>(value: &Value<'a>, glue: Option<&Value<'a>>, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    let glue = glue.map_or(Ok(Cow::Borrowed(" ")), |glue| glue.text(meter))?;
    let mut out = String::new();
    for (at, item) in value.items().enumerate() {
        meter.read(ITEM)?;
        if at > 0 {
            meter.make(glue.len())?;
            out.push_str(&glue);
        }
        item.write(&mut out, meter)?;
    }
    Ok(Value::made(out))
}

fn size<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    Ok(Value::from(match value {
        Value::Data(serde_json::Value::Object(map)) => map.len(),
        other => match other.length() {
            Some(length) => length,
            None => {
                let text = other.text(meter)?;
                meter.read(text.len())?;
                text.chars().count()
            }
        },
    }))
}

/// Numbers by their value before all others by their text: one order over any mixture.
#[derive(Debug)]
enum SortKey<'v> {
    Number(f64),
    Text(Cow<'v, str>),
}

impl SortKey<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
        }
    }
}

fn sorted<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    meter.make_list(value.count().saturating_mul(2))?;
    let items: Vec<_> = value.items().collect();
    let mut keys = Vec::with_capacity(items.len());
    let mut bytes = items.len();
    for item in &items {
        let key = match item.as_f64() {
            Some(number) => SortKey::Number(number),
            None => SortKey::Text(item.text(meter)?),
        };
        bytes += if let SortKey::Text(text) = &key { text.len() } else { 0 };
        keys.push((key, item));
    }
    // An item is compared about as often as the list can be halved, each time with no more than its own length.
    let rounds = items.len().checked_ilog2().unwrap_or(0) as usize + 1;
    meter.read(bytes.saturating_mul(rounds))?;
    keys.sort_by(|(a, _), (b, _)| a.compare(b));
    Ok(Value::List(keys.into_iter().map(|(_, item)| item.clone()).collect()))
}

/// What two equal items share.
#[derive(PartialEq, Eq, Hash)]
enum UniqKey<'v> {
    Text(&'v str),
    Json(String),
    List(Cow<'v, str>),
}

impl<'v> UniqKey<'v> {
    fn of(item: &'v Value<'_>, meter: &mut Meter) -> Result<Self, RenderError> {
        if let Some(text) = item.as_text() {
            meter.read(text.len())?;
            return Ok(Self::Text(text));
        }
        Ok(match item {
            Value::Data(json) => {
                // A character becomes at most six, `\u0000`.
                let most = weigh(json, meter)?.saturating_mul(6);
                meter.make(most)?;
                Self::Json(json.to_string())
            }
            Value::Nothing => Self::Json("null".into()),
            Value::Range(..) | Value::List(_) => Self::List(item.text(meter)?),
            other => Self::Json(other.text(meter)?.into_owned()),
        })
    }
}

fn uniq<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    meter.make_list(value.count().saturating_mul(2))?;
    let items: Vec<_> = value.items().collect();
    let mut seen = HashSet::with_capacity(items.len());
    let mut kept = Vec::with_capacity(items.len());
    for item in &items {
        if seen.insert(UniqKey::of(item, meter)?) {
            kept.push(item.clone());
        }
    }
    Ok(Value::List(kept.into()))
}
