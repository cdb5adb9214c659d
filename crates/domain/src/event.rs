//! A tracking event: an open, a click or an unsubscribe, as it stands on `queue:analytics-processing`.
//!
//! Not responsible for storing or counting events; `verdict` judges who caused one.
//! To add a type: a word in `EventType`, a route in tracking, and the CHECK in a migration.

use core::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CampaignId, EventId, LeadId, StepId, TenantId};
use crate::payload::{Fields, PayloadError, TIME, UUID, is_time, is_uuid, json};
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

/// Longest link that is followed and counted, in bytes: as long as a token's.
const URL_BYTES: usize = 2048;

impl Event {
    /// Reads and checks a payload.
    ///
    /// # Errors
    /// The first field that breaks a rule, by name; the payload itself never stands in the error.
    pub fn parse(text: &str) -> Result<Self, PayloadError> {
        let value = json(text)?;
        let fields = Fields::of(&value)?;
        let kind = "must be open, click or unsubscribe";
        fields.required("type", kind, |v| v.as_str().is_some_and(|word| word.parse::<EventType>().is_ok()))?;
        for field in ["tenantId", "leadId", "campaignId", "stepId"] {
            fields.required(field, UUID, is_uuid)?;
        }
        fields.required("occurredAt", TIME, is_time)?;
        fields.optional("eventId", UUID, is_uuid)?;
        fields.optional("url", "must be an http or https URL of at most 2048 bytes without blanks", is_url)?;
        fields
            .optional("ip", "must be an IP address", |v| v.as_str().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()))?;
        fields.optional("userAgent", "must be text", serde_json::Value::is_string)?;
        fields.optional("method", "must be the name of an HTTP method", is_method)?;
        serde_json::from_value(value).map_err(|_| PayloadError::NotAnObject)
    }
}

fn is_url(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|url| {
        let is_clean = url.len() <= URL_BYTES && !url.chars().any(|c| c.is_control() || c.is_whitespace());
        is_clean && ["http://", "https://"].iter().any(|scheme| url.get(..scheme.len()) == Some(scheme))
    })
}

fn is_method(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|name| (1..=16).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_rule_is_named_by_field_and_repeats_no_value() {
        let whole = include_str!("../../../examples/payloads/event-click.json");
        let mut value: serde_json::Value = serde_json::from_str(whole).unwrap();
        assert!(Event::parse(whole).is_ok());
        let secret = "ana@acme.test";
        for field in
            ["type", "tenantId", "leadId", "campaignId", "stepId", "occurredAt", "eventId", "url", "ip", "method"]
        {
            let good = std::mem::replace(&mut value[field], secret.into());
            let error = Event::parse(&value.to_string()).unwrap_err();
            assert!(matches!(error, PayloadError::Field { field: named, .. } if named == field), "{field}: {error}");
            assert!(!error.to_string().contains(secret));
            value[field] = good;
        }
        for url in ["https://x.test/\0", "javascript:1", "https://x.test/ a"] {
            value["url"] = url.into();
            assert!(Event::parse(&value.to_string()).is_err(), "{url}");
        }
        value["url"] = format!("https://x.test/{}", "a".repeat(URL_BYTES)).into();
        assert!(Event::parse(&value.to_string()).is_err(), "too long");
        assert_eq!(Event::parse("[]").unwrap_err(), PayloadError::NotAnObject);
    }

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
