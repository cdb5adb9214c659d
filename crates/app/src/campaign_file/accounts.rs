//! `[[email_account]]`: what is sent from, over which server, with which limits.
//!
//! To add a key: `account`, and the store's `AccountSetup`.

use domain::address::EmailAddress;
use domain::email_account::TlsMode;
use domain::time::{Timestamp, Zone};
use engines::store::setup::{AccountSetup, Kept};
use secrecy::SecretString;

use super::smtp_url::SmtpUrl;
use super::{AccountServer, Reader};
use crate::toml_input::{Section, Spot};

/// An account of the file.
pub(super) struct FileAccount {
    pub(super) address: EmailAddress,
    pub(super) setup: AccountSetup,
    pub(super) server: AccountServer,
}

impl Reader<'_> {
    pub(super) fn accounts(&self, root: &mut Section<'_>) -> Vec<FileAccount> {
        let sections = root.sections("email_account");
        if sections.is_empty() && !root.has("email_account") {
            let problem = root.problem("missing section `[[email_account]]`");
            self.problems.add(problem.hint("at least one account to send from: email, smtp, password_env"));
        }
        let mut accounts: Vec<FileAccount> = Vec::new();
        for mut section in sections {
            let place = section.place();
            let account = self.account(&mut section);
            section.finish();
            let Some(account) = account else { continue };
            if accounts.iter().any(|other| other.address.key() == account.address.key()) {
                let problem = crate::problem::Problem::new("the same account stands twice in the file").at(place);
                self.problems.add(problem.field("email_account").hint("remove one of the two"));
                continue;
            }
            accounts.push(account);
        }
        accounts
    }

    /// None where a problem was noted.
    fn account(&self, section: &mut Section<'_>) -> Option<FileAccount> {
        let defaults = &self.options.settings.email_account;
        let email = section.require("email", "the address in From").and_then(|spot| self.address(&spot));
        let from_name = self.optional_line(section, "from_name");
        let reply_to = section.take("reply_to").and_then(|spot| self.address(&spot));
        let server = self.server(section);
        let limits = [
            ("daily_limit", Kept::DailyLimit),
            ("min_gap_seconds", Kept::MinGap),
            ("warmup_started_at", Kept::Warmup),
            ("timezone", Kept::Zone),
        ];
        let unsaid = limits.into_iter().filter(|(key, _)| !section.has(key)).map(|(_, kept)| kept);
        let keeps = unsaid.chain(self.options.keeps_servers.then_some(Kept::Server)).collect();
        let daily_limit = section.take_or_none::<u32>("daily_limit");
        if let Some(spot) = daily_limit.as_ref().filter(|limit| limit.value == Some(0)) {
            let problem = spot.problem("daily limit is 0, so nothing would ever be sent");
            self.problems.add(problem.hint("\"none\" for no limit"));
        }
        let min_gap: Option<Spot<u32>> = section.take("min_gap_seconds");
        if let Some(spot) = min_gap.as_ref().filter(|gap| gap.value > 86_400) {
            self.problems.add(spot.problem("must be at most 86400 seconds"));
        }
        let warmup = section.take_or_none::<Timestamp>("warmup_started_at");
        let timezone = section.take::<Zone>("timezone").map_or(Zone::UTC, |spot| spot.value);
        let address = email?;
        let setup = AccountSetup {
            email: address.as_str().to_owned(),
            domain: address.domain().to_owned(),
            from_name,
            reply_to: reply_to.map(|address| address.as_str().to_owned()),
            daily_limit: daily_limit.map_or(defaults.daily_limit, |spot| spot.value),
            min_gap_seconds: min_gap.map_or(defaults.min_gap_seconds, |spot| spot.value),
            warmup_started_at: warmup.and_then(|spot| spot.value),
            timezone,
            keeps,
        };
        Some(FileAccount { address, setup, server: server? })
    }

    fn server(&self, section: &mut Section<'_>) -> Option<AccountServer> {
        let password_env: Option<Spot<String>> = section.take("password_env");
        let own = if section.has("smtp") || self.options.smtp.is_none() {
            let hint = "smtp://user@mail.acme.test:587?tls=starttls";
            let text: Spot<String> = section.require("smtp", hint)?;
            let url = text.value.parse::<SmtpUrl>().map_err(|error| text.problem(error));
            Some(text.with(self.problems.ok(url)?))
        } else {
            None
        };
        let url = match (self.options.smtp, own) {
            (Some(url), Some(own)) => own.with(url.clone()),
            (Some(url), None) => Spot { value: url.clone(), place: section.place(), field: "--smtp".into() },
            (None, own) => own?,
        };
        let password = self.password(&url, password_env.as_ref())?;
        Some(AccountServer { settings: url.value.settings(), password })
    }

    /// The password that goes with a log-in name; `Some(None)` where there is no log-in.
    fn password(&self, url: &Spot<SmtpUrl>, named: Option<&Spot<String>>) -> Option<Option<SecretString>> {
        let problem = match (&url.value.user, named) {
            (None, None) => return Some(None),
            // The server that was given instead asks for no log-in.
            (None, Some(_)) if self.options.smtp.is_some() => return Some(None),
            (None, Some(named)) => named
                .problem("names a password, but the URL has no log-in name")
                .hint("smtp = \"smtp://user@…\", or remove password_env"),
            (Some(_), None) => url
                .problem("has a log-in name, but no password is named")
                .hint("password_env = \"SMTP_PASSWORD\", and set that variable"),
            (Some(_), Some(_)) if url.value.tls == TlsMode::None && !self.options.settings.smtp.allow_plain_auth => url
                .problem("would send the password without TLS")
                .hint("tls=starttls or smtps://, or allow it: [smtp] allow_plain_auth = true in the file of --config"),
            (Some(_), Some(named)) => match self.options.env.get(&named.value) {
                Some(password) if !password.chars().any(char::is_control) => return Some(Some(password.into())),
                Some(_) => named.problem("the password in this variable holds a control character"),
                None => named
                    .problem(format!("the variable `{}` is not set", named.value.chars().take(64).collect::<String>()))
                    .hint("set it, or send elsewhere for a try: --smtp smtp://127.0.0.1:2525?tls=none"),
            },
        };
        self.problems.add(problem);
        None
    }

    pub(super) fn address(&self, spot: &Spot<String>) -> Option<EmailAddress> {
        self.problems.ok(EmailAddress::parse(&spot.value).map_err(|error| spot.problem(error)))
    }

    pub(super) fn optional_line(&self, section: &mut Section<'_>, key: &str) -> Option<String> {
        section.take(key).and_then(|spot| self.one_line(spot))
    }
}
