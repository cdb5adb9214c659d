//! Filters over numbers; a text counts as the number it shows, and else as 0.
//!
//! Not responsible for texts and lists. To add one: an arm in `apply`.

use serde_json::Number;

use super::super::RenderError;
use super::super::meter::Meter;
use super::super::value::Value;
use super::Filter;

pub(super) fn apply<'a>(
    filter: Filter,
    value: &Value<'a>,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let left = number(value, meter)?;
    let right = arguments.first().map_or(Ok(0.0), |argument| number(argument, meter))?;
    Ok(match filter {
        Filter::Plus => from_number(left + right),
        Filter::Minus => from_number(left - right),
        Filter::Times => from_number(left * right),
        Filter::DividedBy | Filter::Modulo if right == 0.0 => Value::Nothing,
        Filter::DividedBy => {
            // Two whole numbers give a whole number, as in Liquid.
            let whole = value.as_i64().is_some() && arguments.first().is_some_and(|by| by.as_i64().is_some());
            from_number(if whole { (left / right).floor() } else { left / right })
        }
        Filter::Modulo => from_number(left.rem_euclid(right)),
        Filter::Round => {
            #[expect(clippy::cast_possible_truncation, reason = "clamped to 0..12")]
            let scale = 10_f64.powi(right.clamp(0.0, 12.0) as i32);
            from_number((left * scale).round() / scale)
        }
        Filter::Ceil => from_number(left.ceil()),
        Filter::Floor => from_number(left.floor()),
        _ => from_number(left.abs()),
    })
}

/// The number that a value is or shows; 0 where it is none.
pub(super) fn number(value: &Value<'_>, meter: &mut Meter) -> Result<f64, RenderError> {
    if let Some(text) = value.as_text() {
        meter.read(text.len())?;
        return Ok(text.trim().parse().unwrap_or(0.0));
    }
    Ok(value.as_f64().unwrap_or(0.0))
}

fn from_number<'a>(n: f64) -> Value<'a> {
    // Whole results show without a decimal point, as people expect of counts.
    if n.fract() == 0.0 && n.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        return Value::Number((n as i64).into());
    }
    Number::from_f64(n).map_or(Value::Nothing, Value::Number)
}
