//! `penguinmails doctor`: one line for each thing that was looked at, and how to mend what is wrong.
//!
//! Not responsible for looking (`crate::doctor`).

use std::net::SocketAddr;

use serde_json::json;

use super::{Global, Outcome, block_on, output};
use crate::config::Environment;
use crate::doctor::{self, Finding, Level, Request};
use crate::duration::Period;
use crate::exit::Exit;

/// Look the installation over: settings, secrets, disk, database, clocks, names and the log-in of every account
///
/// Changes nothing and sends no mail. Ends with 0 where there is no problem (there may be warnings), with 2 where a
/// setting has to be mended, with 5 where only a service does not answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penguinmails doctor
  penguinmails doctor --config penguinmails.toml --json
      The same as one object: {\"findings\": [{\"check\", \"level\", \"message\", \"mend\"}], \"problems\", \"warnings\"}")]
pub(crate) struct Doctor {
    /// Ask this name server instead of the host's own
    #[arg(long, value_name = "IP:PORT")]
    name_server: Option<SocketAddr>,
    /// How long any server may take to answer
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    patience: Period,
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let request = Request { options: global.options(), name_server: self.name_server, patience: self.patience.0 };
        let findings = block_on(doctor::examine(request, &Environment::of_process()))?;
        let problems = findings.iter().filter(|finding| finding.level >= Level::Unreachable).count();
        let warnings = findings.iter().filter(|finding| finding.level == Level::Warning).count();
        if global.json {
            output::print_json(&json!({ "findings": findings, "problems": problems, "warnings": warnings }));
        } else {
            findings.iter().for_each(|finding| output::print(line(finding)));
            output::print(format_args!("{problems} problems, {warnings} warnings"));
        }
        Ok(match findings.iter().map(|finding| finding.level).max() {
            Some(Level::Problem) => Exit::BadInput,
            Some(Level::Unreachable) => Exit::Unreachable,
            Some(Level::Ok | Level::Warning) | None => Exit::Done,
        })
    }
}

fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Unreachable | Level::Problem => "problem",
    };
    let mend = finding.mend.as_ref().map_or(String::new(), |mend| format!(" -> {mend}"));
    format!("{level:<8} {}: {}{mend}", finding.check, finding.message)
}
