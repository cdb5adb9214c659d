//! Medians and spreads of a figure's runs.

use serde::Serialize;

/// A figure's runs: their median and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of these runs; of an even number the upper of the two in the middle. None of no runs.
    pub(crate) fn of(runs: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut runs: Vec<f64> = runs.into_iter().collect();
        runs.sort_by(f64::total_cmp);
        Some(Self { least: *runs.first()?, median: *runs.get(runs.len() / 2)?, most: *runs.last()? })
    }

    /// The median, with the least and the most in brackets.
    pub(crate) fn text(self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$} to {:.decimals$})", self.median, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_no_mean() {
        let spread = Spread::of([9.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { least: 1.0, median: 2.0, most: 9.0 });
        assert_eq!(spread.text(1), "2.0 (1.0 to 9.0)");
        assert_eq!(Spread::of([]), None);
    }
}
