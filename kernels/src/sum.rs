//! The sum of a step's gradients, in an order that nobody's share of the work can change.
//!
//! Contract: leaves are the micro-batches' gradients, in order. A block is an aligned run of a
//! power of two: leaves `i 2^n` to `(i + 1) 2^n - 1`. A block's sum is the sum of its halves' sums,
//! element by element, each one rounded addition. A step of `c` leaves is the blocks of c's binary
//! digits, largest first; they are joined from the right: `b_1 + (b_2 + (b_3 + ...))`. That is the
//! shape of RFC 6962's trees. (Addition commutes, so left and right need no order within one.)

use crate::simd::{Kernel, LANES, Simd, run};
use std::collections::BTreeMap;

/// `to[i] = to[i] + from[i]`, one rounded addition an element.
///
/// # Panics
/// When the lengths differ: the caller's mistake.
pub fn add_into(to: &mut [f32], from: &[f32]) {
    assert_eq!(to.len(), from.len(), "two gradients of one model have one length");
    run(AddInto { to, from });
}

struct AddInto<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
}

impl Kernel for AddInto<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (to, to_rest) = self.to.as_chunks_mut::<LANES>();
        let (from, from_rest) = self.from.as_chunks::<LANES>();
        for (to, from) in to.iter_mut().zip(from) {
            s.store(s.add(s.load(to), s.load(from)), to);
        }
        for (to, from) in to_rest.iter_mut().zip(from_rest) {
            *to += from;
        }
    }
}

/// Why a run's sum was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// Not an aligned power of two, or beyond the step's leaves.
    #[error("leaves {first} to {first} + {count} are no block of a step of {leaves}")]
    NotABlock {
        /// The run's first leaf.
        first: u32,
        /// Its leaves.
        count: u32,
        /// The step's leaves.
        leaves: u32,
    },
    /// It, or a part of it, is already there.
    #[error("a part of leaves {first} to {first} + {count} is already summed")]
    Overlap {
        /// The run's first leaf.
        first: u32,
        /// Its leaves.
        count: u32,
    },
    /// Another model's gradient.
    #[error("a gradient of {found} elements among others of {wanted}")]
    Length {
        /// Its elements.
        found: usize,
        /// The others'.
        wanted: usize,
    },
}

/// The tree of one step, filled in any order.
#[derive(Clone, Debug)]
pub struct Tree {
    leaves: u32,
    elements: usize,
    /// Sums of disjoint blocks by first leaf, with their count. At most one a leaf.
    blocks: BTreeMap<u32, (u32, Vec<f32>)>,
}

impl Tree {
    /// A tree of `leaves` gradients of `elements` elements each.
    pub fn new(leaves: u32, elements: usize) -> Self {
        Self { leaves, elements, blocks: BTreeMap::new() }
    }

    /// Whether leaves `first` to `first + count - 1` are a block of a step of `leaves`: what one
    /// worker may sum.
    pub fn is_block(leaves: u32, first: u32, count: u32) -> bool {
        count.is_power_of_two()
            && first.is_multiple_of(count)
            && first.checked_add(count).is_some_and(|end| end <= leaves)
    }

    /// Whether leaf `leaf` is in one of the blocks summed so far.
    pub fn has(&self, leaf: u32) -> bool {
        self.blocks
            .range(..=leaf)
            .next_back()
            .is_some_and(|(first, (count, _))| leaf - first < *count)
    }

    /// Whether every leaf is there.
    pub fn is_complete(&self) -> bool {
        self.blocks.values().map(|(count, _)| u64::from(*count)).sum::<u64>()
            == u64::from(self.leaves)
    }

