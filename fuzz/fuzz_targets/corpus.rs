//! A corpus that a user brings, to its cleaned form, its held-out part and its score.
#![no_main]

use fuzz::{parts, target};
use text::{
    bleu::Bleu,
    corpus::{Corpus, Filters, Pair, read_parallel, read_tsv},
    normalise::normalise,
    placeholder::spans,
    split::{hold_out, key},
};

target!(|bytes: &[u8]| {
    let [source, target] = parts(bytes);
    if let Ok(pairs) = read_parallel(source, target) {
        let texts = |side: fn(&Pair) -> &str| pairs.iter().map(side).collect::<Vec<&str>>();
        let (sources, targets) = (texts(|pair| &pair.source), texts(|pair| &pair.target));
        let bleu = Bleu::of(&sources, &targets).expect("equally many");
        assert!((0.0..=100.000_001).contains(&bleu.score), "{bleu:?}");
        cleaned(pairs);
    }
    if let Ok(pairs) = read_tsv(bytes) {
        cleaned(pairs);
    }
});

fn cleaned(pairs: Vec<Pair>) {
    let filters = Filters { min_pairs: 0, ..Filters::default() };
    let (corpus, report) = Corpus::clean(pairs, &filters).expect("none is enough");
    assert_eq!(report.kept, corpus.len());
    for text in corpus.pairs().iter().flat_map(|pair| [&pair.source, &pair.target]) {
        assert!(!text.is_empty() && text.len() <= filters.max_bytes);
        assert_eq!(normalise(text), *text);
        let mut end = 0;
        for (span, _) in spans(text) {
            assert!(span.start >= end && text.get(span.clone()).is_some());
            end = span.end;
        }
        assert!(!key(text).is_empty());
    }
    let again = read_tsv(corpus.to_tsv().as_bytes()).expect("its own text");
    let (again, _) = Corpus::clean(again, &filters).expect("none is enough");
    assert_eq!(again, corpus);
    if let Ok(split) = hold_out(&corpus, corpus.len() / 3) {
        let all = split.training.len() + split.held_out.len() + split.set_aside;
        assert_eq!((all, split.held_out.len()), (corpus.len(), corpus.len() / 3));
        for held in &split.held_out {
            assert!(
                !split.training.pairs().iter().any(|pair| key(&pair.source) == key(&held.source))
            );
        }
    }
}
