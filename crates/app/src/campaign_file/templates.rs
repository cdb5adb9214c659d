//! The templates of a step: read, compiled and rendered once for a try, so that a bad one is refused here.
//!
//! Not responsible for the language (`mail::template`). To add a part: `template`, and the store's `TemplateSetup`.

use engines::store::setup::TemplateSetup;
use mail::template::{Budget, Kind, MAX_SOURCE, Template};

use super::{Reader, read_text};
use crate::problem::{Place, Problem};
use crate::toml_input::{Section, Spot};

/// A part of a text, as a section gives it.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Missing,
    /// A problem was noted.
    Wrong,
    Found(String),
}

impl Part {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    pub(super) fn found(self) -> Option<String> {
        if let Self::Found(source) = self { Some(source) } else { None }
    }
}

/// Parts of a text.
pub(super) struct Sources {
    pub(super) subject: Part,
    pub(super) html: Part,
    pub(super) text: Part,
}

impl Reader<'_> {
    /// None where a problem was noted.
    pub(super) fn template(&self, section: &mut Section<'_>) -> Option<TemplateSetup> {
        let subject: Option<Spot<String>> = section.require("subject", "subject = \"Hello {{ firstName }}\"");
        let html: Option<Spot<String>> = section.require("html", "a file: html = \"templates/hello.html\"");
        let text: Option<Spot<String>> = section.take("text");
        let subject = subject.and_then(|spot| self.subject(&spot));
        let html = html.and_then(|spot| self.part(&spot, Kind::Html));
        let text = match text {
            Some(spot) => Some(self.part(&spot, Kind::Text)?),
            None => None,
        };
        Some(TemplateSetup { subject: subject?, html: html?, text })
    }

    /// What of a text a section gives; any of it may be missing.
    pub(super) fn sources(&self, section: &mut Section<'_>) -> Sources {
        let mut part = |key: &str, read: &dyn Fn(&Spot<String>) -> Option<String>| {
            // Asked for also where it is missing: a key that is spelt like it is told so.
            let (is_there, found) = (section.has(key), section.take(key));
            let found = found.and_then(|spot| read(&spot)).map_or(Part::Wrong, Part::Found);
            if is_there { found } else { Part::Missing }
        };
        Sources {
            subject: part("subject", &|spot| self.subject(spot)),
            html: part("html", &|spot| self.part(spot, Kind::Html)),
            text: part("text", &|spot| self.part(spot, Kind::Text)),
        }
    }

    fn subject(&self, spot: &Spot<String>) -> Option<String> {
        let source = self.one_line(spot.clone())?;
        let wrong = |error: &mail::template::ParseError| {
            spot.problem(&error.message).hint(format!("at character {} of the subject", error.column))
        };
        let template = self.problems.ok(Template::parse(&source, Kind::Header).map_err(|error| wrong(&error)))?;
        self.problems.ok(try_out(&template).map_err(|problem| problem.at(spot.place.clone()).field(&spot.field)))?;
        Some(source)
    }

    /// The source in the file that `spot` names.
    fn part(&self, spot: &Spot<String>, kind: Kind) -> Option<String> {
        let path = self.path(&spot.value);
        if spot.value.contains(['<', '\n']) || !path.is_file() {
            let shown: String = spot.value.chars().take(64).collect();
            let problem =
                spot.problem(format!("there is no file `{}`", self.path(&shown.replace('\n', " ")).display()));
            self.problems.add(problem.hint("the name of a file, relative to the campaign file"));
            return None;
        }
        let name = path.display().to_string();
        let here = |problem: Problem| problem.at(Place::file(&name)).field(&spot.field);
        let source = self.problems.ok(read_text(&path, MAX_SOURCE as u64).map_err(here))?;
        if source.trim().is_empty() {
            self.problems.add(here(Problem::new("template is empty (hint: a mail needs something to show)")));
            return None;
        }
        let compiled = Template::parse(&source, kind).map_err(|error| {
            let place = Place { column: Some(error.column as u64), ..Place::line(&name, error.line as u64) };
            Problem::new(&error.message).at(place).field(&spot.field)
        });
        let template = self.problems.ok(compiled)?;
        self.problems.ok(try_out(&template).map_err(here))?;
        Some(source)
    }
}

/// Renders once without data: loops over fixed ranges show their cost here.
fn try_out(template: &Template) -> Result<(), Problem> {
    template.render(&serde_json::json!({}), Budget::default()).map(|_| ()).map_err(Problem::new)
}
