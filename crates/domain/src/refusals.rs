//! When refusals for policy or reputation stop a campaign or an email account before they ruin its reputation.
//!
//! Not responsible for counting (`engines` reads the ledger) or for what one refusal does to its send (`settle`).
//! To change the measure: the constants.

/// How many results are looked at: the last ones that a server decided (sent, bounced or failed).
pub const WINDOW: u32 = 100;
/// Refusals among them that are too many.
const PER_CENT: u32 = 5;

/// Whether so many of the last `WINDOW` results are too many. Where there are fewer results yet the same number counts,
/// so that one refusal of the first mail stops nothing.
pub fn are_too_many(refused: u32) -> bool {
    refused.saturating_mul(100) >= WINDOW * PER_CENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_of_the_last_hundred_are_too_many() {
        for (refused, stops) in [(0, false), (1, false), (4, false), (5, true), (100, true), (u32::MAX, true)] {
            assert_eq!(are_too_many(refused), stops, "{refused}");
        }
    }
}
