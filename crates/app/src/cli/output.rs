//! What a command says: its result on stdout, everything else on stderr.
//!
//! Not responsible for logs (`telemetry`). A reader that went away (`| head`) is no error of ours.

use std::fmt::Display;
use std::io::Write as _;

use serde::Serialize;

/// Prints a result, with a line break behind it.
pub(crate) fn print(text: impl Display) {
    // A closed pipe: whoever wanted the result has had enough of it.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints the one object of `--json`.
pub(crate) fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("what we print has string keys and no failing parts");
    print(text);
}

/// Tells a person something beside the result.
pub(crate) fn note(text: impl Display) {
    // Nobody can be told that nobody can be told.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
