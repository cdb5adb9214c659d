//! Looks names up: loop variables, then what was assigned, then the data; a name is found in either casing.
//!
//! Not responsible for evaluating what stands in brackets (`render`). To add a name of the language's own: `look_up`.

use serde_json::{Map, Value as Json};

use super::RenderError;
use super::expression::{Part, fold};
use super::meter::Meter;
use super::render::{Loop, Machine};
use super::value::Value;

impl<'a> Machine<'a> {
    pub(super) fn look_up(&mut self, parts: &'a [Part]) -> Result<Value<'a>, RenderError> {
        let Some((Part::Name(first), rest)) = parts.split_first() else { return Ok(Value::Nothing) };
        if first == "forloop" && !self.loops.is_empty() {
            let name = rest.first().map_or(Ok(Value::Nothing), |part| self.key(part))?;
            return Ok(self.loops.last().map_or(Value::Nothing, |current| forloop(current, &name)));
        }
        let mut value = if let Some(local) = self.loops.iter().rev().find(|l| l.variable == first) {
            local.item()
        } else if let Some(assigned) = self.assigned.get(first.as_str()) {
            assigned.clone()
        } else {
            let found = self.data.as_object().map(|map| member(map, first, first, &mut self.meter)).transpose()?;
            found.flatten().map_or(Value::Nothing, Value::from)
        };
        for part in rest {
            if value.is_nothing() {
                break;
            }
            self.meter.step()?;
            let key = self.key(part)?;
            value = self.inside(&value, &key)?;
        }
        Ok(value)
    }

    fn key(&mut self, part: &'a Part) -> Result<Value<'a>, RenderError> {
        match part {
            Part::Name(name) => Ok(Value::Text(name)),
            Part::Index(expression) => self.value(expression),
        }
    }

    fn inside(&mut self, value: &Value<'a>, key: &Value<'a>) -> Result<Value<'a>, RenderError> {
        let found = match (value, key.as_text()) {
            (Value::Data(Json::Object(map)), Some(name)) => {
                self.meter.read(name.len())?;
                member(map, name, &fold(name), &mut self.meter)?.map(Value::from)
            }
            (list, Some("first")) if list.length().is_some() => list.item(0),
            (list, Some("last")) => list.length().and_then(|n| n.checked_sub(1)).and_then(|at| list.item(at)),
            (list, _) => list.length().zip(key.as_i64()).and_then(|(length, n)| list.item(position(length, n)?)),
        };
        Ok(found.unwrap_or(Value::Nothing))
    }
}

/// A negative index counts from the end.
fn position(length: usize, n: i64) -> Option<usize> {
    let offset = usize::try_from(n.unsigned_abs()).ok()?;
    if n < 0 { length.checked_sub(offset) } else { Some(offset) }
}

fn forloop<'a>(current: &Loop<'_>, name: &Value<'_>) -> Value<'a> {
    let (index, length) = (current.index, current.length);
    match name.as_text() {
        Some("index") => Value::from(index + 1),
        Some("index0") => Value::from(index),
        Some("first") => Value::Bool(index == 0),
        Some("last") => Value::Bool(index + 1 == length),
        Some("length") => Value::from(length),
        _ => Value::Nothing,
    }
}

/// A member by its exact name, else by its folded one.
fn member<'a>(
    map: &'a Map<String, Json>,
    name: &str,
    folded: &str,
    meter: &mut Meter,
) -> Result<Option<&'a Json>, RenderError> {
    if let Some(exact) = map.get(name) {
        return Ok(Some(exact));
    }
    for (key, value) in map {
        meter.read(key.len() + 1)?;
        if same_name(key, folded) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn same_name(key: &str, folded: &str) -> bool {
    if key.is_ascii() {
        return key.bytes().filter(|b| *b != b'_').map(|b| b.to_ascii_lowercase()).eq(folded.bytes());
    }
    key.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).eq(folded.chars())
}
