//! Email accounts: limits, passwords that open, links that lead back to us; and what only their servers can tell.
//!
//! Not responsible for asking servers (`log_in`) or name servers (`names`). To add a check of an account: `account`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use domain::email_account::{AccountStatus, EmailAccount};
use domain::reason::Reason;
use engines::Store;

use super::{Finding, Level, Scope, log_in, names};
use crate::config::Config;
use crate::secrets::{SealingKey, decode_key};
use crate::worker::Sender;

const CHECK: &str = "account";
const LINKS: &str = "links";
/// Accounts that are looked at: asking every server takes its time.
const MOST: u32 = 1000;

pub(super) async fn findings(scope: &Scope, store: &Store) -> Vec<Finding> {
    let mut accounts = Vec::new();
    let mut findings = Vec::new();
    let listed = match store.system().list_accounts(MOST + 1).await {
        Ok(listed) => listed,
        Err(error) => return vec![Finding::of_error(CHECK, Level::Problem, error, "penguinmails migrate")],
    };
    for (tenant_id, id) in listed.iter().take(MOST as usize) {
        match store.tenant(*tenant_id).get_account(*id).await {
            Ok(account) => accounts.push(account),
            Err(error) => {
                let text = format!("account `{id}` cannot be read: {error}");
                findings.push(Finding::of_error(CHECK, Level::Problem, text, "mend its row in email_accounts"));
            }
        }
    }
    if listed.len() > MOST as usize {
        let text = format!("only the first {MOST} accounts were looked at");
        findings.push(Finding::new(CHECK, Level::Warning, text, "look at the others tenant by tenant"));
    }
    findings.extend(links(&scope.config, &accounts));
    let key = key(&scope.config);
    let mut senders = Vec::new();
    for account in accounts {
        findings.extend(limits(&account));
        findings.extend(stopped(&account));
        match open(account, key.as_ref()) {
            // Each refused log-in brings the account nearer to being locked by its server.
            Ok(sender) if sender.account.status == AccountStatus::AuthenticationFailed => {}
            Ok(sender) => senders.push(sender),
            Err(finding) => findings.push(finding),
        }
    }
    let domains: BTreeSet<String> = senders.iter().map(|sender| sender.from.domain_ascii()).collect();
    findings.extend(names::findings(scope, domains).await);
    findings.extend(log_in::findings(scope, senders).await);
    if listed.is_empty() {
        findings.push(Finding::ok(CHECK, "there is none yet: a campaign file brings its own"));
    }
    findings
}

fn key(config: &Config) -> Option<SealingKey> {
    let text = config.secrets.encryption.as_ref()?;
    decode_key(secrecy::ExposeSecret::expose_secret(text)).map(|bytes| SealingKey::new(&bytes))
}

fn open(account: EmailAccount, key: Option<&SealingKey>) -> Result<Sender, Finding> {
    let name = account.email.clone();
    let mend = "run its campaign file again with the password set, or seal it: penguinmails secret seal";
    let wrong = |why: String| Finding::of_error(CHECK, Level::Problem, format!("`{name}`: {why}"), mend);
    match key {
        Some(key) => Sender::open(account, key).map_err(wrong),
        None if account.smtp.password.is_none() => {
            // Any key opens nothing.
            Sender::open(account, &SealingKey::new(&[0; 32])).map_err(wrong)
        }
        None => {
            let text = format!("`{name}`: its password is sealed and there is no ENCRYPTION_KEY");
            let mend = "give ENCRYPTION_KEY, or restore secrets.env from a backup, or give the password anew";
            Err(Finding::new(CHECK, Level::Problem, text, mend))
        }
    }
}

fn limits(account: &EmailAccount) -> Option<Finding> {
    let is_bounded = account.pace.daily_limit.is_some() || !account.pace.min_gap.is_zero();
    (!is_bounded).then(|| {
        let text = format!(
            "`{}` has no limits: a whole list may go out at once, which mail providers take for spam",
            account.email
        );
        let mend = "daily_limit = 50 and min_gap_seconds = 120 under its [[email_account]], and run the file again";
        Finding::new(CHECK, Level::Warning, text, mend)
    })
}

fn stopped(account: &EmailAccount) -> Option<Finding> {
    let reason = account.status_reason.as_deref().and_then(|word| word.parse::<Reason>().ok());
    let mend = match account.status {
        AccountStatus::Active | AccountStatus::Deleted => return None,
        AccountStatus::AuthenticationFailed => "give its password anew: run its campaign file again",
        AccountStatus::Paused if reason == Some(Reason::RefusalRate) => {
            "look at `penguinmails campaign failures`, then `penguinmails campaign resume`"
        }
        AccountStatus::Paused => "`penguinmails account list` shows why; then `penguinmails account resume`",
        AccountStatus::Suspended => "ask whoever runs the platform: another program has suspended it",
    };
    let why = reason.map_or(String::new(), |reason| format!(", since {}", reason.for_people()));
    let text = format!("`{}` is {}{why}: its mails wait", account.email, account.status);
    Some(Finding::new(CHECK, Level::Warning, text, mend))
}

/// Whether readers can follow the links that the accounts send.
fn links(config: &Config, accounts: &[EmailAccount]) -> Option<Finding> {
    let url = &config.public_url;
    let host = url.parse::<hyper::Uri>().ok()?.host()?.trim_matches(['[', ']']).to_owned();
    let real = accounts.iter().find(|account| !is_local(&account.smtp.host))?;
    if is_local(&host) {
        let text = format!(
            "PUBLIC_URL is `{url}`, and `{}` sends over `{}`: no reader can follow its links or unsubscribe",
            real.email, real.smtp.host
        );
        let mend = "set PUBLIC_URL to where the tracker is seen from outside, e.g. https://t.example.com";
        return Some(Finding::new(LINKS, Level::Problem, text, mend));
    }
    if url.starts_with("http://") {
        let text =
            format!("PUBLIC_URL is `{url}`: mail programs offer one-click unsubscribing over https alone (RFC 8058)");
        return Some(Finding::new(
            LINKS,
            Level::Warning,
            text,
            "put a proxy with a certificate before the tracker, and https into PUBLIC_URL",
        ));
    }
    Some(Finding::ok(LINKS, format!("lead to `{url}`")))
}

/// Whether a host is this one, or reachable only from its own network.
fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => !mail::smtp::target::HostPolicy::Public(Vec::new()).allows(address),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}
