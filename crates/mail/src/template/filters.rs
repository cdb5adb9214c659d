//! The filters of templates, as one table from name to behaviour.
//!
//! Filters see plain values and know nothing of escaping. There is no `raw`: a tenant's values are data.
//! To add one: a line in `filters!` and an arm in `apply`.

use serde_json::Value;

macro_rules! filters {
    ($($variant:ident $name:literal $least:literal..$most:literal,)*) => {
        /// A filter by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Filter { $($variant),* }
        impl Filter {
            pub(super) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
            /// Least and most arguments.
            pub(super) fn arguments(self) -> (usize, usize) {
                match self { $(Self::$variant => ($least, $most)),* }
            }
        }
        const NAMES: &[&str] = &[$($name),*];
    };
}

filters! {
    Default "default" 1..1,
    Upcase "upcase" 0..0,
    Downcase "downcase" 0..0,
    Capitalize "capitalize" 0..0,
    Strip "strip" 0..0,
    Lstrip "lstrip" 0..0,
    Rstrip "rstrip" 0..0,
    StripHtml "strip_html" 0..0,
    StripNewlines "strip_newlines" 0..0,
    Truncate "truncate" 1..2,
    TruncateWords "truncatewords" 1..2,
    Replace "replace" 2..2,
    ReplaceFirst "replace_first" 2..2,
    Remove "remove" 1..1,
    Append "append" 1..1,
    Prepend "prepend" 1..1,
    Slice "slice" 1..2,
    Split "split" 1..1,
    Join "join" 0..1,
    First "first" 0..0,
    Last "last" 0..0,
    Size "size" 0..0,
    Sort "sort" 0..0,
    Uniq "uniq" 0..0,
    Reverse "reverse" 0..0,
    UrlEncode "url_encode" 0..0,
    Plus "plus" 1..1,
    Minus "minus" 1..1,
    Times "times" 1..1,
    DividedBy "divided_by" 1..1,
    Modulo "modulo" 1..1,
    Round "round" 0..1,
    Ceil "ceil" 0..0,
    Floor "floor" 0..0,
    Abs "abs" 0..0,
}

/// The name that was probably meant.
pub(super) fn nearest_filter(name: &str) -> Option<&'static str> {
    let common = |other: &str| name.chars().filter(|c| other.contains(*c)).count() * 2;
    NAMES
        .iter()
        .map(|other| (common(other).saturating_sub(other.len().abs_diff(name.len()) * 2), *other))
        .max()
        .filter(|(score, _)| *score >= name.len())
        .map(|(_, other)| other)
}

/// The text that a value shows as.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Object(_) => String::new(),
        other => other.to_string(),
    }
}

/// Whether nothing is there: nil, false, an empty text or list.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| text(value).trim().parse().ok()).unwrap_or(0.0)
}

fn from_number(n: f64) -> Value {
    // Whole results show without a decimal point, as people expect of counts.
    if n.fract() == 0.0 && n.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "bounded just above")]
        return Value::from(n as i64);
    }
    Value::from(n)
}

fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        other => vec![other.clone()],
    }
}

fn count(value: Option<&Value>, otherwise: usize) -> usize {
    value.map_or(otherwise, |v| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a small range")]
        let n = number(v).clamp(0.0, 1e6) as usize;
        n
    })
}

