//! `penguinmails schema`: what other programs meet: the JSON Schemas of what stands on the queues, metrics and routes.
//!
//! Generated from the types that read the payloads and from the handles that count. To add a schema: a variant and its
//! type.

use super::{Global, Outcome, output};
use crate::exit::Exit;
use crate::metrics::{self, Metrics};
use crate::routes;

/// What other programs meet: payloads on the queues (JSON Schema), metrics and routes
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// A job on `queue:email-sending`: one message to send
    #[command(after_help = "Example:\n  penguinmails schema job > job.schema.json")]
    Job,
    /// An event on `queue:analytics-processing`: an open, a click or an unsubscribe
    #[command(after_help = "Example:\n  penguinmails schema event > event.schema.json")]
    Event,
    /// Every metric of `/metrics` with type, unit, labels and meaning, as a page in Markdown
    #[command(after_help = "\
Examples:
  penguinmails schema metrics > docs/metrics.md
  penguinmails schema metrics --json")]
    Metrics,
    /// Every route of the HTTP surface with its methods and the listeners that answer it, as JSON
    #[command(after_help = "Example:\n  penguinmails schema routes")]
    Routes,
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let schema = match self {
            Self::Metrics => return Ok(print_metrics(global.json)),
            Self::Routes => {
                output::print_json(&routes::describe());
                return Ok(Exit::Done);
            }
            Self::Job => schemars::schema_for!(domain::job::EmailJobPayload),
            Self::Event => schemars::schema_for!(domain::event::Event),
        };
        output::print_json(&schema);
        Ok(Exit::Done)
    }
}

fn print_metrics(json: bool) -> Exit {
    let metrics = Metrics::new().describe();
    if json {
        output::print_json(&serde_json::json!({ "metrics": metrics }));
    } else {
        output::print(metrics::page(&metrics).trim_end());
    }
    Exit::Done
}
