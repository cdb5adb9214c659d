//! Filters that make texts of texts. Each asks for its result's size before it makes it.
//!
//! Not responsible for numbers and lists. To add one: an arm in `apply`, with what it reads and makes.

use std::ops::Range;

use super::super::RenderError;
use super::super::escape::percent;
use super::super::meter::{ITEM, Meter};
use super::super::value::Value;
use super::{Filter, count, numbers::number};

/// Most bytes that one byte becomes when its case changes (`ΐ` in capitals), and when it is percent-encoded.
const GROWTH: usize = 3;
/// Most bytes of a character in capitals: three characters of four bytes.
const CAPITAL: usize = 12;

pub(super) fn apply<'a>(
    filter: Filter,
    value: &Value<'a>,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let text = value.text(meter)?;
    let text = text.as_ref();
    let argument = match arguments.first() {
        Some(argument) => argument.text(meter)?,
        None => "".into(),
    };
    meter.read(text.len())?;
    let whole = text.len();
    match filter {
        Filter::Upcase => make(whole * GROWTH, meter, || text.to_uppercase()),
        Filter::Downcase => make(whole * GROWTH, meter, || text.to_lowercase()),
        Filter::Capitalize => make(whole + CAPITAL, meter, || capitalize(text)),
        Filter::Strip => part(value, text, whole - text.trim_start().len()..text.trim_end().len(), meter),
        Filter::Lstrip => part(value, text, whole - text.trim_start().len()..whole, meter),
        Filter::Rstrip => part(value, text, 0..text.trim_end().len(), meter),
        Filter::StripHtml => make(whole, meter, || strip_html(text)),
        Filter::StripNewlines => make(whole, meter, || text.replace(['\r', '\n'], "")),
        Filter::UrlEncode => make(whole * GROWTH, meter, || {
            let mut out = String::with_capacity(whole);
            percent(text, "", &mut out);
            out
        }),
        Filter::Append => make(whole + argument.len(), meter, || [text, &argument].concat()),
        Filter::Prepend => make(whole + argument.len(), meter, || [&argument, text].concat()),
        Filter::Replace | Filter::Remove if argument.is_empty() => Ok(value.clone()),
        Filter::Replace => replace(value, text, [&argument, &second(arguments, "", meter)?], usize::MAX, meter),
        Filter::ReplaceFirst => replace(value, text, [&argument, &second(arguments, "", meter)?], 1, meter),
        Filter::Remove => replace(value, text, [&argument, ""], usize::MAX, meter),
        Filter::Truncate => truncate(value, text, arguments, meter),
        Filter::TruncateWords => truncate_words(value, text, arguments, meter),
        Filter::Slice => slice(value, text, arguments, meter),
        _ => split(value, text, &argument, meter),
    }
}

fn make<'a>(most: usize, meter: &mut Meter, build: impl FnOnce() -> String) -> Result<Value<'a>, RenderError> {
    meter.make(most)?;
    Ok(Value::made(build()))
}

/// A part of a text: of the data or the template it is a view.
fn part<'a>(value: &Value<'a>, text: &str, range: Range<usize>, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    // All of it is white space: the two ends have met.
    let range = range.start.min(range.end)..range.end;
    if let Value::Text(whole) = value {
        return Ok(Value::Text(&whole[range]));
    }
    meter.make(range.len())?;
    Ok(Value::made(&text[range]))
}

fn second<'v>(
    arguments: &'v [Value<'_>],
    otherwise: &'v str,
    meter: &mut Meter,
) -> Result<std::borrow::Cow<'v, str>, RenderError> {
    match arguments.get(1) {
        Some(argument) => argument.text(meter),
        None => Ok(otherwise.into()),
    }
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn strip_html(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .filter(|c| {
            let shown = !inside && *c != '<';
            inside = (inside || *c == '<') && *c != '>';
            shown
        })
        .collect()
}

fn replace<'a>(
    value: &Value<'a>,
    text: &str,
    [from, to]: [&str; 2],
    most: usize,
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    meter.read(from.len())?;
    let times = text.matches(from).take(most).count();
    if times == 0 {
        return Ok(value.clone());
    }
    let kept = text.len() - times * from.len();
    make(kept.saturating_add(times.saturating_mul(to.len())), meter, || text.replacen(from, to, times))
}

fn truncate<'a>(
    value: &Value<'a>,
    text: &str,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let length = count(arguments.first(), 50, meter)?;
    let ending = second(arguments, "...", meter)?;
    meter.read(ending.len())?;
    if text.chars().count() <= length {
        return Ok(value.clone());
    }
    let kept = length.saturating_sub(ending.chars().count());
    let kept = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    make(kept + ending.len(), meter, || [&text[..kept], &ending].concat())
}

fn truncate_words<'a>(
    value: &Value<'a>,
    text: &str,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let most = count(arguments.first(), 15, meter)?;
    let ending = second(arguments, "...", meter)?;
    let mut words = text.split_whitespace();
    if words.by_ref().nth(most).is_none() {
        return Ok(value.clone());
    }
    make(text.len() + ending.len(), meter, || {
        let mut out = String::with_capacity(text.len().min(most.saturating_mul(8)));
        for word in text.split_whitespace().take(most) {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
        out.push_str(&ending);
        out
    })
}

fn slice<'a>(
    value: &Value<'a>,
    text: &str,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    let from = arguments.first().map_or(Ok(0.0), |from| number(from, meter))?;
    let length = count(arguments.get(1), 1, meter)?;
    let size = text.chars().count();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the text"
    )]
    let start = if from < 0.0 { (size as f64 + from).max(0.0) as usize } else { from.min(size as f64) as usize };
    let offset = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    part(value, text, offset(start)..offset(start.saturating_add(length)), meter)
}

fn split<'a>(value: &Value<'a>, text: &str, by: &str, meter: &mut Meter) -> Result<Value<'a>, RenderError> {
    meter.read(by.len())?;
    let pieces = if by.is_empty() { text.chars().count() } else { text.matches(by).count() + 1 };
    meter.make(pieces.saturating_mul(ITEM).saturating_add(text.len()))?;
    let list = match value {
        Value::Text(whole) => cut(whole, by).map(Value::Text).collect(),
        _ => cut(text, by).map(Value::made).collect(),
    };
    Ok(Value::List(list))
}

/// The pieces between `by`, or the characters.
fn cut<'t>(text: &'t str, by: &str) -> impl Iterator<Item = &'t str> {
    let (chars, pieces) = if by.is_empty() {
        (Some(text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])), None)
    } else {
        (None, Some(text.split(by)))
    };
    chars.into_iter().flatten().chain(pieces.into_iter().flatten())
}
