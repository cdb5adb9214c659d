//! Problems in what a person gave us: what is wrong, where it stands, and how to mend it.
//!
//! Not responsible for finding any. A problem never shows a password, a token, a body or a lead's address.
//! To add a kind of place: a field of `Place` that both the text and the JSON form show.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// Where a problem stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// The file as the person named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u64>,
}

impl Place {
    /// A whole file.
    pub(crate) fn file(name: impl Into<String>) -> Self {
        Self { file: Some(name.into()), ..Self::default() }
    }

    /// A line of a file.
    pub(crate) fn line(name: impl Into<String>, line: u64) -> Self {
        Self { line: Some(line), ..Self::file(name) }
    }

    /// The place of byte `offset` of `text`, which is what file `name` holds.
    pub(crate) fn of_offset(name: impl Into<String>, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() as u64 + 1;
        Self { column: Some(column), ..Self::line(name, before.matches('\n').count() as u64 + 1) }
    }
}

/// `file:line:column`, as far as known.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file.as_deref().unwrap_or(""))?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

/// One thing that a person has to mend. Boxed: it is the error of many small functions that mostly succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Problem(Box<Details>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Details {
    #[serde(flatten)]
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    /// From a sentence; a closing `(hint: …)`, as our errors have it, becomes the hint.
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        let text = text.to_string();
        let (message, hint) = match text.strip_suffix(')').and_then(|whole| whole.rsplit_once(" (hint: ")) {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        Self(Box::new(Details { place: Place::default(), field: None, message, hint }))
    }

    /// Says where it stands.
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.0.place = place;
        self
    }

    /// Says which field, variable or option it is about.
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says how to mend it, where the sentence does not yet.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Whether it is about this field, variable or option.
    pub(crate) fn is_about(&self, field: &str) -> bool {
        self.0.field.as_deref() == Some(field)
    }

    /// What is wrong, with its place and field, and how to mend it.
    pub(crate) fn into_parts(mut self) -> (String, Option<String>) {
        let hint = self.0.hint.take();
        (self.to_string(), hint)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.place == other.0.place && self.0.message == other.0.message
    }
}

/// `place: field: message`, and the hint on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { place, field, message, hint } = &*self.0;
        if *place != Place::default() {
            write!(f, "{place}: ")?;
        }
        if let Some(field) = field {
            write!(f, "`{field}`: ")?;
        }
        f.write_str(message)?;
        match hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Collects problems, so that a person sees all of them at once.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    /// Notes one, unless the same is noted for the same place: a file that is named twice is wrong once.
    pub(crate) fn add(&self, problem: Problem) {
        let is_placed = problem.0.place != Place::default();
        if !(is_placed && self.0.borrow().iter().any(|other| other.is_same(&problem))) {
            self.0.borrow_mut().push(problem);
        }
    }

    /// The value, or its problem noted.
    pub(crate) fn ok<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    /// Whether one about this field, variable or option is noted.
    pub(crate) fn hold(&self, field: &str) -> bool {
        self.0.borrow().iter().any(|problem| problem.is_about(field))
    }

    /// All that was noted, in the order in which it was found.
    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }

    /// An error where any was found.
    ///
    /// # Errors
    /// All that was found: file by file, from top to bottom.
    pub(crate) fn into_result(self) -> Result<(), InputErrors> {
        let mut problems = self.0.into_inner();
        let mut files: Vec<Option<String>> = Vec::new();
        for problem in &problems {
            if !files.contains(&problem.0.place.file) {
                files.push(problem.0.place.file.clone());
            }
        }
        problems.sort_by_key(|problem| {
            let place = &problem.0.place;
            (files.iter().position(|file| *file == place.file), place.line, place.column)
        });
        if problems.is_empty() { Ok(()) } else { Err(InputErrors(problems)) }
    }
}

/// One or more problems; nothing was done.
#[derive(Debug)]
pub(crate) struct InputErrors(Vec<Problem>);

impl InputErrors {
    /// All problems: file by file, from top to bottom.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// One line for all.
    pub(crate) fn summary(&self) -> String {
        match self.0.as_slice() {
            [only] => only.to_string().replace("\n  hint: ", " (hint: ") + if only.0.hint.is_some() { ")" } else { "" },
            many => format!("{} problems; nothing was done", many.len()),
        }
    }
}

impl From<Problem> for InputErrors {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One paragraph for each, as people read it.
impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}error: {problem}")?;
        }
        if self.0.len() > 1 { write!(f, "\n{}", self.summary()) } else { Ok(()) }
    }
}

impl std::error::Error for InputErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_at_the_end_of_a_sentence_gets_its_own_line() {
        let problem = Problem::new("`x` is odd (hint: make it even)").at(Place::of_offset("f.toml", "a\nbé = 1", 5));
        assert_eq!(problem.to_string(), "f.toml:2:3: `x` is odd\n  hint: make it even");
        assert_eq!(InputErrors::from(problem).summary(), "f.toml:2:3: `x` is odd (hint: make it even)");
    }

    #[test]
    fn all_problems_are_shown_and_counted() {
        let problems = Problems::default();
        problems.add(Problem::new("one").field("a"));
        problems.add(Problem::new("two"));
        let errors = problems.into_result().unwrap_err();
        assert_eq!(errors.to_string(), "error: `a`: one\nerror: two\n2 problems; nothing was done");
    }
}
