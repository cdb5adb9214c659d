//! Domains that accounts send from: whether answers and bounces can come back to them.
//!
//! Asked are MX, then A and AAAA (RFC 5321 5.1). No answer is no problem: a host may have no name server to ask.

use std::collections::BTreeSet;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::task::JoinSet;

use super::{Finding, Level, Scope};
use crate::name_server::resolver;

const CHECK: &str = "name";

/// What the name servers say of a domain.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    TakesMail,
    /// `MX 0 .` (RFC 7505).
    RefusesMail,
    HasNoServer,
    DoesNotExist,
    Silence(String),
}

pub(super) async fn findings(scope: &Scope, domains: BTreeSet<String>) -> Vec<Finding> {
    if domains.is_empty() {
        return Vec::new();
    }
    let resolver = match resolver(scope.request.name_server) {
        Ok(resolver) => resolver,
        Err(error) => return vec![silence("names", &error.to_string())],
    };
    let patience = scope.request.patience;
    let mut asked = JoinSet::new();
    for domain in domains {
        let resolver = resolver.clone();
        asked.spawn(async move {
            let answer = tokio::time::timeout(patience, ask(&resolver, &domain)).await;
            let late = || Answer::Silence(format!("no answer within {} s", patience.as_secs()));
            (domain, answer.unwrap_or_else(|_| late()))
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    answers.into_iter().map(|(domain, answer)| finding(&domain, answer)).collect()
}

async fn ask(resolver: &TokioResolver, domain: &str) -> Answer {
    // With a dot at its end: the host's own search list must not complete it.
    let name = format!("{domain}.");
    match resolver.lookup(name.as_str(), RecordType::MX).await {
        Ok(found) => {
            let refuses = |data: &RData| matches!(data, RData::MX(mx) if mx.exchange.is_root());
            let is_null = found.answers().iter().all(|record| refuses(&record.data));
            return if is_null { Answer::RefusesMail } else { Answer::TakesMail };
        }
        Err(error) if error.is_nx_domain() => return Answer::DoesNotExist,
        Err(error) if error.is_no_records_found() => {}
        Err(error) => return Answer::Silence(error.to_string()),
    }
    match resolver.lookup_ip(name.as_str()).await {
        Ok(_) => Answer::TakesMail,
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Answer::HasNoServer,
        Err(error) => Answer::Silence(error.to_string()),
    }
}

fn finding(domain: &str, answer: Answer) -> Finding {
    let mend = "mend the domain in the account's address, or publish an MX record for it";
    match answer {
        Answer::TakesMail => Finding::ok(CHECK, format!("`{domain}` has a mail server")),
        Answer::RefusesMail => {
            let text = format!("`{domain}` says that it takes no mail (null MX): answers and bounces are lost");
            Finding::new(CHECK, Level::Warning, text, mend)
        }
        Answer::HasNoServer => {
            let text = format!("`{domain}` has neither MX nor address: many servers refuse mail from it");
            Finding::new(CHECK, Level::Problem, text, mend)
        }
        Answer::DoesNotExist => {
            Finding::new(CHECK, Level::Problem, format!("`{domain}` does not exist: servers refuse mail from it"), mend)
        }
        Answer::Silence(why) => silence(domain, &why),
    }
}

fn silence(what: &str, why: &str) -> Finding {
    let text = format!("`{what}` could not be looked up: {why}");
    Finding::new(
        CHECK,
        Level::Warning,
        text,
        "check /etc/resolv.conf, or ask another name server: --name-server IP:PORT",
    )
}
