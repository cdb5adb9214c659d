//! `penguinmails send show`: a send and everything that was tried.
//!
//! A result on stdout is no log (SPEC 2), but whatever is not a terminal may become one: addresses are shown to a person
//! at a terminal, elsewhere only with `--log-addresses`. To add a fact: `store::sends`, and here in both forms.

use std::io::IsTerminal as _;

use domain::reason::Reason;
use domain::send::SendStatus;
use engines::store::sends::{Attempt, SendDetail};
use serde_json::{Value, json};

use super::super::{Global, Outcome, block_on, output};
use super::Which;
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::context::Context;
use crate::exit::Exit;
use crate::telemetry;

/// Most attempts that are shown: the newest.
const ATTEMPTS: u32 = 500;
/// Stands where an address stood.
const BLACKED_OUT: &str = "<address>";

pub(super) fn run(which: &Which, global: &Global) -> Outcome {
    let config = config::load(&global.options(), &Environment::of_process())?;
    telemetry::init(&config, &Clock::system());
    let addresses = global.log_addresses || (!global.json && std::io::stdout().is_terminal());
    block_on(async {
        let ctx = Context::open(config, 1.0).await?;
        let (tenant, id) = which.find(&ctx).await?;
        let send = tenant.get_send(id, ctx.clock.now()).await?;
        let attempts = tenant.list_attempts(id, ATTEMPTS).await?;
        let shown = Shown { addresses };
        if global.json {
            output::print_json(&shown.object(&send, &attempts));
        } else {
            output::print(shown.text(&send, &attempts));
        }
        Ok(Exit::Done)
    })?
}

/// How a send is shown.
struct Shown {
    addresses: bool,
}

/// What a reason's word means; empty for a word of another program.
fn words(reason: Option<&str>) -> &'static str {
    reason.and_then(|word| word.parse::<Reason>().ok()).map_or("", Reason::for_people)
}

impl Shown {
    /// What a server said, which may hold addresses.
    fn said(&self, text: Option<&str>) -> Option<String> {
        text.map(|text| if self.addresses { text.to_owned() } else { without_addresses(text) })
    }

    fn object(&self, send: &SendDetail, attempts: &[Attempt]) -> Value {
        let mut object = json!({
            "sendId": send.send_id, "tenantId": send.lead.tenant_id, "campaignId": send.campaign_id,
            "campaign": send.campaign_name, "campaignStatus": send.campaign_status, "leadId": send.lead.id,
            "leadStatus": send.lead.status, "stepId": send.step_id, "step": send.step_order, "variant": send.variant,
            "enrollmentId": send.enrollment_id, "emailAccountId": send.email_account_id, "state": send.status,
            "reason": send.reason, "why": words(send.reason.as_deref()), "fence": send.fence, "owner": send.owner,
            "priority": send.priority, "plannedAt": send.planned_at, "notBefore": send.not_before,
            "counted": send.attempts, "maxAttempts": send.max_attempts, "unknowns": send.unknowns,
            "firstAttemptAt": send.first_attempt_at, "lastDotAt": send.last_attempt_at, "settledAt": send.settled_at,
            "messageId": send.message_id, "reply": self.said(send.reply.as_deref()),
            "attempts": attempts.iter().map(|attempt| self.attempt(attempt)).collect::<Vec<_>>(),
        });
        if self.addresses {
            object["leadAddress"] = json!(send.lead.email);
            object["accountAddress"] = json!(send.account_email);
        }
        object
    }

    fn attempt(&self, attempt: &Attempt) -> Value {
        json!({
            "startedAt": attempt.started_at, "finishedAt": attempt.finished_at, "owner": attempt.owner,
            "fence": attempt.fence, "stage": attempt.stage, "outcome": attempt.outcome, "code": attempt.code,
            "enhanced": attempt.enhanced, "reply": self.said(attempt.reply.as_deref()), "counted": attempt.counted,
            "transcript": self.said(attempt.transcript.as_deref()),
        })
    }

