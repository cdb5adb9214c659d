//! `[[step]]`: the sequence of mails, waits and conditions.
//!
//! Not responsible for templates themselves (`templates`) or for their variants (`variants`). To add a kind of step: an arm in `step`.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::campaign::CampaignSettings;
use domain::event::EventType;
use domain::schedule::wait_hours;
use domain::step::{Condition, ConditionType, MAX_URL_PART, StepType};
use domain::trial::Measure;
use engines::store::setup::StepSetup;

use super::Reader;
use super::accounts::FileAccount;
use crate::toml_input::{Section, Spot};

/// The part of a link that a condition asks of.
const URL: &str = "url";
/// How long before it is asked a condition looks back.
const WITHIN: &str = "within_hours";

impl Reader<'_> {
    pub(super) fn steps(
        &self,
        root: &mut Section<'_>,
        accounts: &[FileAccount],
        settings: Option<&CampaignSettings>,
    ) -> Vec<StepSetup> {
        let sections = root.sections("step");
        if sections.is_empty() {
            if !root.has("step") {
                let problem = root.problem("missing section `[[step]]`: the campaign has no steps");
                self.problems.add(problem.hint("at least one: [[step]] with subject and html"));
            }
            return Vec::new();
        }
        let mut steps: Vec<StepSetup> = Vec::new();
        let mut keys = BTreeSet::new();
        let mut has_mail = false;
        for mut section in sections {
            let Some(step_type) = self.step_type(&mut section) else {
                // What the other keys mean is not known, so none of them can be wrong.
                has_mail = true;
                continue;
            };
            if step_type == StepType::Condition && !has_mail {
                let problem = section.problem("a condition asks about earlier mails, and no mail stands before it");
                self.problems.add(problem.hint("put it behind the first mail"));
            }
            has_mail |= step_type == StepType::Email;
            let key = self.step_key(&mut section, &mut keys);
            let step = StepSetup { key, ..self.step(&mut section, step_type, accounts) };
            if let Some(settings) = settings {
                self.asks_of_what_is_measured(&section, &step, settings);
            }
            steps.push(step);
            section.finish();
        }
        if !has_mail {
            let problem = root.problem("the campaign has no mail: all its steps are waits or conditions");
            self.problems.add(problem.field("step").hint("[[step]] with subject and html"));
        }
        steps
    }

    /// None where the word was not known.
    fn step_type(&self, section: &mut Section<'_>) -> Option<StepType> {
        if section.has("type") { section.take("type").map(|spot| spot.value) } else { Some(StepType::Email) }
    }

    /// What its author calls the step: by that it is known again when the file is changed.
    fn step_key(&self, section: &mut Section<'_>, keys: &mut BTreeSet<String>) -> Option<String> {
        let spot: Spot<String> = section.take("key")?;
        let key = self.one_line(spot.clone())?;
        if !keys.insert(key.clone()) {
            self.problems.add(spot.problem("another step has this key").hint("each key stands for one step"));
        }
        Some(key)
    }

    fn step(&self, section: &mut Section<'_>, step_type: StepType, accounts: &[FileAccount]) -> StepSetup {
        let wait: Option<Spot<f64>> = section.take("wait_hours");
        let wait_until = section.take("wait_until").map(|spot| spot.value);
        if let Some(spot) = &wait
            && let Err(error) = wait_hours(spot.value)
        {
            self.problems.add(spot.problem(error));
        }
        let is_bare_wait = step_type == StepType::Wait && !section.has("wait_hours") && !section.has("wait_until");
        if is_bare_wait {
            let problem = section.problem("a wait needs a length or an end");
            self.problems.add(problem.hint("wait_hours = 48, or wait_until = 2026-03-01T09:00:00Z"));
        }
        let mut step = StepSetup {
            key: None,
            is_active: section.take("active").is_none_or(|spot| spot.value),
            step_type,
            wait_hours: wait.map_or(0.0, |spot| spot.value),
            wait_until,
            condition: ConditionType::Always.into(),
            stop_if_false: false,
            account: None,
            template: None,
            trial: None,
        };
        match step_type {
            StepType::Email => {
                step.account = self.step_account(section, accounts);
                (step.template, step.trial) = self.texts(section);
            }
            StepType::Condition => {
                step.condition = self.condition(section);
                step.stop_if_false = self.stop_if_false(section);
            }
            StepType::Wait => {}
        }
        if step_type != StepType::Condition {
            for key in [URL, WITHIN] {
                self.refuse_key(section, key, "only a condition looks at what a lead did", "type = \"condition\"");
            }
        }
        step
    }

    /// What is not measured is always answered alike: nobody opened, the first variant wins.
    fn asks_of_what_is_measured(&self, section: &Section<'_>, step: &StepSetup, settings: &CampaignSettings) {
        let rule = step.trial.as_ref().and_then(|trial| trial.rule.as_ref());
        let asked = match (step.condition.asks.event_type(), rule.map(|rule| rule.by)) {
            (Some(EventType::Open), _) | (_, Some(Measure::Opens)) => (!settings.track_opens, "opens"),
            (Some(EventType::Click), _) | (_, Some(Measure::Clicks)) => (!settings.track_clicks, "clicks"),
            _ => return,
        };
        if let (true, what) = asked
            && step.is_active
        {
            let problem = section.problem(format!("asks for {what}, which this campaign does not measure"));
            self.problems.add(problem.hint(format!("track_{what} = true under [campaign]")));
        }
    }

    fn condition(&self, section: &mut Section<'_>) -> Condition {
        let hint = "condition = \"opened\", \"clicked\", \"not_opened\", …";
        let Some(asks) = section.require("condition", hint).map(|spot| spot.value) else {
            // What the keys beside it mean is not known.
            for key in [URL, WITHIN] {
                let _unjudged: Option<Spot<serde_json::Value>> = section.take(key);
            }
            return ConditionType::Always.into();
        };
        let mut condition = Condition::from(asks);
        if matches!(asks, ConditionType::Clicked | ConditionType::NotClicked) {
            condition.url_part = self.url_part(section);
        } else {
            let hint = "condition = \"clicked\" or \"not_clicked\"";
            self.refuse_key(section, URL, "only clicks are those of a link", hint);
        }
        if asks.event_type().is_some() {
            condition.within = self.within(section);
        } else {
            let hint = "condition = \"opened\", \"clicked\", \"not_opened\" or \"not_clicked\"";
            self.refuse_key(section, WITHIN, "only of opens and clicks is it known when they were", hint);
        }
        condition
    }

    fn url_part(&self, section: &mut Section<'_>) -> Option<String> {
        let spot: Spot<String> = section.take(URL)?;
        let part = spot.value.trim();
        let rule = if part.is_empty() {
            "must not be empty".to_owned()
        } else if part.chars().any(|c| c.is_control() || c.is_whitespace()) {
            "holds white space or a control character, which stand in no link".to_owned()
        } else if part.chars().count() > MAX_URL_PART {
            format!("is longer than {MAX_URL_PART} characters")
        } else {
            return Some(part.to_owned());
        };
        self.problems.add(spot.problem(rule).hint("a part of the link that counts: url = \"/prices\""));
        None
    }

    fn within(&self, section: &mut Section<'_>) -> Option<Duration> {
        let spot: Spot<f64> = section.take(WITHIN)?;
        let within = self.problems.ok(wait_hours(spot.value).map_err(|error| spot.problem(error)))?;
        if within.is_zero() {
            let problem = spot.problem("nothing happens within no time");
            self.problems.add(problem.hint("leave it out to count all since enrollment"));
        }
        Some(within)
    }

    /// A key that this kind of step does not have, though others do.
    pub(super) fn refuse_key(&self, section: &mut Section<'_>, key: &str, why: &str, hint: &str) {
        if section.has(key)
            && let Some(spot) = section.take::<serde_json::Value>(key)
        {
            self.problems.add(spot.problem(why).hint(hint));
        }
    }

    /// The account that a step names instead of the lead's own.
    fn step_account(&self, section: &mut Section<'_>, accounts: &[FileAccount]) -> Option<usize> {
        let spot: Spot<String> = section.take("email_account")?;
        let key = self.address(&spot)?.key();
        let found = accounts.iter().position(|account| account.address.key() == key);
        if found.is_none() {
            let problem = spot.problem("no [[email_account]] of this file has this address");
            self.problems.add(problem.hint("name one of them, or leave it out: a lead keeps its account"));
        }
        found
    }

    fn stop_if_false(&self, section: &mut Section<'_>) -> bool {
        let Some(spot) = section.take::<String>("value") else { return false };
        let is_stop = spot.value == "stop";
        if !is_stop {
            let problem = spot.problem("only `stop` may stand here");
            self.problems.add(
                problem.hint(
                    "\"stop\" ends the sequence when the condition is false; without it the next mail is skipped",
                ),
            );
        }
        is_stop
    }
}
