//! Faults written down: a plan file with one rule a line, and the options `--fail`, `--delay`, `--drop`.
//!
//! Not responsible for what a rule means (`fault`). To add a field to a rule: in `Rule`, and in `set` for options.

use super::fault::{Action, Refusal, Rule, Stage};
use crate::duration::{ParsePeriodError, Period};
use crate::problem::{InputErrors, Place, Problem, Problems};

/// The grammar, as `--help` shows it.
pub(crate) const HELP: &str = "\
Faults by option, repeatable; STAGE is connect, ehlo, starttls, auth, mail, rcpt, data, body, dot or accept:
  --fail rcpt=451                    refuse each recipient
  --fail 'dot=554 5.7.1 spam',every=10,times=3
  --delay dot=6s,for=*@slow.test     answer late; --delay 6s is --delay dot=6s
  --drop body,nth=2                  close the connection; body=reset resets it
  for=GLOB recipients that match; nth=N only the nth time; every=N each nth time; times=N at most so often

Faults by plan: a file with one JSON object a line, with the same fields:
  {\"stage\": \"dot\", \"action\": {\"reply\": \"451 4.3.0 later\"}, \"recipient\": \"*@x.test\", \"times\": 3}
  {\"stage\": \"mail\", \"action\": {\"delay_ms\": 6000}}      also \"action\": \"close\" or \"reset\"";

/// Reads a plan; blank lines are skipped.
///
/// # Errors
/// Every line that is no rule, with its number in file `name`.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Rule>, InputErrors> {
    let mut rules = Vec::new();
    let problems = Problems::default();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let rule = serde_json::from_str::<Rule>(line)
            .map_err(|e| {
                // Each line is parsed alone, so its own `at line 1` would point elsewhere.
                let text = e.to_string();
                text.split(" at line ").next().unwrap_or("").to_owned()
            })
            .and_then(check);
        rules.extend(problems.ok(rule.map_err(|e| Problem::new(e).at(Place::line(name, number)))));
    }
    problems.into_result()?;
    Ok(rules)
}

/// `--fail STAGE=CODE[ TEXT][,KEY=VALUE…]`.
pub(crate) fn fail(text: &str) -> Result<Rule, String> {
    option(text, |stage, value| {
        let value = value.ok_or("a code is missing (hint: e.g. rcpt=451)")?;
        let refusal = Refusal::try_from(value.to_owned())?;
        // Checked: a text of three characters is a code alone.
        Ok(Action::Reply(value.parse().map_or(refusal, |code| Refusal::usual(code, stage))))
    })
}

/// `--delay STAGE=TIME[,KEY=VALUE…]`, or a time alone for the final dot.
pub(crate) fn delay(text: &str) -> Result<Rule, String> {
    if let Ok(Period(wait)) = text.parse() {
        return Ok(Rule::new(Stage::Dot, Action::delay(wait)));
    }
    option(text, |_, value| {
        let text = value.ok_or("a time is missing (hint: e.g. dot=6s)")?;
        let Period(wait) = text.parse().map_err(|e: ParsePeriodError| e.to_string())?;
        Ok(Action::delay(wait))
    })
}

/// `--drop STAGE[=close|reset][,KEY=VALUE…]`.
pub(crate) fn drop(text: &str) -> Result<Rule, String> {
    option(text, |_, value| match value {
        None | Some("close") => Ok(Action::Close),
        Some("reset") => Ok(Action::Reset),
        Some(other) => Err(format!("`{other}` is neither close nor reset")),
    })
}

fn option(text: &str, action: impl FnOnce(Stage, Option<&str>) -> Result<Action, String>) -> Result<Rule, String> {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or("");
    let (name, value) = first.split_once('=').map_or((first, None), |(name, value)| (name, Some(value)));
    let stage = Stage::named(name).ok_or_else(|| format!("`{name}` is no stage (hint: see the list below --help)"))?;
    let mut rule = Rule::new(stage, action(stage, value)?);
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KEY=VALUE"))?;
        set(&mut rule, key, value)?;
    }
    check(rule)
}

fn set(rule: &mut Rule, key: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<u64>().map_err(|_| format!("`{key}={value}` is not a number"));
    match key {
        "for" => rule.recipient = Some(value.to_owned()),
        "nth" => rule.nth = Some(number()?),
        "every" => rule.every = Some(number()?),
        "times" => rule.times = Some(number()?),
        _ => return Err(format!("`{key}` is unknown (hint: for, nth, every, times)")),
    }
    Ok(())
}

fn check(rule: Rule) -> Result<Rule, String> {
    if rule.recipient.is_some() && !rule.stage.knows_recipients() {
        return Err(format!("no recipient is known at stage `{}` (hint: rcpt or later)", rule.stage));
    }
    if [rule.nth, rule.every, rule.times].contains(&Some(0)) {
        return Err("nth, every and times count from 1".into());
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_lines_of_a_plan_say() {
        for (rule, line) in [
            (fail("rcpt=550"), r#"{"stage": "rcpt", "action": {"reply": "550 5.1.1 user unknown"}}"#),
            (
                fail("dot=554 5.7.1 no,every=10,times=3"),
                r#"{"stage": "dot", "action": {"reply": "554 5.7.1 no"}, "every": 10, "times": 3}"#,
            ),
            (
                delay("dot=6s,for=*@slow.test"),
                r#"{"stage": "dot", "action": {"delay_ms": 6000}, "recipient": "*@slow.test"}"#,
            ),
            (drop("body,nth=2"), r#"{"stage": "body", "action": "close", "nth": 2}"#),
            (drop("connect=reset"), r#"{"stage": "connect", "action": "reset"}"#),
        ] {
            assert_eq!(read("plan.jsonl", line).unwrap(), [rule.unwrap()], "{line}");
        }
    }

    #[test]
    fn bad_rules_say_what_is_wrong_and_where() {
        for (rule, message) in [
            (fail("rcpt"), "a code is missing"),
            (fail("rcpt=250 OK"), "is no refusal"),
            (fail("nowhere=451"), "is no stage"),
            (fail("mail=451,for=*@x.test"), "no recipient is known"),
            (delay("dot=soon"), "is not a length of time"),
            (drop("dot=softly"), "neither close nor reset"),
            (drop("dot,every=0"), "count from 1"),
            (drop("dot,often=1"), "`often` is unknown"),
        ] {
            let error = rule.unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        let plan = "\n{\"stage\": \"dot\"}\n{\"stage\": \"dot\", \"action\": \"close\", \"x\": 1}\n";
        let errors = read("plan.jsonl", plan).unwrap_err();
        let text = errors.to_string();
        assert!(text.contains("plan.jsonl:2") && text.contains("missing field `action`"), "{text}");
        assert!(text.contains("plan.jsonl:3") && text.contains("unknown field `x`"), "{text}");
    }
}
