//! Typed ids: one newtype over `Uuid` for each kind of row, so that a lead's id never stands where a send's is wanted.
//!
//! Not responsible for making ids: chance is an argument here, so callers pass a fresh UUIDv7 to `from_uuid`.
//! To add a kind: one line in the `ids!` list below.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to be of this kind.
            pub const fn from_uuid(id: Uuid) -> Self { Self(id) }
            /// The bare UUID.
            pub const fn uuid(self) -> Uuid { self.0 }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> { text.parse().map(Self) }
        }
    )*};
}

ids! {
    /// Id of a tenant: the owner of everything else.
    TenantId
    /// Id of a company: name and postal address for the footer.
    CompanyId
    /// Id of a sending domain.
    DomainId
    /// Id of an email account: what we send from.
    EmailAccountId
    /// Id of a template.
    TemplateId
    /// Id of a lead: a person who may be mailed.
    LeadId
    /// Id of a campaign.
    CampaignId
    /// Id of a step of a campaign's sequence.
    StepId
    /// Id of an enrollment: one lead's progress through one campaign.
    EnrollmentId
    /// Id of a send: one message to one lead for one step.
    SendId
    /// Id of a tracking event.
    EventId
}
