//! Environment and configuration file: whatever stops every other command.

use super::Finding;
use crate::problem::Problem;

const CHECK: &str = "configuration";

pub(super) fn findings(problems: Vec<Problem>) -> Vec<Finding> {
    if problems.is_empty() {
        return vec![Finding::ok(CHECK, "environment and configuration file can be used")];
    }
    problems.into_iter().map(|problem| Finding::of_problem(CHECK, problem)).collect()
}
