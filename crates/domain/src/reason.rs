//! The reasons that the product gives for anything that was not simply sent, as one closed set of words.
//!
//! Not responsible for choosing one (`plan`, `settle`). The word stands in the ledger, in `--json` and in metrics.
//! To add a reason: a word here with a sentence in `for_people`; the match makes the compiler ask for it.

use crate::words::words;

words! {
    /// Why a send waits, was left out or failed.
    Reason, "reason", {
        /// The lead's address does not exist.
        LeadBounced = "lead_bounced",
        /// The lead asked for no more mail.
        LeadUnsubscribed = "lead_unsubscribed",
        /// The lead reported a mail as spam.
        LeadComplained = "lead_complained",
        /// The lead replied and the campaign stops on a reply.
        LeadReplied = "lead_replied",
        /// The address is on the suppression list.
        Suppressed = "suppressed",
        /// The step was switched off.
        StepInactive = "step_inactive",
        /// The step names no template.
        StepWithoutTemplate = "step_without_template",
        /// A condition before the step was false.
        ConditionFalse = "condition_false",
        /// The moment has passed by more than `max_lateness`.
        TooLate = "too_late",
        /// The campaign is paused.
        CampaignPaused = "campaign_paused",
        /// The campaign was cancelled or put away.
        CampaignCancelled = "campaign_cancelled",
        /// A person ended a send that was held.
        CancelledByPerson = "cancelled_by_person",
        /// The campaign has not started.
        CampaignNotStarted = "campaign_not_started",
        /// The sending window is closed.
        WindowClosed = "window_closed",
        /// The window never opens within the next 400 days.
        WindowNeverOpens = "window_never_opens",
        /// The variant that the lead gets is not chosen yet.
        AbWinner = "ab_winner",
        /// The step's wait is not over.
        NotDue = "not_due",
        /// The account reached its daily cap.
        AccountCap = "account_cap",
        /// The account keeps a gap between messages.
        AccountGap = "account_gap",
        /// The campaign reached its daily limit.
        CampaignCap = "campaign_cap",
        /// The tenant sends as many messages a second as it may.
        TenantRate = "tenant_rate",
        /// The recipient's provider got as many messages of the tenant as it may, or is being looked up.
        ProviderCap = "provider_cap",
        /// No account of the campaign may send.
        NoAccount = "no_account",
        /// The account is paused, suspended or deleted.
        AccountInactive = "account_inactive",
        /// The server refused the account's log-in.
        AuthenticationFailed = "authentication_failed",
        /// The account's server cannot be reached or asked for less.
        AccountBackoff = "account_backoff",
        /// The server asked to try this message again later.
        TemporaryRefusal = "temporary_refusal",
        /// The retry budget is used up.
        Expired = "expired",
        /// The server says that the recipient does not exist.
        UnknownRecipient = "unknown_recipient",
        /// The recipient cannot take the message: mailbox full, too large, routing.
        RecipientRefused = "recipient_refused",
        /// The server refuses it for good, and does not say why.
        Refused = "refused",
        /// The server refuses for policy or reputation.
        PolicyRefusal = "policy_refusal",
        /// Too many of the last results were refusals for policy: a campaign or an account is paused.
        RefusalRate = "refusal_rate",
        /// The server refuses the message's content.
        ContentRefused = "content_refused",
        /// The server says that we broke the protocol.
        ProtocolRefused = "protocol_refused",
        /// The message could not be assembled.
        NotComposed = "not_composed",
        /// The dialogue was cut after the final dot.
        Unknown = "unknown",
        /// Three deliveries of the job ended without a result.
        Poison = "poison",
        /// The database does not take the intent to write its dot.
        IntentRefused = "intent_refused",
        /// The ledger does not take its result.
        ResultRefused = "result_refused",
        /// The ledger was restored from a backup, and may have lost that it was sent.
        Restored = "restored",
        /// Stopped before the dot by a graceful stop, a lost lease or a last-moment check.
        GivenBack = "given_back",
    }
}

impl Reason {
    /// One sentence fragment for people, e.g. behind "not sent: ".
    pub fn for_people(self) -> &'static str {
        match self {
            Self::LeadBounced => "an earlier mail to this lead bounced",
            Self::LeadUnsubscribed => "the lead unsubscribed",
            Self::LeadComplained => "the lead complained about a mail",
            Self::LeadReplied => "the lead replied",
            Self::Suppressed => "the address is on the suppression list",
            Self::StepInactive => "the step is switched off",
            Self::StepWithoutTemplate => "the step has no template yet",
            Self::ConditionFalse => "the condition before it was not met",
            Self::TooLate => "its moment passed by more than max_lateness",
            Self::CampaignPaused => "the campaign is paused",
            Self::CampaignCancelled => "the campaign was cancelled",
            Self::CancelledByPerson => "a person decided that it is over",
            Self::CampaignNotStarted => "the campaign has not started",
            Self::WindowClosed => "the sending window is closed",
            Self::WindowNeverOpens => "the sending window does not open within 400 days",
            Self::AbWinner => "the step's variants are being tried with other leads, and the winner is not known yet",
            Self::NotDue => "the step's wait is not over",
            Self::AccountCap => "the email account reached its daily cap",
            Self::AccountGap => "the email account keeps a gap between messages",
            Self::CampaignCap => "the campaign reached its daily limit",
            Self::TenantRate => "the tenant sends as many messages a second as it may",
            Self::ProviderCap => "the recipient's provider got as many messages as it may, or is being looked up",
            Self::NoAccount => "no email account of the campaign may send",
            Self::AccountInactive => "the email account is not active",
            Self::AuthenticationFailed => "the server refused the email account's log-in",
            Self::AccountBackoff => "the email account's server cannot be reached or asked for less",
            Self::TemporaryRefusal => "the server asked to try again later",
            Self::Expired => "it was tried until its time was over",
            Self::UnknownRecipient => "the server says that the address does not exist",
            Self::RecipientRefused => "the recipient cannot take the message",
            Self::Refused => "the server refused it for a reason that it does not name",
            Self::PolicyRefusal => "the server refused it for policy or reputation",
            Self::RefusalRate => "too many of the last mails were refused for policy or reputation",
            Self::ContentRefused => "the server refused its content",
            Self::ProtocolRefused => "the server says that the protocol was broken",
            Self::NotComposed => "the message could not be assembled",
            Self::Unknown => "the connection was cut after the final dot",
            Self::Poison => "three tries ended without a result",
            Self::IntentRefused => "the database does not take that it is about to be sent",
            Self::ResultRefused => "the database does not take its result",
            Self::Restored => "it may have been sent in the time that a restored backup does not know of",
            Self::GivenBack => "it was given back before the dot",
        }
    }
}
