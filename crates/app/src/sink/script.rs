//! Faults told by the recipient's local part: `451-once+anna@x.test` is refused the first time, then accepted.
//!
//! Not responsible for carrying them out (`session`). To add one: a word in `What::read`, or in `WORDS` for a shorthand, and in `HELP`.

use super::fault::{Action, Refusal, Stage};
use crate::duration::Period;

/// The grammar, as `--help` shows it.
pub(crate) const HELP: &str = "\
Faults by the recipient's local part (with --faults): the word before its first +, e.g. 451-once+ana@acme.test
  550             refused at RCPT, with any code from 400 to 599; 421 closes the connection as well
  451-once        refused the first time, accepted from then on; -once goes with every fault here
  552-after-dot   refused after the final dot; also -at-rcpt, -at-data, -after-accept
  close-after-dot connection closed without a reply and the message thrown away; also -at-rcpt, -at-data, -in-data
  close-after-accept  the same, but the message is kept: the client cannot know
  reset-in-data   a reset (RST) in the middle of the message; also the places above
  slow-6s         the final dot is answered after 6 s; also slow-250ms, slow-6s-at-rcpt, …
  greylist 451-once   unknown 550   busy 421   full 552-after-dot   spam 554-after-dot   later 451-after-dot
  cut close-in-data   silent close-after-accept   slow slow-1s";

/// Words for faults that are often wanted.
const WORDS: &[(&str, &str)] = &[
    ("greylist", "451-once"),
    ("unknown", "550"),
    ("busy", "421"),
    ("full", "552-after-dot"),
    ("spam", "554-after-dot"),
    ("later", "451-after-dot"),
    ("cut", "close-in-data"),
    ("silent", "close-after-accept"),
    ("silent-once", "close-after-accept-once"),
    ("slow", "slow-1s"),
];

/// A fault that a local part asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// What it is counted under: the local part up to `+`.
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) action: Action,
    pub(super) once: bool,
}

/// The fault that an address asks for, if any.
pub(super) fn read(address: &str) -> Option<Script> {
    let local = address.rsplit_once('@')?.0;
    let (name, _) = local.split_once('+')?;
    let script = WORDS.iter().find(|(word, _)| *word == name).map_or(name, |(_, script)| script);
    let mut words = script.split('-');
    let what = What::read(words.next()?, &mut words)?;
    let mut once = false;
    let mut stage = None;
    while let Some(word) = words.next() {
        match word {
            "once" => once = true,
            "at" | "in" | "after" => stage = Some(place(word, words.next()?)?),
            _ => return None,
        }
    }
    let (stage, action) = what.at(stage)?;
    Some(Script { name: name.to_owned(), stage, action, once })
}

/// What is to happen, before it is known where.
enum What {
    Refuse(u16),
    Wait(Period),
    Cut(Action),
}

impl What {
    fn read<'a>(word: &str, more: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        match word {
            "close" => Some(Self::Cut(Action::Close)),
            "reset" => Some(Self::Cut(Action::Reset)),
            "slow" => more.next()?.parse().ok().map(Self::Wait),
            code => code.parse().ok().filter(|code| (400..600).contains(code)).map(Self::Refuse),
        }
    }

    /// Where it happens unless it says so, and what it is there; a cut must say where.
    fn at(self, stage: Option<Stage>) -> Option<(Stage, Action)> {
        Some(match self {
            Self::Refuse(code) => {
                let stage = stage.unwrap_or(Stage::Rcpt);
                (stage, Action::Reply(Refusal::usual(code, stage)))
            }
            Self::Wait(Period(wait)) => (stage.unwrap_or(Stage::Dot), Action::delay(wait)),
            Self::Cut(action) => (stage?, action),
        })
    }
}

fn place(preposition: &str, word: &str) -> Option<Stage> {
    match (preposition, word) {
        ("at", "rcpt") => Some(Stage::Rcpt),
        ("at", "data") => Some(Stage::Data),
        ("in", "data") => Some(Stage::Body),
        ("after", "dot") => Some(Stage::Dot),
        ("after", "accept") => Some(Stage::Accept),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_parts_tell_stage_action_and_once() {
        for (address, stage, shown, once) in [
            ("550+anna@x.test", Stage::Rcpt, "550", false),
            ("451-once+b@x.test", Stage::Rcpt, "451", true),
            ("greylist+7@x.test", Stage::Rcpt, "451", true),
            ("552-after-dot+@x.test", Stage::Dot, "552", false),
            ("421-at-rcpt+b@x.test", Stage::Rcpt, "421", false),
            ("451-at-data-once+b@x.test", Stage::Data, "451", true),
            ("close-after-dot+b@x.test", Stage::Dot, "close", false),
            ("close-after-accept-once+b@x.test", Stage::Accept, "close", true),
            ("reset-in-data+a+b@x.test", Stage::Body, "reset", false),
            ("silent-once+b@x.test", Stage::Accept, "close", true),
            ("slow+b@x.test", Stage::Dot, "1000ms", false),
            ("full+b@x.test", Stage::Dot, "552", false),
            ("slow-6s+b@x.test", Stage::Dot, "6000ms", false),
            ("slow-250ms-at-rcpt+b@x.test", Stage::Rcpt, "250ms", false),
        ] {
            let script = read(address).unwrap();
            assert_eq!((script.stage, script.action.to_string().as_str(), script.once), (stage, shown, once));
        }
    }

    #[test]
    fn ordinary_addresses_ask_for_nothing() {
        for address in [
            "ana@x.test",
            "ana+550@x.test",
            "550@x.test",
            "slow@x.test",
            "close+a@x.test",
            "close-by+a@x.test",
            "250+a@x.test",
            "5501+a@x.test",
            "550-rue+a@x.test",
            "slow-down+a@x.test",
            "550+a",
            "+@x.test",
            "close-at-mail+a@x.test",
        ] {
            assert_eq!(read(address), None, "{address}");
        }
    }
}
