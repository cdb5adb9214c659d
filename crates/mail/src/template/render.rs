//! Runs a compiled template within its budget and escapes every value by its place.
//!
//! Not responsible for parsing. To add a place: an arm in `write_escaped`.

use serde_json::{Map, Value};

use super::compile::Op;
use super::context::Place;
use super::expression::{Expr, Filtered, Operator, Part, fold};
use super::filters::{apply, is_blank, percent_encode, text};
use super::{Budget, Kind, RenderError, Rendered};

/// Most items that a range makes.
const MAX_RANGE: i64 = 10_000;

struct Loop {
    variable: String,
    items: Vec<Value>,
    index: usize,
}

struct Machine<'a> {
    kind: Kind,
    data: &'a Value,
    budget: Budget,
    steps: u32,
    out: String,
    warnings: Vec<String>,
    assigned: Map<String, Value>,
    loops: Vec<Loop>,
}

pub(super) fn render(ops: &[Op], kind: Kind, data: &Value, budget: Budget) -> Result<Rendered, RenderError> {
    let capacity: usize = ops.iter().map(|op| if let Op::Text(t) = op { t.len() } else { 24 }).sum();
    let mut machine = Machine {
        kind,
        data,
        budget,
        steps: 0,
        out: String::with_capacity(capacity.min(budget.output)),
        warnings: Vec::new(),
        assigned: Map::new(),
        loops: Vec::new(),
    };
    let mut at = 0;
    while let Some(op) = ops.get(at) {
        at = machine.run(op, at)?;
    }
    Ok(Rendered { text: machine.out, warnings: machine.warnings })
}

