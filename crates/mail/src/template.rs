//! Tenant templates: a bounded subset of Liquid, compiled once per template version.
//!
//! Values are data and never markup: they are escaped by the place they stand in (`context`). No access to
//! environment, files or time beyond what is passed; source, nesting, steps and output are bounded. A missing value is
//! empty, with a warning. To add a tag: `compile`; a filter: `filters`; a context: `context`.

mod compile;
mod context;
mod escape;
mod expression;
mod filters;
mod lexer;
mod meter;
mod names;
mod render;
mod value;

use std::sync::Arc;

use serde_json::Value;

use compile::Op;

/// What a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An HTML part: values are escaped by context.
    Html,
    /// A text part: values as they are.
    Text,
    /// A header's value: control characters in values become spaces, so none can break out of the line.
    Header,
}

/// Bounds of one rendering.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Most steps; 64 bytes that a filter or a comparison reads or makes are one, too.
    pub steps: u32,
    /// Most bytes of output.
    pub output: usize,
    /// Most bytes of values that filters make on the way, all together; an item of a list counts 64.
    pub values: usize,
}

impl Default for Budget {
    /// A million steps, 2 MiB of output (twice the largest source), 16 MiB of values.
    fn default() -> Self {
        Self { steps: 1_000_000, output: 2 << 20, values: 16 << 20 }
    }
}

/// Most bytes of a source.
pub const MAX_SOURCE: usize = 1 << 20;
/// Most tags within each other, and values within brackets.
const MAX_NESTING: usize = 64;
/// Most outputs, tags, values and filters of a template: each takes some hundred bytes once it is compiled.
const MAX_PARTS: usize = 50_000;
/// Most operators of one expression.
const MAX_OPERATORS: usize = 200;
/// Most bytes of a name.
const MAX_NAME: usize = 255;
/// Most warnings of one rendering.
const MAX_WARNINGS: usize = 100;

/// A compiled template: cheap to clone and share.
#[derive(Clone, Debug)]
pub struct Template {
    kind: Kind,
    ops: Arc<[Op]>,
}

/// A source that is not a template, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// A rendering that went over its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Too many steps.
    #[error("template takes more than {0} steps (hint: loop over fewer items)")]
    Steps(u32),
    /// Too much output.
    #[error("template makes more than {0} bytes (hint: loop over fewer items)")]
    Output(usize),
    /// Too much made by filters on the way.
    #[error("template's filters make more than {0} bytes of values (hint: use them on shorter values, or fewer)")]
    Values(usize),
}

/// What a rendering made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Names that had no value, and values that had to be left out; each once, at most 100.
    pub warnings: Vec<String>,
}

impl Template {
    /// Compiles a source.
    ///
    /// # Errors
    /// The first place that is no template, with line and column.
    pub fn parse(source: &str, kind: Kind) -> Result<Self, ParseError> {
        compile::compile(source, kind).map(|ops| Self { kind, ops: ops.into() })
    }

    /// Renders with `data`, an object. Names are found in either casing: `first_name` and `firstName` are one.
    ///
    /// # Errors
    /// Over its budget.
    pub fn render(&self, data: &Value, budget: Budget) -> Result<Rendered, RenderError> {
        render::render(&self.ops, self.kind, data, budget)
    }

    /// Whether the template asks for this name anywhere, e.g. `unsubscribe_url`.
    pub fn uses(&self, name: &str) -> bool {
        self.ops.iter().any(|op| op.uses(name))
    }
}

/// Escapes a text for HTML text and quoted attributes, onto `out`.
pub fn escape(text: &str, out: &mut String) {
    escape::html(text, out);
}

/// Where `offset` lies in `source`.
fn error_at(source: &str, offset: usize, message: impl Into<String>) -> ParseError {
    let before = &source[..offset.min(source.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    ParseError { line, column, message: message.into() }
}

/// The beginning of something that an error quotes.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
