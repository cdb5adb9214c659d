//! Faults that the sink plays: where in the dialogue, what happens, for whom, how often; and the count of those that
//! fired.
//!
//! Not responsible for how faults are written down (`plan` for files and options, `script` for local parts) or for
//! carrying them out (`session`). To add a kind: a variant of `Action`, or a `Stage` that `session` asks about.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::script;

/// Where in the dialogue a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// In place of the greeting.
    Connect,
    /// EHLO and HELO.
    Ehlo,
    /// STARTTLS.
    Starttls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, in place of 354.
    Data,
    /// When the first bytes of the message have come.
    Body,
    /// After the final dot, before the message is kept: what fails here was not accepted.
    Dot,
    /// After the message was kept, before its 250: what is cut here was accepted, and the client cannot know.
    Accept,
}

impl Stage {
    const ALL: [(&'static str, Self); 10] = [
        ("connect", Self::Connect),
        ("ehlo", Self::Ehlo),
        ("starttls", Self::Starttls),
        ("auth", Self::Auth),
        ("mail", Self::Mail),
        ("rcpt", Self::Rcpt),
        ("data", Self::Data),
        ("body", Self::Body),
        ("dot", Self::Dot),
        ("accept", Self::Accept),
    ];

    /// By its name in options and plans.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, stage)| (known == name).then_some(stage))
    }

    /// Whether a recipient is known here, so that a fault can be for one.
    pub(super) fn knows_recipients(self) -> bool {
        matches!(self, Self::Rcpt | Self::Data | Self::Body | Self::Dot | Self::Accept)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::ALL.iter().find(|(_, stage)| stage == self).expect("`ALL` holds every stage");
        f.write_str(name)
    }
}

/// A refusal: code 400 to 599 and text, of which each line becomes one of the reply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Refusal(String);

impl Refusal {
    /// What servers usually mean by this code at this stage, with its enhanced code (RFC 3463).
    pub(super) fn usual(code: u16, stage: Stage) -> Self {
        let text = match code {
            421 => "4.3.2 service is going down",
            450 => "4.2.1 mailbox is busy",
            451 if stage == Stage::Rcpt => "4.7.1 greylisted, try again later",
            452 => "4.2.2 mailbox is full",
            454 => "4.7.0 try again later",
            535 => "5.7.8 user name or password is wrong",
            550 if stage == Stage::Rcpt => "5.1.1 user unknown",
            552 => "5.2.2 mailbox is full",
            553 => "5.1.3 address is not allowed",
            550 | 554 => "5.7.1 refused by policy",
            400..500 => "4.3.0 try again later",
            _ => "5.0.0 refused",
        };
        Self(format!("{code} {text}"))
    }

    /// The reply as it goes over the wire, CRLF included.
    pub(super) fn to_wire(&self) -> String {
        let (code, text) = self.0.split_at(3);
        let lines: Vec<&str> = text.trim_start().split('\n').collect();
        let (last, before) = lines.split_last().expect("a split text has at least one part");
        let before: String = before.iter().map(|line| format!("{code}-{line}\r\n")).collect();
        format!("{before}{code} {last}\r\n")
    }

    /// Whether the server says goodbye with it (RFC 5321 3.8).
    pub(super) fn closes(&self) -> bool {
        self.0.starts_with("421")
    }
}

impl TryFrom<String> for Refusal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let code = text.get(..3).and_then(|code| code.parse::<u16>().ok());
        let ends_there = matches!(text.as_bytes().get(3), None | Some(b' '));
        if !code.is_some_and(|code| (400..600).contains(&code)) || !ends_there {
            return Err(format!(
                "`{text}` is no refusal (hint: a code from 400 to 599 and a text, e.g. 451 4.3.0 later)"
            ));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err("a reply holds a control character (hint: only \\n, between the lines of a reply)".into());
        }
        Ok(Self(text))
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Says this in place of the good answer.
    Reply(Refusal),
    /// Waits so long, then goes on as if nothing had been.
    DelayMs(u64),
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection (RST) without an answer.
    Reset,
}

