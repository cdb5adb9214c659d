//! `penguinmails sink`: the mail server that accepts everything, on its own.
//!
//! Not responsible for what it does (`sink`). To add an option: a field of `SinkOptions` and of `SinkArgs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use secrecy::SecretString;
use serde_json::json;

use super::{Global, Outcome, block_on, output};
use crate::exit::{Exit, Failure};
use crate::lifecycle::Shutdown;
use crate::problem::Problem;
use crate::sink::{Extension, Faults, Listening, MAX_SIZE, Offers, Rule, SinkOptions, Tls, plan, script};

const EXAMPLES: &str = "\
Examples:
  penguinmails sink --dir mails
      Accept everything on port 2525 and keep it as .eml files
  penguinmails run welcome/campaign.toml --smtp smtp://127.0.0.1:2525?tls=none
      Send to it
  penguinmails sink --fail rcpt=451,every=10 --delay dot=2s --json
      A server that greylists one in ten and is slow; at the end print what came and which faults fired
  penguinmails sink --tls starttls --ca-file ca.pem --user ana --password-env SINK_PASSWORD";

/// Accept mail over SMTP, keep it as files, deliver nothing; by option fail, delay or drop
///
/// Runs until Ctrl-C or SIGTERM, then says how many messages came and which faults fired how often. With --dir each
/// message is a file of exactly the bytes that came; envelope and time stand in index.jsonl beside them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}\n\n{}", plan::HELP, script::HELP))]
pub(crate) struct SinkArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// Keep messages here as .eml files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write Message-ID and recipient of each message to this file, synced before it is accepted
    #[arg(long, value_name = "FILE", alias = "truth")]
    journal: Option<PathBuf>,
    /// Fail by the recipient's local part, e.g. greylist+ana@acme.test (see --help)
    #[arg(long)]
    faults: bool,
    /// Refuse: STAGE=CODE[ TEXT][,KEY=VALUE…] (see --help)
    #[arg(long, value_name = "SPEC", value_parser = plan::fail)]
    fail: Vec<Rule>,
    /// Answer late: STAGE=TIME[,KEY=VALUE…]; TIME alone is for the final dot
    #[arg(long, value_name = "SPEC", value_parser = plan::delay)]
    delay: Vec<Rule>,
    /// Cut the connection: STAGE[=close|reset][,KEY=VALUE…]
    #[arg(long, value_name = "SPEC", value_parser = plan::drop)]
    drop: Vec<Rule>,
    /// Faults from a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// When TLS begins
    #[arg(long, value_enum, default_value_t = Tls::None)]
    tls: Tls,
    /// Where the certificate goes, for the client to trust [default: ca.pem in --dir]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Ask for this user name; without it any log-in is good and none is needed
    #[arg(long, value_name = "NAME", requires = "password_env")]
    user: Option<String>,
    /// The variable that holds the password
    #[arg(long, value_name = "VARIABLE", requires = "user")]
    password_env: Option<String>,
    /// Do not offer these, comma-separated
    #[arg(long, value_enum, value_name = "EXTENSIONS", value_delimiter = ',')]
    without: Vec<Extension>,
    /// Largest message taken, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = MAX_SIZE)]
    max_size: usize,
    /// Write the address here, as JSON, once it listens
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl SinkArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let faults = Faults::new(self.rules()?, self.faults);
        let offers = self.offers()?;
        let (received, fired) = block_on(self.serve(faults, offers))??;
        if global.json {
            let fired: serde_json::Map<_, _> = fired.into_iter().map(|(fault, n)| (fault, n.into())).collect();
            output::print_json(&json!({ "received": received, "fired": fired }));
        } else {
            output::print(format_args!("{received} messages received"));
            for (fault, count) in fired {
                output::print(format_args!("fault {fault}: {count} times"));
            }
        }
        Ok(Exit::Done)
    }

    fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let mut rules = [self.fail.as_slice(), &self.delay, &self.drop].concat();
        if let Some(path) = &self.plan {
            let name = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|e| bad(format!("failed to read `{name}`: {e}"), "--plan"))?;
            rules.extend(plan::read(&name, &text)?);
        }
        Ok(rules)
    }

    /// Where the certificate goes, if there is one.
    fn ca_file(&self) -> Option<PathBuf> {
        let file = self.ca_file.clone().or_else(|| Some(self.dir.as_ref()?.join("ca.pem")));
        file.filter(|_| self.tls != Tls::None)
    }

    fn offers(&self) -> Result<Offers, Failure> {
        if self.tls != Tls::None && self.ca_file().is_none() {
            return Err(bad("the certificate has no place to go (hint: --ca-file FILE or --dir DIR)", "--tls"));
        }
        let mut offers = Offers::with_tls(self.tls)?;
        if let (Some(user), Some(variable)) = (&self.user, &self.password_env) {
            let password = std::env::var(variable)
                .map_err(|_| bad(format!("variable `{variable}` is not set"), "--password-env"))?;
            offers.login = Some((user.clone(), SecretString::from(password)));
        }
        offers.hidden.clone_from(&self.without);
        offers.max_size = self.max_size;
        Ok(offers)
    }

    async fn serve(self, faults: Faults, offers: Offers) -> anyhow::Result<(u64, Vec<(String, u64)>)> {
        // Before anybody can know that we are here: a signal from then on is an order to stop.
        let shutdown = Shutdown::on_signals()?;
        let ca_file = self.ca_file();
        let options = SinkOptions { folder: self.dir, journal: self.journal, faults, told: None };
        let sink = Listening::open(self.listen, options).await?;
        if let (Some(path), Some(pem)) = (&ca_file, &offers.certificate_pem) {
            std::fs::write(path, pem).with_context(|| format!("failed to write `{}`", path.display()))?;
            output::note(format_args!("certificate to trust: {}", path.display()));
        }
        let address = sink.address()?;
        output::note(format_args!("sink listens on {address}"));
        if let Some(path) = &self.ready_file {
            let ready = json!({ "address": address, "caFile": ca_file });
            write_whole(path, &ready.to_string()).with_context(|| format!("failed to write `{}`", path.display()))?;
            output::note(format_args!("ready: {}", path.display()));
        }
        Ok(sink.offering(offers).run(shutdown).await)
    }
}

fn bad(message: impl std::fmt::Display, option: &str) -> Failure {
    Failure::Input(Problem::new(message).field(option).into())
}

/// Whoever waits for the file finds all of it or nothing.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    std::fs::write(&name, text)?;
    std::fs::rename(&name, path)
}
