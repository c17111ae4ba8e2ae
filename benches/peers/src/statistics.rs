//! What the rounds of one peer come to.

/// The quartiles of a value that means something are no further apart than this part of the median.
const SPREAD: f64 = 0.2;

/// With fewer rounds there are no quartiles to speak of.
pub const ROUNDS: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub least: f64,
    pub low: f64,
    pub median: f64,
    pub high: f64,
    pub most: f64,
    pub rounds: usize,
}

impl Summary {
    /// `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| quantile(&sorted, part));
        Some(Self { least, low, median, high, most, rounds: sorted.len() })
    }

    /// Whether the rounds differ so much that their least says little.
    pub fn is_noisy(&self) -> bool {
        self.high - self.low > SPREAD * self.median.abs()
    }
}

/// Between two values in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn quartiles_lie_between_values() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((summary.least, summary.low, summary.median, summary.high), (1.0, 1.75, 2.5, 3.25));
    }

    #[test]
    fn rounds_that_differ_are_marked() {
        assert!(Summary::of(&[1.0, 1.0, 2.0, 2.0]).unwrap().is_noisy());
        assert!(!Summary::of(&[10.0, 10.5, 11.0, 100.0, 10.2, 10.1, 10.4]).unwrap().is_noisy());
    }
}
