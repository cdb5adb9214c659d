//! The job payload on `queue:email-sending`: five ids and some scheduling metadata, never an address or a body.
//!
//! Not responsible for whether the ids belong together: the store checks that against the tenant.
//! To add metadata: an optional field here; older readers ignore it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{CampaignId, EmailAccountId, LeadId, SendId, StepId, TenantId};
use crate::payload::{Fields, PayloadError, TIME, UUID, is_time, is_uuid, json};
use crate::time::Timestamp;

/// One message to send: a JSON object on `queue:email-sending`. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmailJobPayload {
    /// Whose mail it is.
    pub tenant_id: TenantId,
    /// In which campaign.
    pub campaign_id: CampaignId,
    /// To whom.
    pub lead_id: LeadId,
    /// Which step of the campaign.
    pub step_id: StepId,
    /// From which account.
    pub email_account_id: EmailAccountId,
    /// The ledger row; a stranger's job has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_id: Option<SendId>,
    /// 1 (most urgent) to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub priority: Option<u16>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Attempts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Most attempts; can only lower the retry schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
    /// When the job was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enqueued_at: Option<Timestamp>,
}

impl EmailJobPayload {
    /// Reads and checks a payload.
    ///
    /// # Errors
    /// The first field that breaks a rule, by name; the payload itself never stands in the error.
    pub fn parse(text: &str) -> Result<Self, PayloadError> {
        let value = json(text)?;
        let fields = Fields::of(&value)?;
        for field in ["tenantId", "campaignId", "leadId", "stepId", "emailAccountId"] {
            fields.required(field, UUID, is_uuid)?;
        }
        fields.optional("sendId", UUID, is_uuid)?;
        fields.optional("priority", "must be a whole number from 1 to 1000", |v| {
            v.as_u64().is_some_and(|n| (1..=1000).contains(&n))
        })?;
        fields.optional("notBefore", TIME, is_time)?;
        fields
            .optional("attempt", "must be a whole number", |v| v.as_u64().is_some_and(|n| u32::try_from(n).is_ok()))?;
        fields.optional("maxAttempts", "must be a whole number of at least 1", |v| {
            v.as_u64().is_some_and(|n| n >= 1 && u32::try_from(n).is_ok())
        })?;
        fields.optional("enqueuedAt", TIME, is_time)?;
        serde_json::from_value(value).map_err(|_| PayloadError::NotAnObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f3a5e-0000-7000-8000-000000000001";

    fn bare(extra: &str) -> String {
        format!(
            r#"{{"tenantId":"{ID}","campaignId":"{ID}","leadId":"{ID}","stepId":"{ID}","emailAccountId":"{ID}"{extra}}}"#
        )
    }

    #[test]
    fn five_ids_are_a_complete_job_and_unknown_fields_are_ignored() {
        let job = EmailJobPayload::parse(&bare(r#","somethingNew":[1]"#)).unwrap();
        assert_eq!(job.send_id, None);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(EmailJobPayload::parse(&text).unwrap(), job);
    }

    #[test]
    fn the_examples_are_jobs() {
        let bare = EmailJobPayload::parse(include_str!("../../../examples/payloads/job-bare.json")).unwrap();
        assert_eq!((bare.send_id, bare.priority), (None, None));
        let full = EmailJobPayload::parse(include_str!("../../../examples/payloads/job.json")).unwrap();
        assert!(full.send_id.is_some() && full.not_before.is_some() && full.max_attempts == Some(6));
    }

    #[test]
    fn a_broken_rule_is_named_by_field() {
        let field = |text: &str| match EmailJobPayload::parse(text).unwrap_err() {
            PayloadError::Field { field, .. } => field,
            PayloadError::NotAnObject | PayloadError::TooLong { .. } => "",
        };
        assert_eq!(field("[]"), "");
        assert_eq!(field("not json"), "");
        assert_eq!(field("{}"), "tenantId");
        assert_eq!(field(&bare("").replace(r#""leadId":"018f3a5e-"#, r#""leadId":"018f3a5e"#)), "leadId");
        assert_eq!(field(&bare(r#","priority":0"#)), "priority");
        assert_eq!(field(&bare(r#","notBefore":"tomorrow""#)), "notBefore");
        assert_eq!(field(&bare(r#","maxAttempts":0"#)), "maxAttempts");
        assert_eq!(field(&bare(r#","sendId":7"#)), "sendId");
    }
}
