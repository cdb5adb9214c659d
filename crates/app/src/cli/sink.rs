//! `penguinmails sink`: an SMTP server that takes all mail and sends none.
//!
//! Not responsible for its dialogue (`sink`). To add an option: `SinkArgs`, and `SinkOptions` there.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Global, Outcome, block_on, output};
use crate::duration::Period;
use crate::exit::Exit;
use crate::lifecycle::Shutdown;
use crate::sink::{Faults, Listening, SinkOptions, faults};

/// Run an SMTP server that takes all mail, keeps it as files and sends none: for tries
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(crate) struct SinkArgs {
    /// Address and port; port 0 takes a free one and says which
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// Keep each message as an .eml file in this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write Message-ID and recipient of each message to this file, synced before it is accepted
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Fail by the recipient's local part (see below)
    #[arg(long)]
    faults: bool,
    /// Refuse every Nth message for now (451)
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_every: u64,
    /// Take so long to accept each message, e.g. 50ms
    #[arg(long, value_name = "DURATION")]
    delay: Option<Period>,
}

fn help() -> String {
    let mut text = String::from(
        "Examples:\n  penguinmails sink --dir mail\n  penguinmails sink --listen 127.0.0.1:0 --faults --journal truth.txt\n\n\
         With --faults, by the word before + in the recipient, e.g. greylist+ana@acme.test:\n",
    );
    for (word, _, what) in faults::WORDS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {word:12} {what}");
    }
    text
}

impl SinkArgs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        block_on(async {
            let shutdown = Shutdown::on_signals()?;
            let delay = self.delay.map_or(Duration::ZERO, |period| period.0);
            let options = SinkOptions {
                folder: self.dir,
                journal: self.journal,
                faults: Faults::new(self.faults, self.fail_every, delay),
                told: None,
            };
            let sink = Listening::open(self.listen, options).await?;
            let address = sink.address().map_err(anyhow::Error::from)?;
            output::note(format_args!("sink listens on {address}"));
            let (received, fired) = sink.run(shutdown).await;
            if global.json {
                let fired: serde_json::Map<_, _> = fired.into_iter().map(|(word, n)| (word, n.into())).collect();
                output::print_json(&json!({ "received": received, "fired": fired }));
            } else {
                output::print(format_args!("{received} messages received"));
                for (word, count) in fired {
                    output::print(format_args!("fault {word}: {count} times"));
                }
            }
            Ok(Exit::Done)
        })?
    }
}
