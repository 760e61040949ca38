//! Counts that a batch's shape fixes: rows of a tensor, work units of an operation.

use borsh::BorshSerialize;
use protocol::BatchShape;
use std::ops::{Add, Mul};

/// The sums over a batch's sentences that every [`Formula`] is linear in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Sentences; for an update, gradients to be summed.
    pub sentences: u64,
    /// Source tokens.
    pub source_tokens: u64,
    /// Target positions.
    pub target_tokens: u64,
    /// Sum of source lengths squared.
    pub source_squares: u64,
    /// Sum of target lengths squared.
    pub target_squares: u64,
    /// Sum of `t (t + 1) / 2` over target lengths `t`: what causal attention looks at.
    pub target_triangles: u64,
    /// Sum of source length x target length.
    pub cross: u64,
}

impl Sums {
    /// The sums of a whole batch.
    pub fn of(shape: &BatchShape) -> Self {
        let target_tokens = u64::from(shape.target_tokens);
        Self {
            sentences: shape.sentences.into(),
            source_tokens: shape.source_tokens.into(),
            target_tokens,
            source_squares: shape.source_squares,
            target_squares: shape.target_squares,
            // The sum over sentences of t^2 + t is even, so nothing is lost.
            target_triangles: shape.target_squares.saturating_add(target_tokens) / 2,
            cross: shape.cross,
        }
    }

    /// The sums of decoding's step `t` (from 0), for sentences of `lengths` source tokens that may
    /// run to `limits` target tokens. Over all `t` they add up to the batch's.
    pub fn of_decode_step(t: u32, lengths: &[u32], limits: &[u32]) -> Self {
        let mut sums = Self::default();
        for (&length, _) in lengths.iter().zip(limits).filter(|&(_, &limit)| t < limit) {
            sums.sentences += 1;
            sums.target_tokens += 1;
            sums.target_triangles += u64::from(t) + 1;
            sums.target_squares += 2 * u64::from(t) + 1;
            sums.source_tokens += u64::from(length);
            sums.cross += u64::from(length);
        }
        sums
    }
}

/// A linear form over a batch's [`Sums`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, BorshSerialize)]
pub struct Formula {
    /// Added as it is.
    pub constant: u64,
    /// Times [`Sums::sentences`].
    pub sentences: u64,
    /// Times [`Sums::source_tokens`].
    pub source_tokens: u64,
    /// Times [`Sums::target_tokens`].
    pub target_tokens: u64,
    /// Times [`Sums::source_squares`].
    pub source_squares: u64,
    /// Times [`Sums::target_squares`].
    pub target_squares: u64,
    /// Times [`Sums::target_triangles`].
    pub target_triangles: u64,
    /// Times [`Sums::cross`].
    pub cross: u64,
}

impl Formula {
    /// Nothing.
    pub const ZERO: Self = Self::constant(0);
    /// [`Sums::sentences`].
    pub const SENTENCES: Self = Self { sentences: 1, ..Self::ZERO };
    /// [`Sums::source_tokens`].
    pub const SOURCE_TOKENS: Self = Self { source_tokens: 1, ..Self::ZERO };
    /// [`Sums::target_tokens`].
    pub const TARGET_TOKENS: Self = Self { target_tokens: 1, ..Self::ZERO };
    /// [`Sums::source_squares`].
    pub const SOURCE_SQUARES: Self = Self { source_squares: 1, ..Self::ZERO };
    /// [`Sums::target_squares`].
    pub const TARGET_SQUARES: Self = Self { target_squares: 1, ..Self::ZERO };
    /// [`Sums::target_triangles`].
    pub const TARGET_TRIANGLES: Self = Self { target_triangles: 1, ..Self::ZERO };
    /// [`Sums::cross`].
    pub const CROSS: Self = Self { cross: 1, ..Self::ZERO };

    /// A number that no batch changes.
    pub const fn constant(constant: u64) -> Self {
        Self {
            constant,
            sentences: 0,
            source_tokens: 0,
            target_tokens: 0,
            source_squares: 0,
            target_squares: 0,
            target_triangles: 0,
            cross: 0,
        }
    }

    /// The count for a batch, saturating: a ledger must not panic on a foreign shape.
    pub fn at(&self, sums: &Sums) -> u64 {
        let terms = [
            (self.sentences, sums.sentences),
            (self.source_tokens, sums.source_tokens),
            (self.target_tokens, sums.target_tokens),
            (self.source_squares, sums.source_squares),
            (self.target_squares, sums.target_squares),
            (self.target_triangles, sums.target_triangles),
            (self.cross, sums.cross),
        ];
        terms.iter().fold(self.constant, |total, (factor, count)| {
            total.saturating_add(factor.saturating_mul(*count))
        })
    }

    fn pairwise(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            constant: f(self.constant, other.constant),
            sentences: f(self.sentences, other.sentences),
            source_tokens: f(self.source_tokens, other.source_tokens),
            target_tokens: f(self.target_tokens, other.target_tokens),
            source_squares: f(self.source_squares, other.source_squares),
            target_squares: f(self.target_squares, other.target_squares),
            target_triangles: f(self.target_triangles, other.target_triangles),
            cross: f(self.cross, other.cross),
        }
    }
}

impl Add for Formula {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.pairwise(other, u64::saturating_add)
    }
}

impl Mul<u64> for Formula {
    type Output = Self;
    fn mul(self, factor: u64) -> Self {
        self.pairwise(self, |term, _| term.saturating_mul(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_steps_add_up_to_the_whole_batch() {
        let lengths = [3, 5, 9];
        let limits = [4, 2, 7];
        let mut shape = BatchShape::default();
        for (&length, &limit) in lengths.iter().zip(&limits) {
            shape.add(length, limit);
        }
        let whole = Sums::of(&shape);
        let (mut tokens, mut triangles, mut squares, mut cross) = (0, 0, 0, 0);
        for t in 0..10 {
            let step = Sums::of_decode_step(t, &lengths, &limits);
            tokens += step.target_tokens;
            triangles += step.target_triangles;
            squares += step.target_squares;
            cross += step.cross;
        }
        assert_eq!(
            (tokens, triangles, squares, cross),
            (whole.target_tokens, whole.target_triangles, whole.target_squares, whole.cross)
        );
    }

    #[test]
    fn a_foreign_shape_saturates_and_does_not_panic() {
        let shape = BatchShape {
            sentences: u32::MAX,
            source_tokens: u32::MAX,
            target_tokens: u32::MAX,
            source_squares: u64::MAX,
            target_squares: u64::MAX,
            cross: u64::MAX,
        };
        let formula = (Formula::CROSS + Formula::TARGET_SQUARES) * u64::MAX;
        assert_eq!(formula.at(&Sums::of(&shape)), u64::MAX);
    }
}
