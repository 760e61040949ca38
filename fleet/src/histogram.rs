//! Times of many, in a fixed amount of memory.

/// A bucket's end is its beginning times this: what is told is off by at most 2 %.
const GROWTH: f64 = 1.02;
/// The shortest time told apart, in seconds.
const LEAST: f64 = 1e-5;
/// Up to 2,800 s.
const BUCKETS: usize = 984;

/// Durations in seconds; percentiles to 2 %, the greatest exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    sum: f64,
    max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, sum: 0.0, max: 0.0 }
    }
}

impl Histogram {
    /// Adds one.
    pub fn add(&mut self, seconds: f64) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        let bucket = &mut self.buckets[bucket(seconds)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum += seconds;
        self.max = self.max.max(seconds);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The mean; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// What a share of them (0.99) does not exceed: the nearest rank's bucket; 0 of none.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (number, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                // The last bucket has no end.
                let end = if number + 1 == BUCKETS { self.max } else { end(number) };
                return end.min(self.max);
            }
        }
        self.max
    }
}

fn bucket(seconds: f64) -> usize {
    if seconds <= LEAST {
        return 0;
    }
    (((seconds / LEAST).ln() / GROWTH.ln()).ceil() as usize).min(BUCKETS - 1)
}

fn end(number: usize) -> f64 {
    LEAST * GROWTH.powi(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_none_everything_is_0_and_of_one_everything_is_it() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(0.5), histogram.max()), (0.0, 0.0));
        histogram.add(0.25);
        assert_eq!((histogram.percentile(0.01), histogram.percentile(1.0)), (0.25, 0.25));
        assert_eq!(histogram.mean(), 0.25);
    }

    #[test]
    fn nonsense_and_ages_do_no_harm() {
        let mut histogram = Histogram::default();
        for seconds in [f64::NAN, -1.0, f64::INFINITY, 1e9] {
            histogram.add(seconds);
        }
        assert_eq!((histogram.count(), histogram.max()), (4, 1e9));
        assert_eq!(histogram.percentile(1.0), 1e9);
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_list_to_2_percent(
            mut seconds in prop::collection::vec(1e-4..1e3f64, 1..400),
            share in 0.01..1.0f64,
        ) {
            let mut histogram = Histogram::default();
            seconds.iter().for_each(|&each| histogram.add(each));
            seconds.sort_by(f64::total_cmp);
            let rank = ((share * seconds.len() as f64).ceil() as usize).max(1);
            let exact = seconds[rank - 1];
            let told = histogram.percentile(share);
            prop_assert!(told >= exact * 0.999 && told <= exact * (GROWTH + 0.001), "{told} {exact}");
            prop_assert_eq!(histogram.max(), seconds[seconds.len() - 1]);
        }
    }
}
