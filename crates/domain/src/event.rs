//! A tracking event: an open, a click or an unsubscribe, as it stands on `queue:analytics-processing`.
//!
//! Not responsible for storing or counting events; `verdict` judges who caused one.
//! To add a type: a word in `EventType`, a route in tracking, and the CHECK in a migration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CampaignId, EventId, LeadId, StepId, TenantId};
use crate::time::Timestamp;
use crate::words::words;

words! {
    /// What happened.
    EventType, "event type", {
        /// The pixel was fetched.
        Open = "open",
        /// A link was followed.
        Click = "click",
        /// The lead asked for no more mail.
        Unsubscribe = "unsubscribe",
    }
}

words! {
    /// Who caused an event, as far as can be told.
    Verdict, "verdict", {
        /// A person.
        Human = "human",
        /// A mail provider that loads images ahead of the reader, such as Apple's.
        Prefetch = "prefetch",
        /// A security scanner or another robot.
        Scanner = "scanner",
        /// The sender's own visit.
        Own = "own",
    }
}

impl JsonSchema for EventType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventType".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": ["open", "click", "unsubscribe"] })
    }
}

/// One tracking event: a JSON object on `queue:analytics-processing`. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Makes the event countable once; one is given where a stranger left it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Whose mail it was.
    pub tenant_id: TenantId,
    /// Who did it.
    pub lead_id: LeadId,
    /// In which campaign.
    pub campaign_id: CampaignId,
    /// With the mail of which step.
    pub step_id: StepId,
    /// The link that was followed; clicks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's User-Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// HTTP method of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_events() {
        let read = |text: &str| serde_json::from_str::<Event>(text).unwrap();
        let open = read(include_str!("../../../examples/payloads/event-open.json"));
        assert!(open.event_type == EventType::Open && open.event_id.is_some() && open.url.is_none());
        let click = read(include_str!("../../../examples/payloads/event-click.json"));
        assert_eq!((click.event_type, click.url.as_deref()), (EventType::Click, Some("https://shop.example/")));
        let bare = read(include_str!("../../../examples/payloads/event-bare.json"));
        assert!(bare.event_type == EventType::Unsubscribe && bare.event_id.is_none() && bare.ip.is_none());
    }
}