/// Applies a filter. Never fails: what makes no sense gives an empty or unchanged value, as Liquid does.
pub(super) fn apply(filter: Filter, value: &Value, arguments: &[Value]) -> Value {
    let argument = |i: usize| arguments.get(i).map(text).unwrap_or_default();
    let n = |i: usize| arguments.get(i).map_or(0.0, number);
    let map = |change: &dyn Fn(&str) -> String| Value::from(change(&text(value)));
    match filter {
        Filter::Default if is_blank(value) => arguments.first().cloned().unwrap_or(Value::Null),
        Filter::Default => value.clone(),
        Filter::Upcase => map(&str::to_uppercase),
        Filter::Downcase => map(&str::to_lowercase),
        Filter::Capitalize => map(&capitalize),
        Filter::Strip => map(&|t| t.trim().to_owned()),
        Filter::Lstrip => map(&|t| t.trim_start().to_owned()),
        Filter::Rstrip => map(&|t| t.trim_end().to_owned()),
        Filter::StripHtml => map(&strip_html),
        Filter::StripNewlines => map(&|t| t.replace(['\r', '\n'], "")),
        Filter::Truncate => map(&|t| truncate(t, count(arguments.first(), 50), arguments.get(1))),
        Filter::TruncateWords => map(&|t| truncate_words(t, count(arguments.first(), 15), arguments.get(1))),
        Filter::Replace if argument(0).is_empty() => value.clone(),
        Filter::Replace => map(&|t| t.replace(&argument(0), &argument(1))),
        Filter::ReplaceFirst => map(&|t| t.replacen(&argument(0), &argument(1), 1)),
        Filter::Remove if argument(0).is_empty() => value.clone(),
        Filter::Remove => map(&|t| t.replace(&argument(0), "")),
        Filter::Append => map(&|t| format!("{t}{}", argument(0))),
        Filter::Prepend => map(&|t| format!("{}{t}", argument(0))),
        Filter::Slice => slice(value, n(0), count(arguments.get(1), 1)),
        Filter::Split => split(&text(value), &argument(0)),
        Filter::Join => {
            let glue = arguments.first().map_or_else(|| " ".to_owned(), text);
            Value::from(list(value).iter().map(text).collect::<Vec<_>>().join(&glue))
        }
        Filter::First => list(value).into_iter().next().unwrap_or(Value::Null),
        Filter::Last => list(value).pop().unwrap_or(Value::Null),
        Filter::Size => Value::from(match value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            other => text(other).chars().count(),
        }),
        Filter::Sort => sorted(value),
        Filter::Uniq => uniq(value),
        Filter::Reverse => Value::from(list(value).into_iter().rev().collect::<Vec<_>>()),
        Filter::UrlEncode => map(&|t| percent_encode(t)),
        Filter::Plus => from_number(number(value) + n(0)),
        Filter::Minus => from_number(number(value) - n(0)),
        Filter::Times => from_number(number(value) * n(0)),
        Filter::DividedBy => divided(value, arguments.first()),
        Filter::Modulo if n(0) == 0.0 => Value::Null,
        Filter::Modulo => from_number(number(value).rem_euclid(n(0))),
        Filter::Round => {
            #[expect(clippy::cast_possible_truncation, reason = "clamped to 0..12")]
            let scale = 10_f64.powi(n(0).clamp(0.0, 12.0) as i32);
            from_number((number(value) * scale).round() / scale)
        }
        Filter::Ceil => from_number(number(value).ceil()),
        Filter::Floor => from_number(number(value).floor()),
        Filter::Abs => from_number(number(value).abs()),
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

fn truncate(text: &str, length: usize, ending: Option<&Value>) -> String {
    let ending = ending.map_or_else(|| "...".to_owned(), self::text);
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = length.saturating_sub(ending.chars().count());
    text.chars().take(kept).chain(ending.chars()).collect()
}

fn truncate_words(text: &str, words: usize, ending: Option<&Value>) -> String {
    let all: Vec<&str> = text.split_whitespace().collect();
    if all.len() <= words {
        return text.to_owned();
    }
    let ending = ending.map_or_else(|| "...".to_owned(), self::text);
    format!("{}{ending}", all[..words].join(" "))
}

fn slice(value: &Value, from: f64, length: usize) -> Value {
    let text = text(value);
    let size = text.chars().count();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the text"
    )]
    let start = if from < 0.0 { (size as f64 + from).max(0.0) as usize } else { from.min(size as f64) as usize };
    Value::from(text.chars().skip(start).take(length).collect::<String>())
}

fn split(text: &str, by: &str) -> Value {
    if by.is_empty() {
        return Value::from(text.chars().map(|c| Value::from(c.to_string())).collect::<Vec<_>>());
    }
    Value::from(text.split(by).map(Value::from).collect::<Vec<_>>())
}

fn sorted(value: &Value) -> Value {
    let mut items = list(value);
    items.sort_by(|a, b| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => text(a).cmp(&text(b)),
    });
    Value::from(items)
}

fn uniq(value: &Value) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for item in list(value) {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    Value::from(kept)
}

fn divided(value: &Value, by: Option<&Value>) -> Value {
    let divisor = by.map_or(0.0, number);
    if divisor == 0.0 {
        return Value::Null;
    }
    let quotient = number(value) / divisor;
    // Two whole numbers give a whole number, as in Liquid.
    let whole = value.is_i64() && by.is_some_and(Value::is_i64);
    from_number(if whole { quotient.floor() } else { quotient })
}

/// Percent-encodes all but unreserved characters (RFC 3986 2.3).
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
