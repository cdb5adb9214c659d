//! Which addresses of a list come twice, in constant memory.
//!
//! A list of millions must hold neither its addresses nor their hashes. In the first pass a fixed filter (Bloom 1970)
//! tells nearly every address to be new; those that may have come before are the suspects, and a second pass keeps the
//! lines of these alone. Not responsible for what to do with one that comes twice.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// Bits of the filter: 16 MiB. Of a million addresses none is suspected wrongly, of ten million some thousands.
const BITS: u64 = 1 << 27;
/// Bits of one address.
const PROBES: u64 = 4;

/// What is known of the addresses so far.
pub(super) enum Seen {
    /// First pass.
    Filter(Filter),
    /// Any later one.
    Suspects(Suspects),
}

impl Seen {
    /// Notes an address in lower case; the line on which it came first, where that is known.
    pub(super) fn first_line(&mut self, address: &str, line: u64) -> Option<u32> {
        match self {
            Self::Filter(filter) => {
                filter.note(address);
                None
            }
            Self::Suspects(suspects) => suspects.first_line(address, line),
        }
    }

    /// Whether another pass has to look closer.
    pub(super) fn has_suspects(&self) -> bool {
        matches!(self, Self::Filter(filter) if !filter.suspects.first_lines.is_empty())
    }

    /// The suspects, not met yet.
    pub(super) fn into_suspects(self) -> Suspects {
        let mut suspects = match self {
            Self::Filter(filter) => filter.suspects,
            Self::Suspects(suspects) => suspects,
        };
        suspects.first_lines.values_mut().for_each(|line| *line = None);
        suspects
    }
}

/// The first pass.
pub(super) struct Filter {
    bits: Vec<u64>,
    suspects: Suspects,
}

impl Default for Filter {
    fn default() -> Self {
        let bits = vec![0; usize::try_from(BITS / 64).unwrap_or(usize::MAX)];
        Self { bits, suspects: Suspects { hasher: RandomState::new(), first_lines: HashMap::new() } }
    }
}

impl Filter {
    fn note(&mut self, address: &str) {
        let hash = self.suspects.hasher.hash_one(address);
        // Two halves make any number of independent bits (Kirsch and Mitzenmacher 2006).
        let (step, start) = (hash >> 32 | 1, hash & 0xffff_ffff);
        let mut was_there = true;
        for probe in 0..PROBES {
            let bit = (start + probe * step) % BITS;
            let word = &mut self.bits[usize::try_from(bit / 64).unwrap_or(0)];
            was_there &= *word >> (bit % 64) & 1 == 1;
            *word |= 1 << (bit % 64);
        }
        if was_there {
            self.suspects.first_lines.insert(hash, None);
        }
    }
}

/// Addresses that come more than once, and a few that only seem to; by their hashes.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    hasher: RandomState,
    first_lines: HashMap<u64, Option<u32>>,
}

impl Suspects {
    fn first_line(&mut self, address: &str, line: u64) -> Option<u32> {
        let hash = self.hasher.hash_one(address);
        let first = self.first_lines.get_mut(&hash)?;
        if first.is_none() {
            *first = Some(u32::try_from(line).unwrap_or(u32::MAX));
            return None;
        }
        *first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_comes_twice_is_found_and_no_other() {
        let mut seen = Seen::Filter(Filter::default());
        let list: Vec<String> = (0..200_000).map(|n| format!("lead{}@acme.test", n % 199_990)).collect();
        for address in &list {
            assert_eq!(seen.first_line(address, 1), None, "the first pass only suspects");
        }
        assert!(seen.has_suspects());
        let mut seen = Seen::Suspects(seen.into_suspects());
        let found: Vec<(usize, u32)> =
            (1..).zip(&list).filter_map(|(line, a)| Some((line, seen.first_line(a, line as u64)?))).collect();
        assert_eq!(found, (1..=10).map(|n| (199_990 + n, n as u32)).collect::<Vec<_>>());
        let Seen::Suspects(suspects) = seen else { panic!("it stays what it is") };
        assert!(suspects.first_lines.len() < 100, "{} suspects", suspects.first_lines.len());
    }
}
