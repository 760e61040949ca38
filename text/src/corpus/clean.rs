//! Cleaning: which pairs are fit to train on, and an account of those that are not.

use super::{Corpus, Pair};
use crate::normalise::normalise;
use std::{collections::HashSet, fmt};

/// Which pairs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The longest side in bytes. 2,000 bytes are about 500 pieces: longer "sentences" are
    /// documents or rubbish, and attention's cost grows with the square.
    pub max_bytes: usize,
    /// One side may have this many times the bytes of the other, plus [`Filters::ratio_slack`].
    /// Bytes and not characters: what takes few characters (Chinese) takes three bytes each.
    pub max_ratio: usize,
    /// Bytes by which one side may always be longer: short texts vary more.
    pub ratio_slack: usize,
    /// Fewer pairs than this cannot be trained on.
    pub min_pairs: usize,
}

impl Default for Filters {
    fn default() -> Self {
        Self { max_bytes: 2_000, max_ratio: 4, ratio_slack: 20, min_pairs: 100 }
    }
}

/// What was dropped for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many pairs.
    pub count: usize,
    /// The first of them in the input, from 1: its line.
    pub first: Option<usize>,
}

impl Dropped {
    fn note(&mut self, line: usize) {
        self.count += 1;
        self.first.get_or_insert(line);
    }
}

/// An account of cleaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Pairs that came in.
    pub read: usize,
    /// Pairs that stayed.
    pub kept: usize,
    /// One side or both were empty.
    pub empty: Dropped,
    /// One side was longer than [`Filters::max_bytes`].
    pub gigantic: Dropped,
    /// One side was too long for the other.
    pub lopsided: Dropped,
    /// The same pair had come before.
    pub duplicate: Dropped,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pairs kept", self.kept, self.read)?;
        for (dropped, why) in [
            (self.empty, "empty"),
            (self.gigantic, "too long"),
            (self.lopsided, "too unequal in length"),
            (self.duplicate, "there already"),
        ] {
            if let Some(first) = dropped.first {
                write!(f, "; {} {why} (first: {first})", dropped.count)?;
            }
        }
        Ok(())
    }
}

/// Too few pairs were left. The corpus is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the corpus is too small to train on: {report}; at least {wanted} are wanted")]
pub struct TooSmall {
    /// What became of the pairs.
    pub report: Report,
    /// [`Filters::min_pairs`].
    pub wanted: usize,
}

impl Corpus {
    /// Normalises `pairs` and keeps those that are fit to train on.
    pub fn clean(
        pairs: impl IntoIterator<Item = Pair>,
        filters: &Filters,
    ) -> Result<(Self, Report), TooSmall> {
        let mut report = Report::default();
        let mut kept = HashSet::new();
        for (at, pair) in pairs.into_iter().enumerate() {
            let line = at + 1;
            report.read = line;
            // Before normalising: that costs time in the length.
            if pair.source.len().max(pair.target.len()) > filters.max_bytes.saturating_mul(4) {
                report.gigantic.note(line);
                continue;
            }
            let pair = Pair { source: normalise(&pair.source), target: normalise(&pair.target) };
            let (source, target) = (pair.source.len(), pair.target.len());
            let (short, long) = (source.min(target), source.max(target));
            if short == 0 {
                report.empty.note(line);
            } else if long > filters.max_bytes {
                report.gigantic.note(line);
            } else if long > short.saturating_mul(filters.max_ratio) + filters.ratio_slack {
                report.lopsided.note(line);
            } else if !kept.insert(pair) {
                report.duplicate.note(line);
            }
        }
        report.kept = kept.len();
        if report.kept < filters.min_pairs {
            return Err(TooSmall { report, wanted: filters.min_pairs });
        }
        Ok((kept.into_iter().collect(), report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str, target: &str) -> Pair {
        Pair { source: source.into(), target: target.into() }
    }

    #[test]
    fn every_dropped_pair_is_counted_under_its_reason() {
        let long = "x".repeat(2_001);
        let spaces = format!("ok{}", " ".repeat(5_000));
        let (corpus, report) = Corpus::clean(
            [
                pair("a  b", "A"),
                pair("", "A"),
                pair("\u{a0}", "A"),
                pair("a b", "A\n"),
                pair(&long, &long),
                pair("a", "forty bytes for one: no translation at all"),
                pair("short", "ein Wort, doch länger"),
                pair(&spaces, "gut"),
                pair(&" ".repeat(9_000), "gut"),
            ],
            &Filters { min_pairs: 1, ..Filters::default() },
        )
        .unwrap();
        let dropped = |count, first| Dropped { count, first: Some(first) };
        assert_eq!(
            report,
            Report {
                read: 9,
                kept: 3,
                empty: dropped(2, 2),
                gigantic: dropped(2, 5),
                lopsided: dropped(1, 6),
                duplicate: dropped(1, 4),
            }
        );
        assert_eq!(corpus.pairs()[0], pair("a b", "A"));
        assert_eq!(corpus.source_words(), 4);
        assert_eq!(
            report.to_string(),
            "3 of 9 pairs kept; 2 empty (first: 2); 2 too long (first: 5); 1 too unequal in length (first: 6); 1 there already (first: 4)"
        );
    }

    #[test]
    fn a_corpus_too_small_to_train_on_is_refused_with_counts() {
        let pairs = (0..99).map(|i| pair(&i.to_string(), &i.to_string()));
        let error = Corpus::clean(pairs.chain([pair("0", "0")]), &Filters::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the corpus is too small to train on: 99 of 100 pairs kept; 1 there already (first: 100); at least 100 are wanted"
        );
    }
}