    fn text(&self, send: &SendDetail, attempts: &[Attempt]) -> String {
        let mut lines = vec![format!("send {}: {}", send.send_id, send.status)];
        let mut line = |name: &str, value: String| lines.push(format!("  {name:<13} {value}"));
        let address =
            |email: Option<&str>| email.filter(|_| self.addresses).map_or(String::new(), |email| format!(", {email}"));
        if let Some(reason) = &send.reason {
            line("why", format!("{} ({reason})", words(Some(reason))));
        }
        line("campaign", format!("{} ({}), {}", send.campaign_name, send.campaign_id, send.campaign_status));
        line("lead", format!("{}, {}{}", send.lead.id, send.lead.status, address(Some(&send.lead.email))));
        line("step", format!("{} ({})", send.step_order, send.step_id));
        if let Some(variant) = &send.variant {
            line("variant", variant.clone());
        }
        let account = send.email_account_id.map_or("none".to_owned(), |id| id.to_string());
        line("account", format!("{account}{}", address(send.account_email.as_deref())));
        line("planned", send.planned_at.to_string());
        line("not before", send.not_before.to_string());
        if let Some(at) = send.settled_at {
            line(if send.status == SendStatus::Held { "held since" } else { "ended" }, at.to_string());
        }
        line("attempts", format!("{} counted, {} cut after the dot", send.attempts, send.unknowns));
        line("fence", format!("{}{}", send.fence, send.owner.as_ref().map_or(String::new(), |o| format!(", {o}"))));
        if let Some(id) = &send.message_id {
            line("message id", id.clone());
        }
        for attempt in attempts {
            lines.extend(self.lines(attempt));
        }
        if attempts.len() == ATTEMPTS as usize {
            lines.push(format!("only the last {ATTEMPTS} attempts are shown"));
        }
        if send.status == SendStatus::Held {
            lines.push(format!(
                "a person decides: penguinmails send resolve {} --sent, --resend or --cancel",
                send.send_id
            ));
        }
        lines.join("\n")
    }

    fn lines(&self, attempt: &Attempt) -> Vec<String> {
        let reply =
            [attempt.code.map(|code| code.to_string()), attempt.enhanced.clone(), self.said(attempt.reply.as_deref())];
        let reply: Vec<String> = reply.into_iter().flatten().collect();
        let counted = if attempt.counted { "counted" } else { "not counted" };
        let took = attempt.finished_at.since(attempt.started_at);
        let mut lines = vec![format!(
            "{} {} at {}, {counted}, {:.3} s, fence {}, {}",
            attempt.started_at,
            attempt.outcome,
            attempt.stage,
            took.as_secs_f64(),
            attempt.fence,
            attempt.owner
        )];
        if !reply.is_empty() {
            lines.push(format!("    reply: {}", reply.join(" ").replace('\n', "\n           ")));
        }
        let transcript = self.said(attempt.transcript.as_deref()).unwrap_or_default();
        lines.extend(transcript.lines().map(|line| format!("    {line}")));
        lines
    }
}

/// The text with everything blacked out that holds an `@` between characters that may stand in an address.
fn without_addresses(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || "<>()[]{},;\"'".contains(c);
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        let (word, end) = piece.split_at(word.len());
        out.push_str(if word.contains('@') { BLACKED_OUT } else { word });
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_blacked_out_wherever_they_stand() {
        let said = "550 5.1.1 <ana@acme.test>: user unknown (bounce+ana=acme.test@mx.test),\n\"bo@acme.test\" ünï@exämple.test: x";
        let shown = without_addresses(said);
        assert!(!shown.contains('@') && !shown.contains("ana"), "{shown}");
        assert_eq!(shown, "550 5.1.1 <<address>>: user unknown (<address>),\n\"<address>\" <address> x");
        assert_eq!(without_addresses("2.0.0 queued as 4Cx\n"), "2.0.0 queued as 4Cx\n");
    }
}
