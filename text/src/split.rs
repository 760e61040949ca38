//! The held-out part: sentences that nothing like them is trained on.
//!
//! Each source sentence has a [`key`]; sentences of one key are the same sentence for this
//! purpose ("Delete %d files?" and "_Delete 5 files"). The keys with the smallest hashes are held
//! out: one pair of each is tested on, and every other pair of such a key is in neither part. So
//! the choice depends on the set of pairs alone, not on their order, and hardly moves when a
//! corpus grows.

use crate::{
    corpus::{Corpus, Pair},
    placeholder::{Kind, spans},
};
use protocol::Digest;
use std::collections::{HashMap, HashSet};

/// A corpus in two parts without a sentence in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub training: Corpus,
    /// To test on, in the order of the keys' hashes: the first few are a fair sample.
    pub held_out: Vec<Pair>,
    /// Pairs that are in neither part, because their source is that of a held-out pair or nearly.
    pub set_aside: usize,
}

/// The corpus has too few sentences. It, or the number asked for, is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} sentences cannot be held out of {keys} different ones: at least half are to be left to train on"
)]
pub struct TooFew {
    /// How many were asked for.
    pub wanted: usize,
    /// How many different sentences there are.
    pub keys: usize,
}

/// Holds `count` pairs out.
pub fn hold_out(corpus: &Corpus, count: usize) -> Result<Split, TooFew> {
    let hashes: Vec<Digest> = corpus.pairs().iter().map(|pair| hash(&pair.source)).collect();
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if count > distinct.len() / 2 {
        return Err(TooFew { wanted: count, keys: distinct.len() });
    }
    // Of the pairs with one key the smallest by its own digest is tested on.
    let mut tested: HashMap<Digest, (Digest, &Pair)> = HashMap::new();
    let mut training = Vec::new();
    for (hash, pair) in hashes.into_iter().zip(corpus.pairs()) {
        if count > 0 && hash <= distinct[count - 1] {
            let candidate =
                (Digest::of("aliaOS held-out pair v1", &(&pair.source, &pair.target)), pair);
            let best = tested.entry(hash).or_insert(candidate);
            *best = candidate.min(*best);
        } else {
            training.push(pair.clone());
        }
    }
    let training: Corpus = training.into_iter().collect();
    let held_out: Vec<Pair> = distinct[..count]
        .iter()
        .filter_map(|hash| tested.get(hash).map(|(_, pair)| (*pair).clone()))
        .collect();
    let set_aside = corpus.len() - training.len() - held_out.len();
    Ok(Split { training, held_out, set_aside })
}

/// How many different sources there are, as [`hold_out`] counts them.
pub fn different(pairs: &[Pair]) -> usize {
    pairs.iter().map(|pair| hash(&pair.source)).collect::<HashSet<_>>().len()
}

fn hash(source: &str) -> Digest {
    Digest::of("aliaOS held-out source v1", key(source).as_str())
}

/// What two sources that are nearly the same have in common.
///
/// Letters in lower case; each number and each placeholder as `0`; markup and entities left out;
/// accelerators (`_` inside or before a word, `&` before a letter) left out; everything else, as
/// spaces, colons and ellipses, one space between words. Where nothing of a source is left, its
/// characters themselves.
pub fn key(source: &str) -> String {
    let mut key = String::with_capacity(source.len());
    let mut at = 0;
    for (span, kind) in spans(source) {
        push_words(&mut key, &source[at..span.start]);
        if kind == Kind::Placeholder {
            push_number(&mut key);
        } else {
            push_gap(&mut key);
        }
        at = span.end;
    }
    push_words(&mut key, &source[at..]);
    let key = key.trim_end();
    if key.is_empty() { source.to_lowercase() } else { key.to_owned() }
}

fn push_words(key: &mut String, text: &str) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_word = chars.peek().is_some_and(|next| next.is_alphanumeric());
        if c.is_numeric() {
            push_number(key);
        } else if c.is_alphabetic() {
            key.extend(c.to_lowercase());
        } else if !(matches!(c, '_' | '&') && next_is_word) {
            push_gap(key);
        }
    }
}

