//! Runs a compiled template within its budget.
//!
//! Not responsible for parsing (`compile`), for looking names up (`names`), nor for escaping (`escape`). All work asks
//! the meter before it is done. To add a step: an arm in `run`; an operator: one in `binary`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value as Json;

use super::compile::Op;
use super::context::Place;
use super::expression::{Expr, Filtered, Operator};
use super::filters::{Filter, apply};
use super::meter::Meter;
use super::value::Value;
use super::{Budget, Kind, MAX_WARNINGS, RenderError, Rendered, escape};

/// Most items that a range makes.
const MAX_RANGE: i64 = 10_000;

/// Bytes that are escaped before the output is measured again.
const CHUNK: usize = 4096;

pub(super) struct Loop<'a> {
    pub(super) variable: &'a str,
    items: Value<'a>,
    from: usize,
    pub(super) length: usize,
    reversed: bool,
    pub(super) index: usize,
}

impl<'a> Loop<'a> {
    pub(super) fn item(&self) -> Value<'a> {
        let index = if self.reversed { self.length - 1 - self.index } else { self.index };
        self.items.item(self.from + index).unwrap_or(Value::Nothing)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Warning<'a> {
    Missing(&'a str),
    UnsafeUrl,
    Forbidden,
}

pub(super) struct Machine<'a> {
    kind: Kind,
    pub(super) data: &'a Json,
    pub(super) meter: Meter,
    out: String,
    warnings: Vec<Warning<'a>>,
    pub(super) assigned: BTreeMap<&'a str, Value<'a>>,
    pub(super) loops: Vec<Loop<'a>>,
}

pub(super) fn render(ops: &[Op], kind: Kind, data: &Json, budget: Budget) -> Result<Rendered, RenderError> {
    let mut machine = Machine::new(ops, kind, data, budget);
    let mut at = 0;
    while let Some(op) = ops.get(at) {
        at = machine.run(op, at)?;
    }
    Ok(machine.finish())
}

impl<'a> Machine<'a> {
    pub(super) fn new(ops: &[Op], kind: Kind, data: &'a Json, budget: Budget) -> Self {
        let capacity: usize = ops.iter().map(|op| if let Op::Text(t) = op { t.len() } else { 24 }).sum();
        Self {
            kind,
            data,
            meter: Meter::new(budget),
            out: String::with_capacity(capacity.min(budget.output)),
            warnings: Vec::new(),
            assigned: BTreeMap::new(),
            loops: Vec::new(),
        }
    }

    fn finish(self) -> Rendered {
        let say = |warning| match warning {
            Warning::Missing(name) => format!("`{name}` has no value"),
            Warning::UnsafeUrl => "a value that is no http, https, mailto or tel URL was left out of a link".into(),
            Warning::Forbidden => "a value inside a script, style, comment or tag was left out".into(),
        };
        Rendered { text: self.out, warnings: self.warnings.into_iter().map(say).collect() }
    }

    /// Runs one step; the next one's position.
    pub(super) fn run(&mut self, op: &'a Op, at: usize) -> Result<usize, RenderError> {
        self.meter.step()?;
        match op {
            Op::Text(text) => {
                self.meter.output(self.out.len() + text.len())?;
                self.out.push_str(text);
            }
            Op::Output(filtered, place) => {
                let value = self.evaluate(filtered)?;
                self.write(&value, *place)?;
            }
            Op::Unless(condition, target) => {
                if !self.value(condition)?.is_truthy() {
                    return Ok(*target);
                }
            }
            Op::Jump(target) => return Ok(*target),
            Op::Break(target) => {
                self.loops.pop();
                return Ok(*target);
            }
            Op::Assign(name, filtered) => {
                let value = self.evaluate(filtered)?;
                self.assigned.insert(name, value);
            }
            Op::For { variable, over, limit, offset, reversed, end } => {
                let items = self.items(over)?;
                let from = self.count(offset.as_ref())?.unwrap_or(0);
                let length = items.count().saturating_sub(from);
                let length = length.min(self.count(limit.as_ref())?.unwrap_or(usize::MAX));
                if length == 0 {
                    return Ok(*end);
                }
                self.loops.push(Loop { variable, items, from, length, reversed: *reversed, index: 0 });
            }
            Op::Next { body } => {
                if let Some(current) = self.loops.last_mut() {
                    current.index += 1;
                    if current.index < current.length {
                        return Ok(*body);
                    }
                    self.loops.pop();
                }
            }
        }
        Ok(at + 1)
    }

