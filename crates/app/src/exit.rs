//! How a process ends: its exit codes, and what a command that fails has to say.
//!
//! Not responsible for the problems in a person's input themselves (`problem`) or for a command's own output (`cli`).
//! To add a way to fail: a variant of `Failure` with its exit code; SPEC 2 lists the codes.

use crate::problem::InputErrors;

/// Exit code of the process (SPEC 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// A fault of ours.
    Internal = 1,
    /// Input or configuration that a person has to mend.
    BadInput = 2,
    /// Done, but not every send was accepted.
    NotAllAccepted = 3,
    /// Stopped by force, or with a dialogue still open.
    Forced = 4,
    /// A service did not answer in time.
    Unreachable = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A person has to mend their input; nothing was done.
    #[error(transparent)]
    Input(#[from] InputErrors),
    /// A service did not answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// A fault of ours, or of the machine.
    #[error("{0:#}")]
    Internal(#[from] anyhow::Error),
}

impl From<engines::Error> for Failure {
    fn from(error: engines::Error) -> Self {
        if error.is_transient() { Self::Unreachable(error.to_string()) } else { Self::Internal(error.into()) }
    }
}

impl Failure {
    /// The exit code that says so.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Input(_) => Exit::BadInput,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Internal(_) => Exit::Internal,
        }
    }

    /// The object that `--json` prints: `{"error": {"code", "message", "problems"}}`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let problems = match self {
            Self::Input(errors) => errors.problems(),
            Self::Unreachable(_) | Self::Internal(_) => &[],
        };
        let message = match self {
            Self::Input(errors) => errors.summary(),
            Self::Unreachable(_) | Self::Internal(_) => self.to_string(),
        };
        serde_json::json!({ "error": { "code": self.exit() as u8, "message": message, "problems": problems } })
    }
}