fn push_number(key: &mut String) {
    if !key.ends_with('0') {
        key.push('0');
    }
}

fn push_gap(key: &mut String) {
    if !key.is_empty() && !key.ends_with(' ') {
        key.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(source: &str, target: &str) -> Pair {
        Pair { source: source.into(), target: target.into() }
    }

    #[test]
    fn near_duplicates_have_one_key() {
        for variants in [
            &[
                "Delete %d files?",
                "_Delete 5 files",
                "delete %1$s Files…",
                "<b>De&lete</b> 12 files:",
                "Delete {0} files",
            ][..],
            &["Open", "_Open...", "OPEN:", "Open…", "  open  ", "&Open", "O_pen"][..],
            &["from %s to %s", "From 10 to 20.", "from {a} to {b}"][..],
        ] {
            for variant in variants {
                assert_eq!(key(variant), key(variants[0]), "{variant}");
            }
        }
    }

    #[test]
    fn different_sentences_have_different_keys() {
        let sentences =
            ["Open file", "Open files", "Close file", "Open %s", "file open", "…", "?", "Größe"];
        let keys: std::collections::HashSet<String> = sentences.into_iter().map(key).collect();
        assert_eq!(keys.len(), sentences.len());
    }

    fn corpus() -> Corpus {
        (0..600u32)
            .flat_map(|i| {
                let word: String =
                    i.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')).collect();
                [
                    pair(&format!("Open {word}"), &format!("{word} öffnen")),
                    pair(&format!("_Open {word}..."), &format!("{word} _öffnen …")),
                    pair(&format!("Open {word} %d"), &format!("{word} %d öffnen")),
                    pair(&format!("Open {word} 7"), &format!("{word} 7 öffnen")),
                ]
            })
            .collect()
    }

    #[test]
    fn no_variant_of_a_held_out_sentence_is_trained_on_and_nothing_else_is_lost() {
        let corpus = corpus();
        let split = hold_out(&corpus, 100).unwrap();
        assert_eq!(split.held_out.len(), 100);
        let keys: std::collections::HashSet<String> =
            split.held_out.iter().map(|pair| key(&pair.source)).collect();
        assert_eq!(keys.len(), 100);
        assert!(split.training.pairs().iter().all(|pair| !keys.contains(&key(&pair.source))));
        // Each key here has two pairs: one is tested on, the other set aside.
        assert_eq!(split.set_aside, 100);
        assert_eq!(split.training.len(), corpus.len() - 200);
    }

    #[test]
    fn the_split_of_this_corpus_never_changes() {
        let split = hold_out(&corpus(), 3).unwrap();
        let sources: Vec<&str> = split.held_out.iter().map(|pair| pair.source.as_str()).collect();
        assert_eq!(sources, ["Open df", "Open bic", "Open fed"]);
    }

    #[test]
    fn asking_for_more_than_half_is_refused_with_counts() {
        let few: Corpus = [pair("a", "A"), pair("b", "B"), pair("c", "C")].into_iter().collect();
        assert_eq!(hold_out(&few, 2), Err(TooFew { wanted: 2, keys: 3 }));
        assert_eq!(hold_out(&few, 0).unwrap().training, few);
    }

    proptest! {
        #[test]
        fn a_key_is_found_for_any_text_and_does_not_see_case(text in any::<String>()) {
            prop_assert_eq!(key(&text).is_empty(), text.is_empty());
        }

        #[test]
        fn order_does_not_matter(mut pairs in Just(corpus().pairs().to_vec()).prop_shuffle()) {
            pairs.truncate(400);
            let forward: Corpus = pairs.iter().cloned().collect();
            let backward: Corpus = pairs.into_iter().rev().collect();
            prop_assert_eq!(hold_out(&forward, 20), hold_out(&backward, 20));
        }
    }
}