    /// What a loop goes over: an object gives pairs of name and value.
    fn items(&mut self, over: &'a Filtered) -> Result<Value<'a>, RenderError> {
        let value = self.evaluate(over)?;
        let Value::Data(Json::Object(map)) = value else { return Ok(value) };
        self.meter.make_list(map.len().saturating_mul(4))?;
        let pair = |(key, value): (&'a String, &'a Json)| Value::List(Rc::new([Value::Text(key), value.into()]));
        Ok(Value::List(map.iter().map(pair).collect()))
    }

    fn count(&mut self, expression: Option<&'a Expr>) -> Result<Option<usize>, RenderError> {
        let Some(expression) = expression else { return Ok(None) };
        let value = self.value(expression)?;
        Ok(value.as_i64().and_then(|n| usize::try_from(n).ok()))
    }

    fn evaluate(&mut self, filtered: &'a Filtered) -> Result<Value<'a>, RenderError> {
        let mut value = self.value(&filtered.value)?;
        if value.is_nothing()
            && let Expr::Path(name, _) = &filtered.value
            && !filtered.filters.iter().any(|(filter, _)| *filter == Filter::Default)
        {
            self.warn(Warning::Missing(name));
        }
        for (filter, arguments) in &filtered.filters {
            self.meter.step()?;
            let arguments = arguments.iter().map(|a| self.value(a)).collect::<Result<Vec<_>, _>>()?;
            value = apply(*filter, value, &arguments, &mut self.meter)?;
        }
        Ok(value)
    }

    fn warn(&mut self, warning: Warning<'a>) {
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn value(&mut self, expression: &'a Expr) -> Result<Value<'a>, RenderError> {
        self.meter.step()?;
        match expression {
            Expr::Literal(value) => Ok(value.into()),
            Expr::Nothing => Ok(Value::Nothing),
            Expr::Path(_, parts) => self.look_up(parts),
            Expr::Range(from, to) => {
                let from = self.value(from)?.as_i64().unwrap_or(0);
                let to = self.value(to)?.as_i64().unwrap_or(0);
                let length = to.saturating_sub(from).saturating_add(1).clamp(0, MAX_RANGE + 1);
                Ok(Value::Range(from, usize::try_from(length).unwrap_or(0)))
            }
            Expr::Binary(left, operator, right) => self.binary(left, *operator, right).map(Value::Bool),
            Expr::Among(left, choices) => {
                let value = self.value(left)?;
                for right in choices {
                    let choice = self.value(right)?;
                    if self.equal((left, &value), (right, &choice))? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
        }
    }

    fn binary(&mut self, left: &'a Expr, operator: Operator, right: &'a Expr) -> Result<bool, RenderError> {
        let a = self.value(left)?;
        match operator {
            Operator::Or if a.is_truthy() => return Ok(true),
            Operator::And if !a.is_truthy() => return Ok(false),
            _ => {}
        }
        let b = self.value(right)?;
        match operator {
            Operator::Or | Operator::And => Ok(b.is_truthy()),
            Operator::Equal => self.equal((left, &a), (right, &b)),
            Operator::NotEqual => self.equal((left, &a), (right, &b)).map(|equal| !equal),
            Operator::Less => Ok(self.order(&a, &b)?.is_some_and(Ordering::is_lt)),
            Operator::Greater => Ok(self.order(&a, &b)?.is_some_and(Ordering::is_gt)),
            Operator::LessEqual => Ok(self.order(&a, &b)?.is_some_and(Ordering::is_le)),
            Operator::GreaterEqual => Ok(self.order(&a, &b)?.is_some_and(Ordering::is_ge)),
            Operator::Contains => self.contains(&a, &b),
        }
    }

    fn equal(&mut self, (left, a): (&Expr, &Value<'_>), (right, b): (&Expr, &Value<'_>)) -> Result<bool, RenderError> {
        let meter = &mut self.meter;
        if matches!(left, Expr::Nothing) || matches!(right, Expr::Nothing) {
            return Ok(a.is_blank(meter)? && b.is_blank(meter)?);
        }
        let is_list = |value: &Value<'_>| matches!(value, Value::Data(_) | Value::List(_) | Value::Range(..));
        Ok(match (a, b) {
            (Value::Bool(_), _) | (_, Value::Bool(_)) => a.is_truthy() == b.is_truthy(),
            (Value::Nothing, Value::Nothing) => true,
            (Value::Nothing, _) | (_, Value::Nothing) => false,
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (a, b) if is_list(a) || is_list(b) => a.same(b, meter)?,
            // CSV values are texts: "3" and 3 are equal.
            (a, b) => self.by_text(a, b)? == Ordering::Equal,
        })
    }

    fn order(&mut self, a: &Value<'_>, b: &Value<'_>) -> Result<Option<Ordering>, RenderError> {
        match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => self.by_text(a, b).map(Some),
        }
    }

    fn by_text(&mut self, a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, RenderError> {
        let (a, b) = (a.text(&mut self.meter)?, b.text(&mut self.meter)?);
        self.meter.read(a.len().min(b.len()))?;
        Ok(a.cmp(&b))
    }

    fn contains(&mut self, a: &Value<'_>, b: &Value<'_>) -> Result<bool, RenderError> {
        if a.length().is_some() {
            for item in a.items() {
                if item.same(b, &mut self.meter)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let (a, b) = (a.text(&mut self.meter)?, b.text(&mut self.meter)?);
        self.meter.read(a.len() + b.len())?;
        Ok(a.contains(b.as_ref()))
    }

    fn write(&mut self, value: &Value<'_>, place: Place) -> Result<(), RenderError> {
        let html = self.kind == Kind::Html;
        if html && place == Place::Forbidden {
            self.warn(Warning::Forbidden);
            return Ok(());
        }
        let text = value.text(&mut self.meter)?;
        let mut rest = text.as_ref();
        self.meter.read(rest.len())?;
        if html && place == Place::UrlStart {
            if !escape::is_safe_url(rest) {
                if !rest.is_empty() {
                    self.warn(Warning::UnsafeUrl);
                }
                rest = "#";
            }
            rest = rest.trim();
        }
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.floor_char_boundary(CHUNK));
            escape::write(chunk, self.kind, place, &mut self.out);
            self.meter.output(self.out.len())?;
            rest = behind;
        }
        Ok(())
    }

    /// Bytes of the output so far, and the values that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, impl Iterator<Item = &Value<'a>>) {
        (self.out.len(), self.assigned.values().chain(self.loops.iter().map(|l| &l.items)))
    }
}
