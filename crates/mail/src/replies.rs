//! What a server's refusal means: the rules of `replies.toml`, shared by worker, bounces and docs.
//!
//! The table is data and says why for each rule; this file only reads it and finds the rule that fits.
//! To add a rule: there, above the rules that are more general, with an example.

use std::sync::LazyLock;

use domain::settle::ReplyAction;
use serde::Deserialize;

use crate::smtp::{Reply, Stage};

/// A rule of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name in logs.
    pub id: String,
    /// The reason, for people.
    pub why: String,
    /// What it asks for.
    pub action: ReplyAction,
    #[serde(default)]
    stage: Vec<String>,
    #[serde(default)]
    codes: Vec<Code>,
    #[serde(default)]
    enhanced: Vec<String>,
    #[serde(default)]
    text: Vec<String>,
    /// An answer that this rule decides.
    pub example: Example,
}

/// An answer as a rule's example gives it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Stage by name.
    pub stage: String,
    /// Code.
    pub code: u16,
    /// Text, with its enhanced code where it has one.
    pub text: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Code {
    One(u16),
    /// `4xx` or `5xx`.
    Class(String),
}

impl Code {
    fn fits(&self, code: u16) -> bool {
        match self {
            Self::One(one) => *one == code,
            Self::Class(class) => class.ends_with("xx") && class.starts_with(&(code / 100).to_string()),
        }
    }
}

impl Rule {
    fn fits(&self, stage: &str, reply: &Reply) -> bool {
        let any = |list: &[String], found: &str| {
            list.iter().any(|want| match want.strip_suffix('x') {
                Some(prefix) => found.starts_with(prefix),
                None => want == found,
            })
        };
        let enhanced = reply.enhanced_text().unwrap_or_default();
        let text = reply.text.to_lowercase();
        (self.stage.is_empty() || self.stage.iter().any(|s| s == stage))
            && (self.codes.is_empty() || self.codes.iter().any(|code| code.fits(reply.code)))
            && (self.enhanced.is_empty() || any(&self.enhanced, &enhanced))
            && (self.text.is_empty() || self.text.iter().any(|part| text.contains(part)))
    }
}

#[derive(Deserialize)]
struct Table {
    rule: Vec<Rule>,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("../replies.toml"))
        .expect("replies.toml is part of the program, and a test reads it");
    table.rule
});

/// All rules in their order.
pub fn rules() -> &'static [Rule] {
    &RULES
}

/// The rule that decides a refusal at `stage`; none for a code below 400.
pub fn classify(stage: Stage, reply: &Reply) -> Option<&'static Rule> {
    rules().iter().find(|rule| rule.fits(stage.as_str(), reply)).filter(|_| reply.code >= 400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::ReplyParser;

    fn reply(code: u16, text: &str) -> Reply {
        let mut parser = ReplyParser::default();
        parser.feed(format!("{code} {text}\r\n").as_bytes());
        parser.next_reply().unwrap().unwrap()
    }

    #[test]
    fn each_example_is_decided_by_its_own_rule() {
        for rule in rules() {
            let example = &rule.example;
            let answer = reply(example.code, &example.text);
            let found = rules().iter().find(|r| r.fits(&example.stage, &answer)).unwrap();
            assert_eq!(found.id, rule.id);
            assert!(!rule.why.is_empty());
        }
    }

    /// A rule whose stage, class or text is misspelt would silently never fit.
    #[test]
    fn each_rule_can_fit() {
        const STAGES: &[&str] = &["banner", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "rset"];
        let mut ids = std::collections::HashSet::new();
        for rule in rules() {
            assert!(ids.insert(&rule.id), "{} stands there twice", rule.id);
            for stage in rule.stage.iter().chain([&rule.example.stage]) {
                assert!(STAGES.contains(&stage.as_str()), "{}: {stage}", rule.id);
            }
            for code in &rule.codes {
                assert!((400..=599).any(|number| code.fits(number)), "{}: {code:?}", rule.id);
            }
            for part in &rule.text {
                assert_eq!(*part, part.to_lowercase(), "{}: texts are compared in lower case", rule.id);
            }
        }
    }

    #[test]
    fn every_refusal_has_an_action() {
        for stage in [Stage::Banner, Stage::Ehlo, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Body, Stage::Dot] {
            for code in 400..=599 {
                let rule = classify(stage, &reply(code, "what?")).unwrap();
                let suppresses = matches!(rule.action, ReplyAction::BounceHard);
                assert!(!suppresses, "{code} without a reason suppresses nobody");
            }
        }
    }

    #[test]
    fn the_table_of_the_design_holds() {
        use ReplyAction as A;
        for (stage, code, text, action) in [
            (Stage::Rcpt, 550, "5.1.1 x", A::BounceHard),
            (Stage::Rcpt, 550, "5.7.13 x", A::BounceHard),
            (Stage::Rcpt, 550, "User unknown in table", A::BounceHard),
            (Stage::Dot, 550, "5.7.1 spam", A::FailPolicy),
            (Stage::Dot, 554, "no", A::FailUnknown),
            (Stage::Rcpt, 550, "5.1.0 Address rejected", A::FailUnknown),
            (Stage::Rcpt, 450, "4.1.1 x", A::RetrySoft),
            (Stage::Rcpt, 450, "4.2.1 x", A::RetrySoft),
            (Stage::Rcpt, 450, "4.2.1 rate limit exceeded", A::Throttle),
            (Stage::Rcpt, 450, "4.2.0 greylisted", A::Retry),
            (Stage::Dot, 451, "4.3.0 x", A::Retry),
            (Stage::Rcpt, 452, "4.2.2 full", A::Retry),
            (Stage::Mail, 421, "4.7.0 x", A::BackOffAccount),
            (Stage::Rcpt, 421, "4.7.28 Daily user sending quota", A::PauseUntilWindow),
            (Stage::Dot, 421, "4.7.28 x", A::PauseUntilWindow),
            (Stage::Rcpt, 550, "5.4.5 Daily user sending limit exceeded", A::PauseUntilWindow),
            (Stage::Rcpt, 550, "5.4.5 congestion", A::FailRouting),
            (Stage::Dot, 554, "5.2.0 Submission quota exceeded", A::PauseUntilWindow),
            (Stage::Banner, 554, "x", A::PauseAccount),
            (Stage::Banner, 421, "x", A::BackOffAccount),
            (Stage::Auth, 432, "4.7.12 x", A::BackOffAccount),
            (Stage::Auth, 535, "5.7.8 x", A::AuthFailed),
            (Stage::Auth, 454, "4.7.0 x", A::BackOffAccount),
            (Stage::Mail, 553, "x", A::PauseAccount),
            (Stage::Dot, 552, "5.2.2 x", A::BounceSoft),
            (Stage::Mail, 552, "5.3.4 x", A::BounceSoft),
            (Stage::Mail, 503, "x", A::FailOurFault),
            (Stage::Mail, 553, "5.6.7 x", A::FailContent),
        ] {
            let found = classify(stage, &reply(code, text)).unwrap();
            assert_eq!(found.action, action, "{code} {text}");
        }
        assert!(classify(Stage::Dot, &reply(250, "ok")).is_none());
    }
}
