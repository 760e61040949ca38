//! Which runs of a step's micro-batches may be given out: the blocks of its gradient tree.
//!
//! Each aligned run of `2^k` micro-batches is one block of the tree that [`kernels::sum`] fixes,
//! so a worker can sum such a run by itself and nobody can tell who did.

/// A run of micro-batches of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first micro-batch.
    pub first: u32,
    /// How many; never 0.
    pub count: u32,
}

impl Span {
    /// The micro-batches, ascending.
    pub fn micro_batches(self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

/// Cuts the micro-batches `missing` of a step (ascending) into aligned runs of at most `most`.
pub fn aligned_runs(missing: &[u32], most: u32) -> Vec<Span> {
    let mut runs = Vec::new();
    let mut rest = missing;
    while let Some(&first) = rest.first() {
        let mut count = 1;
        loop {
            let wider = count * 2;
            let fits = wider <= most
                && first.is_multiple_of(wider)
                && rest.len() >= wider as usize
                && rest[wider as usize - 1] == first + wider - 1;
            if !fits {
                break;
            }
            count = wider;
        }
        runs.push(Span { first, count });
        rest = &rest[count as usize..];
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::sum::Tree;

    #[test]
    fn runs_cover_what_is_missing_once_and_are_blocks_of_the_tree() {
        for leaves in 1..=40u32 {
            for gap in 2..7 {
                let missing: Vec<u32> = (0..leaves).filter(|i| i % gap != 1).collect();
                let runs = aligned_runs(&missing, 8);
                assert!(runs.iter().all(|run| Tree::is_block(leaves, run.first, run.count)));
                let covered: Vec<u32> = runs.iter().flat_map(|run| run.micro_batches()).collect();
                assert_eq!(covered, missing);
            }
        }
    }

    #[test]
    fn runs_are_as_long_as_they_may_be() {
        let all: Vec<u32> = (0..11).collect();
        let span = |first, count| Span { first, count };
        assert_eq!(aligned_runs(&all, 64), [span(0, 8), span(8, 2), span(10, 1)]);
        assert_eq!(
            aligned_runs(&all[1..], 4),
            [span(1, 1), span(2, 2), span(4, 4), span(8, 2), span(10, 1)]
        );
    }
}