impl Action {
    /// A wait, to the millisecond.
    pub(super) fn delay(wait: Duration) -> Self {
        Self::DelayMs(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(refusal) => f.write_str(&refusal.0[..3]),
            Self::DelayMs(ms) => write!(f, "{ms}ms"),
            Self::Close => f.write_str("close"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

/// A fault as a plan describes it: a line of a plan file, or an option.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Where it happens.
    pub(crate) stage: Stage,
    /// What happens.
    pub(crate) action: Action,
    /// Only for recipients that match; `*` stands for any characters, case does not matter.
    #[serde(default)]
    pub(crate) recipient: Option<String>,
    /// Only the nth time that stage and recipient match, from 1.
    #[serde(default)]
    pub(crate) nth: Option<u64>,
    /// Only each nth time.
    #[serde(default)]
    pub(crate) every: Option<u64>,
    /// At most so often.
    #[serde(default)]
    pub(crate) times: Option<u64>,
}

impl Rule {
    /// A fault for everybody, always.
    pub(crate) fn new(stage: Stage, action: Action) -> Self {
        Self { stage, action, recipient: None, nth: None, every: None, times: None }
    }
}

/// `dot 451 for *@slow.test`: what it is counted under.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.stage, self.action)?;
        self.recipient.iter().try_for_each(|recipient| write!(f, " for {recipient}"))
    }
}

/// How an answer is spoilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Reply(Refusal),
    Close,
    Reset,
}

/// What happens at one point of one dialogue: first the wait, then the end where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) delay: Duration,
    pub(super) end: Option<End>,
}

impl Fault {
    /// Waits add up; the first end counts.
    fn add(&mut self, action: &Action) {
        let end = match action {
            Action::DelayMs(ms) => {
                self.delay += Duration::from_millis(*ms);
                return;
            }
            Action::Reply(refusal) => End::Reply(refusal.clone()),
            Action::Close => End::Close,
            Action::Reset => End::Reset,
        };
        self.end.get_or_insert(end);
    }
}

/// All faults of a sink, and how often each fired; clones share the counts. By default there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Counted>,
    is_scripted: bool,
    scripted: Mutex<Scripted>,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    matched: AtomicU64,
    fired: AtomicU64,
}

#[derive(Debug, Default)]
struct Scripted {
    /// Addresses whose `once` is over.
    spent: HashSet<String>,
    fired: BTreeMap<String, u64>,
}

impl Faults {
    /// Those of a plan, and with `is_scripted` those that local parts ask for.
    pub(crate) fn new(rules: Vec<Rule>, is_scripted: bool) -> Self {
        let counted = |rule| Counted { rule, matched: AtomicU64::new(0), fired: AtomicU64::new(0) };
        let rules = rules.into_iter().map(counted).collect();
        Self(Arc::new(Inner { rules, is_scripted, scripted: Mutex::default() }))
    }

    /// What happens at `stage`, for a message to `recipients`; counts it as fired.
    pub(super) fn at(&self, stage: Stage, recipients: &[String]) -> Option<Fault> {
        let mut fault = Fault::default();
        for counted in self.0.rules.iter().filter(|counted| counted.rule.stage == stage) {
            let glob = counted.rule.recipient.as_ref();
            if glob.is_none_or(|glob| recipients.iter().any(|to| matches_glob(glob, to))) && counted.is_turn() {
                fault.add(&counted.rule.action);
            }
        }
        if self.0.is_scripted && stage.knows_recipients() {
            recipients.iter().for_each(|recipient| self.add_scripted(stage, recipient, &mut fault));
        }
        (fault != Fault::default()).then_some(fault)
    }

    fn add_scripted(&self, stage: Stage, recipient: &str, fault: &mut Fault) {
        let Some(script) = script::read(recipient).filter(|script| script.stage == stage) else { return };
        let mut scripted = self.0.scripted.lock().unwrap_or_else(PoisonError::into_inner);
        if script.once && !scripted.spent.insert(recipient.to_owned()) {
            return;
        }
        *scripted.fired.entry(script.name).or_default() += 1;
        fault.add(&script.action);
    }