    /// Puts a block's sum in and joins it with its neighbours.
    ///
    /// # Errors
    /// [`TreeError`]; the tree is then as it was.
    pub fn insert(&mut self, first: u32, count: u32, sum: Vec<f32>) -> Result<(), TreeError> {
        if !Self::is_block(self.leaves, first, count) {
            return Err(TreeError::NotABlock { first, count, leaves: self.leaves });
        }
        if sum.len() != self.elements {
            return Err(TreeError::Length { found: sum.len(), wanted: self.elements });
        }
        if self.has(first) || self.blocks.range(first..first + count).next().is_some() {
            return Err(TreeError::Overlap { first, count });
        }
        let (mut first, mut count, mut sum) = (first, count, sum);
        // A block's other half is the aligned run of the same length beside it.
        loop {
            let other = first ^ count;
            let is_whole = self.blocks.get(&other).is_some_and(|(length, _)| *length == count);
            if !is_whole {
                break;
            }
            if let Some((_, half)) = self.blocks.remove(&other) {
                add_into(&mut sum, &half);
            }
            first = first.min(other);
            count *= 2;
        }
        self.blocks.insert(first, (count, sum));
        Ok(())
    }

    /// The whole step's sum; `None` while a leaf is missing or where there is none.
    pub fn finish(self) -> Option<Vec<f32>> {
        if !self.is_complete() {
            return None;
        }
        let mut blocks = self.blocks.into_values().rev();
        let (_, mut sum) = blocks.next()?;
        for (_, block) in blocks {
            add_into(&mut sum, &block);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order as the contract says it, by recursion over RFC 6962's shape.
    fn reference(leaves: &[Vec<f32>]) -> Vec<f32> {
        if leaves.len() == 1 {
            return leaves[0].clone();
        }
        let at = (leaves.len().next_power_of_two() / 2).max(1);
        let (left, right) = (reference(&leaves[..at]), reference(&leaves[at..]));
        left.iter().zip(&right).map(|(a, b)| a + b).collect()
    }

    fn leaves(count: u32) -> Vec<Vec<f32>> {
        let place = crate::philox::Stream::new(3, crate::philox::Domain::Initial, [0; 3]).at(0);
        let value = |i: u32, j: u32| place.unit(u64::from(i * 37 + j)) * 10f32.powi(i as i32 % 5);
        (0..count).map(|i| (0..37).map(|j| value(i, j)).collect()).collect()
    }

    #[test]
    fn blocks_sum_to_the_same_bits_whoever_summed_them_and_whenever() {
        for count in 1..=33u32 {
            let leaves = leaves(count);
            let wanted = reference(&leaves);
            // One by one, from both ends.
            let mut tree = Tree::new(count, 37);
            for i in (0..count).rev() {
                assert!(!tree.has(i));
                tree.insert(i, 1, leaves[i as usize].clone()).unwrap();
                assert!(tree.has(i));
            }
            assert_eq!(tree.finish().unwrap(), wanted, "{count} leaves, one by one");
            // In the largest blocks that fit, last first.
            for largest in [2, 4, 8] {
                let mut tree = Tree::new(count, 37);
                let mut runs = Vec::new();
                let mut first = 0;
                while first < count {
                    let mut run = largest;
                    while !Tree::is_block(count, first, run) {
                        run /= 2;
                    }
                    runs.push((first, run));
                    first += run;
                }
                for (first, run) in runs.into_iter().rev() {
                    let part = &leaves[first as usize..][..run as usize];
                    tree.insert(first, run, reference(part)).unwrap();
                }
                assert_eq!(tree.finish().unwrap(), wanted, "{count} leaves, by {largest}");
            }
        }
    }

    #[test]
    fn what_is_no_block_or_there_already_or_too_short_is_refused() {
        let mut tree = Tree::new(7, 2);
        let sum = || vec![1.0, 2.0];
        assert!(matches!(tree.insert(1, 2, sum()), Err(TreeError::NotABlock { .. })));
        assert!(matches!(tree.insert(0, 3, sum()), Err(TreeError::NotABlock { .. })));
        assert!(matches!(tree.insert(4, 4, sum()), Err(TreeError::NotABlock { .. })));
        assert!(matches!(tree.insert(0, 1, vec![1.0]), Err(TreeError::Length { .. })));
        tree.insert(2, 2, sum()).unwrap();
        assert!(matches!(tree.insert(3, 1, sum()), Err(TreeError::Overlap { .. })));
        assert!(matches!(tree.insert(0, 4, sum()), Err(TreeError::Overlap { .. })));
        assert!(!tree.is_complete());
        assert!(tree.finish().is_none());
    }
}
