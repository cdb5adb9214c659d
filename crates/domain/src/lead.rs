//! A lead: a person who may be mailed.
//!
//! Not responsible for progress through a campaign (`enrollment`) or for who must not be mailed at all (`suppression`).
//! To add a field of the product's own: here, in the migration and in the CSV reader; tenants use `custom_fields`.

use crate::ids::{LeadId, TenantId};
use crate::time::Zone;
use crate::words::words;

words! {
    /// Whether a lead may be mailed, and if not why.
    LeadStatus, "lead status", {
        /// May be mailed.
        Active = "active",
        /// The address does not exist.
        Bounced = "bounced",
        /// Asked for no more mail.
        Unsubscribed = "unsubscribed",
        /// Reported a mail as spam.
        Complained = "complained",
        /// Answered; matters where the campaign stops on a reply.
        Replied = "replied",
    }
}

/// A person who may be mailed, with all that a template may show of them.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Id of the row.
    pub id: LeadId,
    /// Whose lead this is.
    pub tenant_id: TenantId,
    /// The address as it was given; unique per tenant without regard to case.
    pub email: String,
    /// Whole name.
    pub name: Option<String>,
    /// First name; falls back to the first word of `name`.
    pub first_name: Option<String>,
    /// Last name; falls back to the rest of `name`.
    pub last_name: Option<String>,
    /// Where the lead works.
    pub company: Option<String>,
    /// What the lead does there.
    pub job_title: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// City.
    pub city: Option<String>,
    /// State or province.
    pub state: Option<String>,
    /// Country.
    pub country: Option<String>,
    /// The lead's own zone, for `recipient_local`.
    pub timezone: Option<Zone>,
    /// The tenant's own fields: an object.
    pub custom_fields: serde_json::Value,
    /// Whether the lead may be mailed.
    pub status: LeadStatus,
    /// Whether opens and clicks may be measured.
    pub tracking_consent: bool,
}

/// First and last name, from their own fields or else from a split of the whole name at its first space.
pub fn split_name<'a>(
    name: Option<&'a str>,
    first: Option<&'a str>,
    last: Option<&'a str>,
) -> (Option<&'a str>, Option<&'a str>) {
    let filled = |text: Option<&'a str>| text.map(str::trim).filter(|t| !t.is_empty());
    let (split_first, split_last) = match filled(name) {
        Some(whole) => match whole.split_once(char::is_whitespace) {
            Some((a, b)) => (Some(a), filled(Some(b))),
            None => (Some(whole), None),
        },
        None => (None, None),
    };
    (filled(first).or(split_first), filled(last).or(split_last))
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names_fall_back_to_a_split_of_the_whole() {
        assert_eq!(split_name(Some(" Ana María Gil "), None, None), (Some("Ana"), Some("María Gil")));
        assert_eq!(split_name(Some("Ana Gil"), Some("Anna"), Some(" ")), (Some("Anna"), Some("Gil")));
        assert_eq!(split_name(Some("Ana"), None, None), (Some("Ana"), None));
        assert_eq!(split_name(None, None, None), (None, None));
    }
}