impl Machine<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), RenderError> {
        self.steps = self.steps.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > self.budget.steps {
            return Err(RenderError::Steps(self.budget.steps));
        }
        if self.out.len() > self.budget.output {
            return Err(RenderError::Output(self.budget.output));
        }
        Ok(())
    }

    /// Runs one step; the next one's position.
    fn run(&mut self, op: &Op, at: usize) -> Result<usize, RenderError> {
        self.spend(1)?;
        match op {
            Op::Text(text) => self.out.push_str(text),
            Op::Output(filtered, place) => {
                let value = self.evaluate(filtered)?;
                self.write_escaped(&value, *place);
                self.spend(0)?;
            }
            Op::Unless(condition, target) => {
                if !truthy(&self.value(condition)?) {
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
                self.assigned.insert(name.clone(), value);
            }
            Op::For { variable, over, limit, offset, reversed, end } => {
                let mut items = self.items(over)?;
                let skip = self.count(offset.as_ref())?.unwrap_or(0);
                items.drain(..skip.min(items.len()));
                items.truncate(self.count(limit.as_ref())?.unwrap_or(usize::MAX));
                if *reversed {
                    items.reverse();
                }
                if items.is_empty() {
                    return Ok(*end);
                }
                self.loops.push(Loop { variable: variable.clone(), items, index: 0 });
            }
            Op::Next { body } => {
                if let Some(current) = self.loops.last_mut() {
                    current.index += 1;
                    if current.index < current.items.len() {
                        return Ok(*body);
                    }
                    self.loops.pop();
                }
            }
        }
        Ok(at + 1)
    }

    fn items(&mut self, over: &Filtered) -> Result<Vec<Value>, RenderError> {
        let items = match self.evaluate(over)? {
            Value::Array(items) => items,
            Value::Object(map) => map.into_iter().map(|(k, v)| Value::from(vec![Value::from(k), v])).collect(),
            Value::Null => Vec::new(),
            other => vec![other],
        };
        self.spend(items.len())?;
        Ok(items)
    }

    fn count(&mut self, expression: Option<&Expr>) -> Result<Option<usize>, RenderError> {
        let Some(expression) = expression else { return Ok(None) };
        let value = self.value(expression)?;
        Ok(value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn evaluate(&mut self, filtered: &Filtered) -> Result<Value, RenderError> {
        let mut value = self.value(&filtered.value)?;
        if value.is_null()
            && let Expr::Path(name, _) = &filtered.value
            && !filtered.filters.iter().any(|(filter, _)| *filter == super::filters::Filter::Default)
        {
            self.warn(format!("`{name}` has no value"));
        }
        for (filter, arguments) in &filtered.filters {
            let arguments = arguments.iter().map(|a| self.value(a)).collect::<Result<Vec<_>, _>>()?;
            value = apply(*filter, &value, &arguments);
            // Long values cost: a chain of `append` must not double its way past the budget.
            let size = value.as_str().map_or(0, str::len);
            if size > self.budget.output {
                return Err(RenderError::Output(self.budget.output));
            }
            self.spend(1 + size / 1024)?;
        }
        Ok(value)
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn value(&mut self, expression: &Expr) -> Result<Value, RenderError> {
        self.spend(1)?;
        Ok(match expression {
            Expr::Literal(value) => value.clone(),
            Expr::Nothing => Value::Null,
            Expr::Path(_, parts) => self.look_up(parts)?,
            Expr::Range(from, to) => {
                let (from, to) = (self.value(from)?, self.value(to)?);
                let from = from.as_i64().unwrap_or(0);
                let to = to.as_i64().unwrap_or(0).min(from.saturating_add(MAX_RANGE));
                Value::from((from..=to).map(Value::from).collect::<Vec<_>>())
            }
            Expr::Binary(left, operator, right) => self.binary(left, *operator, right)?,
        })
    }

    fn binary(&mut self, left: &Expr, operator: Operator, right: &Expr) -> Result<Value, RenderError> {
        let a = self.value(left)?;
        match operator {
            Operator::Or if truthy(&a) => return Ok(true.into()),
            Operator::And if !truthy(&a) => return Ok(false.into()),
            _ => {}
        }
        let b = self.value(right)?;
        let nothing = matches!(left, Expr::Nothing) || matches!(right, Expr::Nothing);
        let equal = || if nothing { is_blank(&a) && is_blank(&b) } else { equals(&a, &b) };
        let order = || match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => Some(text(&a).cmp(&text(&b))),
        };
        Ok(Value::from(match operator {
            Operator::Or | Operator::And => truthy(&b),
            Operator::Equal => equal(),
            Operator::NotEqual => !equal(),
            Operator::Less => order().is_some_and(std::cmp::Ordering::is_lt),
            Operator::Greater => order().is_some_and(std::cmp::Ordering::is_gt),
            Operator::LessEqual => order().is_some_and(std::cmp::Ordering::is_le),
            Operator::GreaterEqual => order().is_some_and(std::cmp::Ordering::is_ge),
            Operator::Contains => match &a {
                Value::Array(items) => items.contains(&b),
                other => text(other).contains(&text(&b)),
            },
        }))
    }

    fn look_up(&mut self, parts: &[Part]) -> Result<Value, RenderError> {
        let Some((Part::Name(first), rest)) = parts.split_first() else { return Ok(Value::Null) };
        let indexes = rest
            .iter()
            .map(|part| match part {
                Part::Name(name) => Ok(Value::from(name.as_str())),
                Part::Index(expression) => self.value(expression),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if first == "forloop" && !self.loops.is_empty() {
            return Ok(self.forloop(&indexes));
        }
        let local = self.loops.iter().rev().find(|l| l.variable == *first).map(|l| &l.items[l.index]);
        let start = local.or_else(|| self.assigned.get(first)).or_else(|| member(self.data, first));
        let found = indexes.iter().try_fold(start, |value, index| value.map(|v| step(v, index)));
        Ok(found.flatten().cloned().unwrap_or(Value::Null))
    }

    fn forloop(&self, indexes: &[Value]) -> Value {
        let Some(current) = self.loops.last() else { return Value::Null };
        let (index, length) = (current.index, current.items.len());
        match indexes.first().and_then(Value::as_str) {
            Some("index") => Value::from(index + 1),
            Some("index0") => Value::from(index),
            Some("first") => Value::from(index == 0),
            Some("last") => Value::from(index + 1 == length),
            Some("length") => Value::from(length),
            _ => Value::Null,
        }
    }

    fn write_escaped(&mut self, value: &Value, place: Place) {
        let owned;
        let shown = match value {
            Value::String(text) => text.as_str(),
            other => {
                owned = text(other);
                &owned
            }
        };
        match self.kind {
            Kind::Text => self.out.push_str(shown),
            Kind::Header => self.out.extend(shown.chars().map(|c| if c.is_control() { ' ' } else { c })),
            Kind::Html => match place {
                Place::Markup => escape_html(shown, &mut self.out),
                Place::Unquoted => {
                    for c in shown.chars() {
                        if c.is_alphanumeric() {
                            self.out.push(c);
                        } else {
                            self.out.push_str(&format!("&#{};", u32::from(c)));
                        }
                    }
                }
                Place::UrlStart if is_safe_url(shown) => escape_html(shown.trim(), &mut self.out),
                Place::UrlStart => {
                    if !shown.is_empty() {
                        self.warn("a value that is no http, https, mailto or tel URL was left out of a link".into());
                    }
                    self.out.push('#');
                }
                Place::UrlPart => self.out.push_str(&percent_encode(shown)),
                Place::Mailto => self.out.push_str(&percent_encode(shown).replace("%40", "@")),
                Place::Forbidden => {
                    self.warn("a value inside a script, style, comment or tag was left out".into());
                }
            },
        }
    }
}

fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bool(_), _) | (_, Value::Bool(_)) => truthy(a) == truthy(b),
        (Value::Null, Value::Null) => true,
        (Value::Null, _) | (_, Value::Null) => false,
        // CSV values are texts: "3" and 3 are equal.
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => a == b,
        _ => text(a) == text(b),
    }
}

fn step<'v>(value: &'v Value, index: &Value) -> Option<&'v Value> {
    match (value, index) {
        (Value::Array(items), Value::Number(n)) => {
            let n = n.as_i64()?;
            let at =
                if n < 0 { items.len().checked_sub(usize::try_from(-n).ok()?)? } else { usize::try_from(n).ok()? };
            items.get(at)
        }
        (Value::Array(items), Value::String(name)) if name == "first" => items.first(),
        (Value::Array(items), Value::String(name)) if name == "last" => items.last(),
        (object @ Value::Object(_), Value::String(name)) => member(object, name),
        _ => None,
    }
}

/// A member by its exact name, else by its folded one.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let map = value.as_object()?;
    map.get(name).or_else(|| map.iter().find(|(key, _)| same_name(key, name)).map(|(_, v)| v))
}

fn same_name(key: &str, folded: &str) -> bool {
    let mut wanted = folded.chars();
    let mut letters = key.chars().filter(|c| *c != '_').flat_map(char::to_lowercase);
    let equal = letters.by_ref().all(|c| wanted.next() == Some(c)) && wanted.next().is_none();
    equal || fold(folded) == fold(key)
}

fn is_safe_url(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    let known = ["http://", "https://", "mailto:", "tel:"].iter().any(|scheme| lower.starts_with(scheme));
    known && !text.trim().chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Escapes for text and quoted attributes.
pub(super) fn escape_html(text: &str, out: &mut String) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let reference = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(reference);
        from = at + 1;
    }
    out.push_str(&text[from..]);
}
