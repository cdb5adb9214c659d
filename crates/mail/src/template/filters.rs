//! The filters of templates, as one table from name to behaviour.
//!
//! Filters see plain values and know nothing of escaping. There is no `raw`: a tenant's values are data. Each asks the
//! meter for what it reads and makes before it does. To add one: a line in `filters!` and an arm in the file of its kind.

mod lists;
mod numbers;
mod texts;

use super::RenderError;
use super::meter::Meter;
use super::value::Value;

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
        pub(super) const NAMES: &[&str] = &[$($name),*];
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
    const LONGEST: usize = 64;
    NAMES
        .iter()
        .filter(|_| name.len() <= LONGEST)
        .map(|other| (common(other).saturating_sub(other.len().abs_diff(name.len()) * 2), *other))
        .max()
        .filter(|(score, _)| *score >= name.len())
        .map(|(_, other)| other)
}

/// Applies a filter: what makes no sense gives an empty or unchanged value, as Liquid does.
///
/// # Errors
/// Over the budget; then nothing was made.
pub(super) fn apply<'a>(
    filter: Filter,
    value: Value<'a>,
    arguments: &[Value<'a>],
    meter: &mut Meter,
) -> Result<Value<'a>, RenderError> {
    match filter {
        Filter::Default => {
            let blank = value.is_blank(meter)?;
            Ok(if blank { arguments.first().cloned().unwrap_or(Value::Nothing) } else { value })
        }
        Filter::Join | Filter::First | Filter::Last | Filter::Size | Filter::Sort | Filter::Uniq | Filter::Reverse => {
            lists::apply(filter, &value, arguments, meter)
        }
        Filter::Plus
        | Filter::Minus
        | Filter::Times
        | Filter::DividedBy
        | Filter::Modulo
        | Filter::Round
        | Filter::Ceil
        | Filter::Floor
        | Filter::Abs => numbers::apply(filter, &value, arguments, meter),
        _ => texts::apply(filter, &value, arguments, meter),
    }
}

/// A count that an argument gives.
fn count(value: Option<&Value<'_>>, otherwise: usize, meter: &mut Meter) -> Result<usize, RenderError> {
    let Some(value) = value else { return Ok(otherwise) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a small range")]
    let n = numbers::number(value, meter)?.clamp(0.0, 1e6) as usize;
    Ok(n)
}
