//! `penguinmails secret seal`: seals a password for the one cell of the database that it belongs to.
//!
//! For programs that write accounts themselves; `run` and `campaign import` seal on their own.

use std::io::{IsTerminal as _, Read as _};

use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Global, Outcome, output};
use crate::config::{self, Environment};
use crate::exit::{Exit, Failure};
use crate::problem::Problem;
use crate::secrets::{self, Cell};

/// Longest secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// Secrets at rest
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Read a secret from standard input and print it sealed
    ///
    /// The sealed text opens only with the same ENCRYPTION_KEY and only in the tenant, table, row and column that it
    /// was made for.
    #[command(after_help = "\
Example:
  pass show mail/ana | penguinmails secret seal --tenant 018f3a5e-0000-7000-8000-000000000001 \\
      --row 018f3a5e-0000-7000-8000-000000000002
  v1:5f0c2a9e:…")]
    Seal(Seal),
}

/// Where the secret belongs.
#[derive(Debug, clap::Args)]
pub(crate) struct Seal {
    /// Id of the tenant
    #[arg(long, value_name = "ID")]
    tenant: Uuid,
    /// Table of the row
    #[arg(long, value_name = "NAME", default_value = "email_accounts")]
    table: String,
    /// Id of the row
    #[arg(long, value_name = "ID")]
    row: Uuid,
    /// Column, with the path inside it
    #[arg(long, value_name = "NAME", default_value = "smtp_settings.password")]
    column: String,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let Self::Seal(cell) = self;
        let config = config::load(&global.options(), &Environment::of_process())?;
        let plain = read_secret()?;
        let secrets = secrets::complete(&config.secrets, &config.data, config.is_embedded())?;
        let cell = Cell { tenant: cell.tenant, table: &cell.table, row: cell.row, column: &cell.column };
        let sealed = secrets.sealing.seal(cell, secrecy::ExposeSecret::expose_secret(&plain));
        if global.json {
            output::print_json(&serde_json::json!({ "sealed": sealed }));
        } else {
            output::print(sealed);
        }
        Ok(Exit::Done)
    }
}

/// Standard input without the line break at its end.
fn read_secret() -> Result<SecretString, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        output::note("Type the secret, then Enter and Ctrl-D. It shows while you type: a pipe is better.");
    }
    let mut text = Zeroizing::new(String::new());
    let refused = |text: &str| Failure::from(crate::problem::InputErrors::from(Problem::new(text).field("stdin")));
    stdin.lock().take(MAX_SECRET + 1).read_to_string(&mut text).map_err(|_| refused("secret is not UTF-8 text"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(refused(
            "no secret on standard input (hint: pipe it in: pass show mail/ana | penguinmails secret seal …)",
        ));
    }
    if secret.len() as u64 > MAX_SECRET || secret.chars().any(char::is_control) {
        return Err(refused("secret is longer than 64 KiB or holds a control character (hint: one line)"));
    }
    Ok(secret.into())
}
