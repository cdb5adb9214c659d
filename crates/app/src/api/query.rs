//! The query of a route: fields by name, each at most once, none that the route does not know.
//!
//! A `+` is a plus, as in an address: blanks are `%20`. Not responsible for what a field means. To add a kind of value: a
//! method of `Query`.

use std::ops::RangeInclusive;

use percent_encoding::percent_decode_str;

use super::refusal::Refusal;

/// The most of a field's name that is said again.
const NAME: usize = 40;

/// The fields of a query.
#[derive(Debug)]
pub(super) struct Query(Vec<(&'static str, String)>);

fn wrong<T>(field: &str, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Field { field: field.chars().take(NAME).collect(), why: why.into() })
}

impl Query {
    /// Reads a query of a route that knows these fields.
    ///
    /// # Errors
    /// `Field` for one that is not known, comes twice, or is no text.
    pub(super) fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Refusal> {
        let mut fields: Vec<(&'static str, String)> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let Some(field) = known.iter().find(|field| **field == name) else {
                return match known {
                    [] => wrong(&name, "is not known (hint: this route takes no fields)"),
                    _ => wrong(&name, format!("is not known (hint: this route takes {})", known.join(", "))),
                };
            };
            if fields.iter().any(|(other, _)| other == field) {
                return wrong(field, "comes twice");
            }
            match percent_decode_str(value).decode_utf8() {
                Ok(text) if !text.chars().any(char::is_control) => fields.push((field, text.into_owned())),
                _ => return wrong(field, "is no UTF-8 text without control characters"),
            }
        }
        Ok(Self(fields))
    }

    /// The text of a field, if it is there.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, text)| text.as_str())
    }

    /// The text of a field that must be there.
    ///
    /// # Errors
    /// `Field` where it is missing or empty.
    pub(super) fn required(&self, field: &'static str, what: &str) -> Result<&str, Refusal> {
        match self.text(field) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => wrong(field, format!("is missing (hint: {what})")),
        }
    }

    /// A whole number, or `default` where the field is not there.
    ///
    /// # Errors
    /// `Field` where it is no number of the range.
    pub(super) fn number(&self, field: &'static str, range: RangeInclusive<u32>, default: u32) -> Result<u32, Refusal> {
        let Some(text) = self.text(field) else { return Ok(default) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => wrong(field, format!("is no whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// An id, if the field is there.
    ///
    /// # Errors
    /// `Field` where it is none.
    pub(super) fn id(&self, field: &'static str) -> Result<Option<uuid::Uuid>, Refusal> {
        let Some(text) = self.text(field) else { return Ok(None) };
        text.parse().map_or_else(|_| wrong(field, "is none that a page gave as `next`"), |id| Ok(Some(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (String, String) {
        match result {
            Err(Refusal::Field { field, why }) => (field, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_are_decoded_and_a_plus_stays() {
        let query = Query::parse(Some("lead=ana%2btag%40acme.test&limit=5&"), &["lead", "limit"]).unwrap();
        assert_eq!(query.text("lead"), Some("ana+tag@acme.test"));
        assert_eq!(query.number("limit", 1..=10, 3).unwrap(), 5);
        let plus = Query::parse(Some("lead=a+b@acme.test"), &["lead", "limit"]).unwrap();
        assert_eq!(plus.text("lead"), Some("a+b@acme.test"));
        assert_eq!(plus.number("limit", 1..=10, 3).unwrap(), 3);
        assert_eq!(Query::parse(None, &[]).unwrap().id("after").unwrap(), None);
    }

    #[test]
    fn each_mistake_names_its_field() {
        for (query, field) in [
            ("limt=5", "limt"),
            ("limit=1&limit=2", "limit"),
            ("lead=%ff", "lead"),
            ("lead=a%00b", "lead"),
            ("%6cead=a%0ab", "lead"),
        ] {
            assert_eq!(refused(Query::parse(Some(query), &["lead", "limit"])).0, field, "{query}");
        }
        for limit in ["", "0", "11", "-1", "1.5", "99999999999", "x"] {
            let query = Query::parse(Some(&format!("limit={limit}")), &["limit"]).unwrap();
            let (field, why) = refused(query.number("limit", 1..=10, 3));
            assert_eq!((field.as_str(), why.as_str()), ("limit", "is no whole number from 1 to 10"), "{limit}");
        }
        let query = Query::parse(Some("lead=&after=7"), &["lead", "after"]).unwrap();
        assert_eq!(refused(query.required("lead", "an address")).0, "lead");
        assert_eq!(refused(query.id("after")).0, "after");
        let long = refused(Query::parse(Some(&"x".repeat(9_000)), &[]));
        assert_eq!((long.0.len(), long.1.as_str()), (NAME, "is not known (hint: this route takes no fields)"));
    }
}
