//! What a condition step asks of a lead, and whether it holds.
//!
//! Not responsible for reading reactions (`engines/store/reactions`), nor for what follows from a false answer (`plan`).
//! To add a question: a word in `ConditionType`, the events it is about in `event_type`, and its arm in `holds`.

use std::time::Duration;

use crate::event::EventType;
use crate::time::Timestamp;
use crate::words::words;

words! {
    /// What a condition asks about the mails sent so far in this campaign.
    ConditionType, "condition type", {
        /// Always true.
        Always = "always",
        /// A mail was opened.
        Opened = "opened",
        /// A link was clicked.
        Clicked = "clicked",
        /// The lead replied.
        Replied = "replied",
        /// No mail was opened.
        NotOpened = "not_opened" | "no_open",
        /// No link was clicked.
        NotClicked = "not_clicked" | "no_click",
        /// The lead did not reply.
        NotReplied = "not_replied" | "no_reply",
    }
}

impl ConditionType {
    /// The events that answer it; none where no event does.
    pub const fn event_type(self) -> Option<EventType> {
        match self {
            Self::Opened | Self::NotOpened => Some(EventType::Open),
            Self::Clicked | Self::NotClicked => Some(EventType::Click),
            Self::Always | Self::Replied | Self::NotReplied => None,
        }
    }
}

/// Most characters of `Condition::url_part`: enough for any link that a person tells apart.
pub const MAX_URL_PART: usize = 500;

/// What a condition step asks, about any earlier mail of its campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which reaction, or the lack of it.
    pub asks: ConditionType,
    /// A part of the link that counts, in whatever case; none = every link. Of clicks alone.
    pub url_part: Option<String>,
    /// Only what happened so long before the condition is asked counts; none = all since enrollment. Of opens and clicks.
    pub within: Option<Duration>,
}

impl From<ConditionType> for Condition {
    fn from(asks: ConditionType) -> Self {
        Self { asks, url_part: None, within: None }
    }
}

/// A link that a person clicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    /// Where it leads; empty where it is not known.
    pub url: String,
    /// When it was last clicked.
    pub at: Timestamp,
}

/// What the lead has done so far in this campaign, by a person's hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reactions {
    /// When a mail was last opened.
    pub opened_at: Option<Timestamp>,
    /// Links that were clicked.
    pub clicks: Vec<Click>,
    /// The lead replied.
    pub replied: bool,
}

impl Condition {
    /// Whether the condition of a lead who has come to it at `due` holds for these reactions. It may be asked later, when its
    /// turn has come: what happened meanwhile counts too, and what counted at `due` still does.
    pub fn holds(&self, reactions: &Reactions, due: Timestamp) -> bool {
        let is_recent = |at: Timestamp| self.within.is_none_or(|within| at >= due - within);
        let opened = || reactions.opened_at.is_some_and(is_recent);
        let clicked = || reactions.clicks.iter().any(|click| is_recent(click.at) && self.counts(&click.url));
        match self.asks {
            ConditionType::Always => true,
            ConditionType::Opened => opened(),
            ConditionType::Clicked => clicked(),
            ConditionType::Replied => reactions.replied,
            ConditionType::NotOpened => !opened(),
            ConditionType::NotClicked => !clicked(),
            ConditionType::NotReplied => !reactions.replied,
        }
    }

    fn counts(&self, url: &str) -> bool {
        self.url_part.as_ref().is_none_or(|part| url.to_lowercase().contains(&part.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_452_800);
    const HOUR: Duration = Duration::from_secs(3600);

    fn clicked(url: &str, ago: Duration) -> Reactions {
        Reactions { clicks: vec![Click { url: url.into(), at: NOW - ago }], ..Reactions::default() }
    }

    #[test]
    fn each_question_and_its_negation_are_answered_by_its_own_reaction_alone() {
        let opened = Reactions { opened_at: Some(NOW), ..Reactions::default() };
        let replied = Reactions { replied: true, ..Reactions::default() };
        let all = [opened, clicked("https://a.test", HOUR), replied];
        for (place, (asks, negation)) in [
            (ConditionType::Opened, ConditionType::NotOpened),
            (ConditionType::Clicked, ConditionType::NotClicked),
            (ConditionType::Replied, ConditionType::NotReplied),
        ]
        .into_iter()
        .enumerate()
        {
            for (other, reactions) in all.iter().enumerate() {
                assert_eq!(Condition::from(asks).holds(reactions, NOW), place == other, "{asks} of {other}");
                assert_eq!(Condition::from(negation).holds(reactions, NOW), place != other, "{negation} of {other}");
            }
        }
        assert!(Condition::from(ConditionType::Always).holds(&Reactions::default(), NOW));
    }

    #[test]
    fn a_part_of_the_link_is_enough_in_whatever_case() {
        let asks = |part: &str| Condition { url_part: Some(part.into()), ..ConditionType::Clicked.into() };
        let reactions = clicked("https://Shop.example/Preise/ÄPFEL?x=1", HOUR);
        for (part, holds) in [("preise", true), ("SHOP.EXAMPLE/", true), ("äpfel", true), ("/prices", false)] {
            assert_eq!(asks(part).holds(&reactions, NOW), holds, "{part}");
        }
        // No wildcards: what a person writes is what is looked for.
        assert!(!asks("shop%").holds(&reactions, NOW) && !asks("_hop").holds(&reactions, NOW));
    }

    #[test]
    fn only_what_is_recent_counts_where_that_is_asked() {
        let within = |asks: ConditionType| Condition { within: Some(24 * HOUR), ..asks.into() };
        for (ago, is_recent) in [(24 * HOUR, true), (24 * HOUR + Duration::from_micros(1), false)] {
            let opened = Reactions { opened_at: Some(NOW - ago), ..Reactions::default() };
            assert_eq!(within(ConditionType::Opened).holds(&opened, NOW), is_recent);
            assert_eq!(within(ConditionType::NotOpened).holds(&opened, NOW), !is_recent);
            assert_eq!(within(ConditionType::Clicked).holds(&clicked("https://a.test", ago), NOW), is_recent);
        }
    }

    #[test]
    fn the_link_and_the_time_must_be_those_of_one_click() {
        let both = Condition {
            url_part: Some("/b".into()),
            within: Some(24 * HOUR),
            ..Condition::from(ConditionType::Clicked)
        };
        let mut reactions = clicked("https://a.test/b", 48 * HOUR);
        reactions.clicks.extend(clicked("https://a.test/c", HOUR).clicks);
        assert!(!both.holds(&reactions, NOW));
        reactions.clicks.extend(clicked("https://a.test/B", HOUR).clicks);
        assert!(both.holds(&reactions, NOW));
    }
}
