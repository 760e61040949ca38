//! Parallel corpora: sentence pairs, cleaned, as a set with one canonical form.

mod clean;
mod read;

pub use clean::{Dropped, Filters, Report, TooSmall};
pub use read::{Input, ReadError, read_parallel, read_tsv};

use protocol::Digest;

/// A source sentence and its translation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// In the language translated from.
    pub source: String,
    /// In the language translated into.
    pub target: String,
}

impl Pair {
    fn digest(&self, domain: &'static str) -> Digest {
        Digest::of(domain, &(&self.source, &self.target))
    }
}

/// Cleaned pairs: normalised, distinct, in the order of their bytes.
///
/// The order is fixed so that the same pairs have the same digest wherever and in whatever order
/// they came; jobs shuffle anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corpus {
    pairs: Vec<Pair>,
}

impl Corpus {
    /// The pairs, ordered by source, then target.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Words on the source side, as parted by spaces.
    pub fn source_words(&self) -> usize {
        self.pairs.iter().map(|pair| pair.source.split(' ').count()).sum()
    }

    /// The corpus as text: UTF-8, one `source<TAB>target` a line, every line ended.
    ///
    /// [`read_tsv`] and [`Corpus::clean`] give the same corpus back.
    pub fn to_tsv(&self) -> String {
        let bytes = self.pairs.iter().map(|pair| pair.source.len() + pair.target.len() + 2).sum();
        let mut tsv = String::with_capacity(bytes);
        for pair in &self.pairs {
            tsv.push_str(&pair.source);
            tsv.push('\t');
            tsv.push_str(&pair.target);
            tsv.push('\n');
        }
        tsv
    }

    /// The content address of [`Corpus::to_tsv`]'s bytes.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(self.to_tsv().as_bytes())
    }

    /// At most `count` pairs, those with the smallest digests: a sample that does not depend on
    /// order, and of which a smaller one is always part.
    pub fn sample(&self, count: usize) -> Corpus {
        let digest = |pair: &Pair| pair.digest("aliaOS corpus sample v1");
        let mut by_digest: Vec<(Digest, &Pair)> =
            self.pairs.iter().map(|pair| (digest(pair), pair)).collect();
        by_digest.sort();
        by_digest.truncate(count);
        by_digest.into_iter().map(|(_, pair)| pair.clone()).collect()
    }
}

/// Orders and removes duplicates; the pairs are taken as normalised.
impl FromIterator<Pair> for Corpus {
    fn from_iter<I: IntoIterator<Item = Pair>>(pairs: I) -> Self {
        let mut pairs: Vec<Pair> = pairs.into_iter().collect();
        pairs.sort_unstable();
        pairs.dedup();
        Self { pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn corpus(pairs: &[(&str, &str)]) -> Corpus {
        let pair = |(source, target): &(&str, &str)| Pair {
            source: (*source).into(),
            target: (*target).into(),
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_same_pairs_in_any_order_have_the_same_bytes() {
        let one = corpus(&[("b", "B"), ("a", "A"), ("b", "B")]);
        let other = corpus(&[("a", "A"), ("b", "B")]);
        assert_eq!(one.to_tsv(), "a\tA\nb\tB\n");
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.digest(), corpus(&[("a", "A")]).digest());
    }

    #[test]
    fn a_smaller_sample_is_part_of_a_larger_one() {
        let all: Corpus =
            (0..100).map(|i| Pair { source: format!("s{i}"), target: format!("t{i}") }).collect();
        let (ten, fifty) = (all.sample(10), all.sample(50));
        assert_eq!((ten.len(), fifty.len(), all.sample(1000).len()), (10, 50, 100));
        assert!(ten.pairs().iter().all(|pair| fifty.pairs().contains(pair)));
        // And not simply the first ones.
        assert_ne!(ten.pairs(), &all.pairs()[..10]);
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_corpus(
            pairs in prop::collection::vec(("[^\\t\\n]{1,20}", "[^\\t\\n]{1,20}"), 1..20)
        ) {
            let pairs = pairs.into_iter().map(|(source, target)| Pair { source, target });
            let all = Filters { min_pairs: 0, ..Filters::default() };
            let (corpus, _) = Corpus::clean(pairs, &all).unwrap();
            let read = read_tsv(corpus.to_tsv().as_bytes()).unwrap();
            let (again, report) = Corpus::clean(read, &all).unwrap();
            prop_assert_eq!(report.kept, corpus.len());
            prop_assert_eq!(again, corpus);
        }
    }
}