    /// How often each fault fired, by name; those of a plan that never did are there with 0.
    pub(crate) fn fired(&self) -> Vec<(String, u64)> {
        let mut fired = self.0.scripted.lock().unwrap_or_else(PoisonError::into_inner).fired.clone();
        for Counted { rule, fired: count, .. } in &self.0.rules {
            *fired.entry(rule.to_string()).or_default() += count.load(Ordering::Relaxed);
        }
        fired.into_iter().collect()
    }
}

impl Counted {
    /// Whether the rule fires at this match; counts both.
    fn is_turn(&self) -> bool {
        let Rule { nth, every, times, .. } = self.rule;
        let turn = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        if nth.is_some_and(|nth| nth != turn) || every.is_some_and(|every| !turn.is_multiple_of(every)) {
            return false;
        }
        let limit = times.unwrap_or(u64::MAX);
        self.fired
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .is_ok()
    }
}

/// `*` stands for any characters, also for none.
fn matches_glob(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.to_lowercase(), text.to_lowercase());
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Refusal {
        Refusal::try_from(text.to_owned()).unwrap()
    }

    fn ends(faults: &Faults, stage: Stage, to: &str, times: usize) -> Vec<bool> {
        (0..times).map(|_| faults.at(stage, &[to.to_owned()]).is_some()).collect()
    }

    #[test]
    fn globs_match_whole_addresses() {
        for (glob, text, matches) in [
            ("*", "a@b.test", true),
            ("*@slow.test", "Ana@SLOW.test", true),
            ("*@slow.test", "ana@slow.test.org", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("ana@b.test", "ana@b.test", true),
            ("ana@b.test", "ana@b.testx", false),
        ] {
            assert_eq!(matches_glob(glob, text), matches, "{glob} {text}");
        }
    }

    #[test]
    fn a_rule_fires_at_its_turns_and_is_counted() {
        let close = Rule::new(Stage::Dot, Action::Close);
        let faults = Faults::new(vec![Rule { every: Some(2), times: Some(2), ..close.clone() }], false);
        assert_eq!(ends(&faults, Stage::Rcpt, "a@b.test", 2), [false, false]);
        assert_eq!(ends(&faults, Stage::Dot, "a@b.test", 7), [false, true, false, true, false, false, false]);
        assert_eq!(faults.fired(), [("dot close".to_owned(), 2)]);

        let faults = Faults::new(vec![Rule { nth: Some(2), recipient: Some("*@x.test".into()), ..close }], true);
        assert_eq!(ends(&faults, Stage::Dot, "a@b.test", 2), [false, false]);
        assert_eq!(ends(&faults, Stage::Dot, "a@x.test", 3), [false, true, false]);
        assert_eq!(faults.fired(), [("dot close for *@x.test".to_owned(), 1)]);
    }

    #[test]
    fn waits_add_up_and_the_first_end_counts() {
        let rules = [Action::DelayMs(5), Action::Reply(refusal("451 later")), Action::DelayMs(6), Action::Close];
        let faults = Faults::new(rules.into_iter().map(|action| Rule::new(Stage::Mail, action)).collect(), false);
        let expected = Fault { delay: Duration::from_millis(11), end: Some(End::Reply(refusal("451 later"))) };
        assert_eq!(faults.at(Stage::Mail, &[]), Some(expected));
    }

    #[test]
    fn once_is_once_for_each_address() {
        let faults = Faults::new(Vec::new(), true);
        for to in ["greylist+1@b.test", "greylist+2@b.test"] {
            assert_eq!(ends(&faults, Stage::Rcpt, to, 3), [true, false, false]);
        }
        assert_eq!(faults.fired(), [("greylist".to_owned(), 2)]);
    }

    #[test]
    fn refusals_are_checked_and_may_have_several_lines() {
        assert_eq!(refusal("550 5.1.1 no\nsuch\nuser").to_wire(), "550-5.1.1 no\r\n550-such\r\n550 user\r\n");
        assert_eq!(refusal("421").to_wire(), "421 \r\n");
        for bad in ["", "250 OK", "55", "5501 no", "550 a\rb", "abc", "é50 no"] {
            assert!(Refusal::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
