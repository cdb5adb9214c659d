//! An email account: what we send from, with its server, limits and state.
//!
//! Not responsible for granting slots (`pace`) or for what an SMTP answer does to the account (`settle`).
//! To add a limit: a field here and a rule in `pace`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{EmailAccountId, TenantId};
use crate::reason::Reason;
use crate::time::{Timestamp, Zone};
use crate::words::words;

words! {
    /// Whether an account may send.
    AccountStatus, "email account status", {
        /// May send.
        Active = "active",
        /// Stopped by a person or by a rule; its sends wait.
        Paused = "paused",
        /// The server refused the log-in; its sends wait for a new password.
        AuthenticationFailed = "authentication_failed",
        /// Stopped by the platform.
        Suspended = "suspended",
        /// Removed; its sends never go.
        Deleted = "deleted",
    }
}

impl AccountStatus {
    /// Why an account in this status may not send, if so.
    pub fn why_not(self) -> Option<Reason> {
        match self {
            Self::Active => None,
            Self::AuthenticationFailed => Some(Reason::AuthenticationFailed),
            Self::Paused | Self::Suspended | Self::Deleted => Some(Reason::AccountInactive),
        }
    }
}

/// Where an account stands after failures that were its server's (PROTOCOL 3): wait, then one probe, then all or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// It may send.
    Closed,
    /// Nothing goes before this time.
    Open(Timestamp),
    /// Its wait is over: one send may go, and what comes of it decides about the others.
    HalfOpen,
}

impl Breaker {
    /// From the account's failures in a row and the end of its wait. A wait without a failure (a day's quota) needs no
    /// probe when it is over.
    pub fn of(failures: u32, until: Option<Timestamp>, now: Timestamp) -> Self {
        match until {
            Some(until) if until > now => Self::Open(until),
            _ if failures > 0 => Self::HalfOpen,
            _ => Self::Closed,
        }
    }
}

words! {
    /// How the connection to an SMTP server is protected.
    TlsMode, "tls mode", {
        /// Plain text: for a server on the same host.
        None = "none",
        /// Plain text first, then `STARTTLS` (RFC 3207); refused where the server does not offer it.
        Starttls = "starttls",
        /// TLS from the first byte (RFC 8314).
        Implicit = "implicit",
    }
}

words! {
    /// How an account logs in.
    LogInMethod, "way to log in", {
        /// With a password, by the mechanism that the server offers.
        Password = "password",
        /// With an OAuth 2 access token in the place of the password.
        Xoauth2 = "xoauth2",
    }
}

impl LogInMethod {
    /// What an account without a word about it does.
    pub const DEFAULT: Self = Self::Password;

    const fn usual() -> Self {
        Self::DEFAULT
    }

    fn is_usual(&self) -> bool {
        *self == Self::DEFAULT
    }
}

/// Where and how an account's mail is handed over: the JSON in `email_accounts.smtp_settings`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpSettings {
    /// Host name or address.
    pub host: String,
    /// Port: 25, 465, 587 or another.
    pub port: u16,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// Log-in name; none where the server asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the password is: one, or a token.
    #[serde(default = "LogInMethod::usual", skip_serializing_if = "LogInMethod::is_usual")]
    pub auth: LogInMethod,
    /// The sealed password or token (`v1:kid:…`), never plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Shows neither log-in name nor password, even sealed.
impl std::fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SmtpSettings({}:{}, {})", self.host, self.port, self.tls)
    }
}

/// An account as planning and sending need it.
#[derive(Clone, Debug)]
pub struct EmailAccount {
    /// Id of the row.
    pub id: EmailAccountId,
    /// Whose account this is.
    pub tenant_id: TenantId,
    /// The address in From.
    pub email: String,
    /// The name in From.
    pub from_name: Option<String>,
    /// The address in Reply-To.
    pub reply_to: Option<String>,
    /// Where its mail is handed over.
    pub smtp: SmtpSettings,
    /// Whether it may send.
    pub status: AccountStatus,
    /// Why a rule has stopped it: a reason's word, or what its server said.
    pub status_reason: Option<String>,
    /// Its limits and their state.
    pub pace: AccountPace,
}

/// The limits of an account and what has been used of them.
#[derive(Clone, Debug)]
pub struct AccountPace {
    /// Most messages a day; none = no limit.
    pub daily_limit: Option<u32>,
    /// Least time between two messages.
    pub min_gap: Duration,
    /// When warming up began; none = not warming up.
    pub warmup_started_at: Option<Timestamp>,
    /// The zone whose midnight starts the account's day.
    pub zone: Zone,
    /// The last slot that was granted.
    pub last_slot_at: Option<Timestamp>,
    /// Not before this time: the server could not be reached or asked for less.
    pub backoff_until: Option<Timestamp>,
    /// Failed connections in a row: the breaker's exponent.
    pub backoff_failures: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_waits_and_lets_a_probe_through() {
        let now = Timestamp::from_unix_seconds(1_000);
        let (past, later) = (Timestamp::from_unix_seconds(999), Timestamp::from_unix_seconds(1_001));
        for (failures, until, expected) in [
            (0, None, Breaker::Closed),
            (0, Some(past), Breaker::Closed),
            (0, Some(later), Breaker::Open(later)),
            (2, Some(later), Breaker::Open(later)),
            (2, Some(now), Breaker::HalfOpen),
            (2, None, Breaker::HalfOpen),
        ] {
            assert_eq!(Breaker::of(failures, until, now), expected, "{failures} {until:?}");
        }
    }
}
