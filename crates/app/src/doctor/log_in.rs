//! Logs in at each account's server with the worker's own client, and hangs up without a message.

use std::collections::HashMap;
use std::sync::Arc;

use mail::smtp::{Connection, Delivery, Report, Stage, Timeouts, Trouble, Trust};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Finding, Level, Scope};
use crate::worker::Sender;

const CHECK: &str = "smtp";
/// Servers that are asked at the same time.
const AT_ONCE: usize = 8;

pub(super) async fn findings(scope: &Scope, senders: Vec<Sender>) -> Vec<Finding> {
    let trust = match Trust::load(scope.config.settings.smtp.ca_file.as_deref()) {
        Ok(trust) => trust,
        Err(error) => return vec![Finding::of_error(CHECK, Level::Problem, error, "mend smtp.ca_file")],
    };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let patience = scope.request.patience;
    let mut asked = JoinSet::new();
    for (index, sender) in senders.into_iter().enumerate() {
        let timeouts = Timeouts { connect: patience, command: patience, ..Timeouts::default() };
        let server = mail::smtp::Server { timeouts, ..sender.server(&scope.config, &trust) };
        let room = Arc::clone(&room);
        asked.spawn(async move {
            let _permit = room.acquire_owned().await;
            let opened = Connection::open(&server).await;
            let smtp = &sender.account.smtp;
            let what = format!("`{}` at `{}:{}` ({})", sender.account.email, smtp.host, smtp.port, smtp.tls);
            let finding = match opened {
                Ok(connection) => {
                    connection.quit().await;
                    let how = if server.credentials.is_some() { "logged in" } else { "connected, without a log-in" };
                    Finding::ok(CHECK, format!("{what}: {how}"))
                }
                Err(report) => failed(&what, report),
            };
            (index, finding)
        });
    }
    let mut found: HashMap<usize, Finding> = asked.join_all().await.into_iter().collect();
    (0..found.len()).filter_map(|index| found.remove(&index)).collect()
}

fn failed(what: &str, report: Report) -> Finding {
    let (level, why, mend) = match report.delivery {
        Delivery::Refused(Stage::Auth, reply) if reply.code >= 500 => {
            let mend = "give the right log-in: run its campaign file again with the password set (many providers want an app password)";
            (Level::Problem, format!("log-in refused: {} {}", reply.code, reply.text), mend)
        }
        Delivery::Refused(stage, reply) => {
            let mend = "the server may be busy, or not let this host in: try again, then ask who runs it";
            (Level::Unreachable, format!("refused at {}: {} {}", stage.as_str(), reply.code, reply.text), mend)
        }
        Delivery::Failed(Stage::Tls, Trouble::Tls(why)) => {
            let mend = "name the server as its certificate does; an authority of your own goes into [smtp] ca_file";
            (Level::Problem, format!("its certificate is not trusted, or TLS failed: {why}"), mend)
        }
        Delivery::Failed(_, trouble @ (Trouble::PlainAuth | Trouble::NoMechanism | Trouble::NoStartTls)) => {
            (Level::Problem, trouble.to_string(), "mend tls in the account's smtp URL")
        }
        Delivery::Failed(Stage::Resolve, trouble) => {
            // Refused by ALLOW_PRIVATE_HOSTS is a matter of settings, and says so itself.
            let level =
                if trouble.to_string().contains("ALLOW_PRIVATE_HOSTS") { Level::Problem } else { Level::Unreachable };
            (level, trouble.to_string(), "mend the host in the account's smtp URL, or the host's name servers")
        }
        Delivery::Failed(stage, trouble) => {
            let mend = "check host and port, and that no firewall is in between (many networks close port 25: try 587)";
            (Level::Unreachable, format!("{} failed: {trouble}", stage.as_str()), mend)
        }
        Delivery::Accepted(_) | Delivery::Unknown(_) | Delivery::NotGranted => {
            (Level::Unreachable, "the server broke off".to_owned(), "try again")
        }
    };
    // What a server says may run over several lines.
    let why = why.replace(char::is_control, " ");
    Finding::of_error(CHECK, level, format!("{what}: {why}"), mend)
}
