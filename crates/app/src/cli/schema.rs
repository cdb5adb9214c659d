//! `penguinmails schema`: the JSON Schemas of what stands on the queues, for programs that push or read there.
//!
//! Generated from the types that read the payloads. To add a schema: a variant and its type.

use super::{Outcome, output};
use crate::exit::Exit;

/// JSON Schemas of the payloads on the queues
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// A job on `queue:email-sending`: one message to send
    #[command(after_help = "Example:\n  penguinmails schema job > job.schema.json")]
    Job,
    /// An event on `queue:analytics-processing`: an open, a click or an unsubscribe
    #[command(after_help = "Example:\n  penguinmails schema event > event.schema.json")]
    Event,
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        let schema = match self {
            Self::Job => schemars::schema_for!(domain::job::EmailJobPayload),
            Self::Event => schemars::schema_for!(domain::event::Event),
        };
        output::print_json(&schema);
        Ok(Exit::Done)
    }
}
