//! `penguinmails lead`: leads of a tenant.
//!
//! Not responsible for reading lists (`leads_csv`) or writing them (`lead_import`). To add a verb: a variant and its file.

mod import;

use super::{Global, Outcome};

/// Leads
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Import(import::ImportArgs),
}

impl Command {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self {
            Self::Import(args) => args.run(global),
        }
    }
}
