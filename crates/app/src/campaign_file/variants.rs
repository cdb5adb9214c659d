//! `[[step.variant]]` and `winner`: several texts of one mail, and how the best of them is found.
//!
//! Not responsible for templates themselves (`templates`) or for who gets which (`domain::trial`). To add a key of variants:
//! ask for it in `variant`; one of the rule: in `rule`.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::schedule::wait_hours;
use domain::trial::{MAX_KEY, MAX_VARIANTS, Measure, Rule, Variant};
use engines::store::setup::{TemplateSetup, TrialSetup, VariantSetup};

use super::Reader;
use super::templates::{Part, Sources};
use crate::toml_input::{Section, Spot};

const VARIANT: &str = "variant";
const WINNER: &str = "winner";
/// Shorter ones could be decided later than they say: a trial is not looked at all the time.
const LEAST_HOURS: f64 = 1.0;

impl Reader<'_> {
    /// What an email step sends: its text, and its variants if it has some; then its text is the first one's.
    pub(super) fn texts(&self, section: &mut Section<'_>) -> (Option<TemplateSetup>, Option<TrialSetup>) {
        if section.has(VARIANT) {
            let trial = self.trial(section);
            return (trial.as_ref().and_then(|trial| Some(trial.variants.first()?.template.clone())), trial);
        }
        let why = "only variants have a winner";
        self.refuse_key(section, WINNER, why, "[[step.variant]] with a key and a subject, two of them or more");
        (self.template(section), None)
    }

    /// None where a problem was noted.
    fn trial(&self, section: &mut Section<'_>) -> Option<TrialSetup> {
        let of_step = self.sources(section);
        let given = section.sections(VARIANT);
        if !(2..=MAX_VARIANTS).contains(&given.len()) {
            let problem = section.problem(format!("has {} variants, not 2 to {MAX_VARIANTS}", given.len()));
            self.problems.add(problem.hint("to send everybody one text write it into the step itself"));
        }
        let mut keys = BTreeSet::new();
        let variants = given.into_iter().map(|mut variant| {
            let read = self.variant(&mut variant, &of_step, &mut keys);
            variant.finish();
            read
        });
        // Each is read, so that all problems show at once.
        let variants: Vec<Option<VariantSetup>> = variants.collect();
        let rule = if section.has(WINNER) { Some(self.rule(section)?) } else { None };
        Some(TrialSetup { variants: variants.into_iter().collect::<Option<_>>()?, rule })
    }

    fn variant(
        &self,
        section: &mut Section<'_>,
        of_step: &Sources,
        keys: &mut BTreeSet<String>,
    ) -> Option<VariantSetup> {
        let key =
            section.require("key", "a letter or a short word: key = \"a\"").and_then(|spot| self.key(&spot, keys));
        let weight = self.weight(section);
        let own = self.sources(section);
        // A text part says what its own HTML says.
        let text = if own.html.is_missing() { own.text.or(&of_step.text) } else { own.text };
        let (subject, html) = (own.subject.or(&of_step.subject), own.html.or(&of_step.html));
        for (key, part) in [("subject", &subject), ("html", &html)] {
            if part.is_missing() {
                let problem = section.problem(format!("missing key `{key}`: neither the variant nor its step has one"));
                self.problems.add(problem);
            }
        }
        let text = if text.is_missing() { None } else { Some(text.found()?) };
        let template = TemplateSetup { subject: subject.found()?, html: html.found()?, text };
        Some(VariantSetup { variant: Variant { key: key?, weight: weight? }, template })
    }

    fn key(&self, spot: &Spot<String>, keys: &mut BTreeSet<String>) -> Option<String> {
        let key = spot.value.as_str();
        let may_stand = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let rule = if key.is_empty() || key.chars().count() > MAX_KEY || !key.chars().all(may_stand) {
            format!("must be 1 to {MAX_KEY} letters, digits, `-` or `_`")
        } else if !keys.insert(key.to_owned()) {
            "another variant of the step has this key".to_owned()
        } else {
            return Some(key.to_owned());
        };
        self.problems.add(spot.problem(rule).hint("by its key a variant is known again: key = \"a\""));
        None
    }

    fn weight(&self, section: &mut Section<'_>) -> Option<u32> {
        let is_there = section.has("weight");
        let Some(spot) = section.take::<u32>("weight") else { return (!is_there).then_some(1) };
        if spot.value == 0 {
            let problem = spot.problem("must be 1 or more");
            self.problems.add(problem.hint("leave the variant out to send it to nobody"));
        }
        Some(spot.value)
    }

    /// `winner = { by = "opens", after_hours = 24, sample_percent = 20 }`
    fn rule(&self, section: &mut Section<'_>) -> Option<Rule> {
        let mut section = section.section(WINNER)?;
        let by: Option<Spot<Measure>> = section.require("by", "by = \"opens\" or \"clicks\"");
        let hint = "hours behind the last mail of the sample: after_hours = 24";
        let after = section.require("after_hours", hint).and_then(|spot| self.after(&spot));
        let hint = "the part of the leads among whom the variants are tried: sample_percent = 20";
        let percent: Option<Spot<u32>> = section.require("sample_percent", hint);
        section.finish();
        let percent = percent?;
        if !(1..=99).contains(&percent.value) {
            let problem = percent.problem("must be 1 to 99");
            self.problems.add(problem.hint("leave `winner` out to split all leads, and decide by hand"));
        }
        Some(Rule { by: by?.value, after: after?, sample_percent: percent.value })
    }

    fn after(&self, spot: &Spot<f64>) -> Option<Duration> {
        if spot.value < LEAST_HOURS {
            self.problems.add(spot.problem("must be 1 or more").hint("people need a while to open a mail"));
            return None;
        }
        self.problems.ok(wait_hours(spot.value).map_err(|error| spot.problem(error)))
    }
}

impl Part {
    fn or(self, other: &Self) -> Self {
        if self.is_missing() { other.clone() } else { self }
    }
}
