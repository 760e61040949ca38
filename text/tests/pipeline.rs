//! The whole way of a corpus: text, cleaned, split, encoded, and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use protocol::{Digest, encoded::Encoded, receipt::Salt};
use std::collections::HashSet;
use text::{
    Corpus, Tokenizer,
    bleu::Bleu,
    corpus::{Filters, read_parallel, read_tsv},
    grammar, split,
};

#[test]
fn a_corpus_goes_the_whole_way_and_every_sentence_comes_back() {
    let made = grammar::corpus(11, 4_000);
    let side = |take: fn(&text::Pair) -> &str| {
        made.pairs().iter().map(|pair| format!("{}\r\n", take(pair))).collect::<String>()
    };
    let (sources, targets) = (side(|pair| &pair.source), side(|pair| &pair.target));
    let parallel = read_parallel(sources.as_bytes(), targets.as_bytes()).unwrap();
    let (corpus, report) = Corpus::clean(parallel, &Filters::default()).unwrap();
    assert_eq!((report.kept, corpus.digest()), (4_000, made.digest()));
    let tsv = read_tsv(corpus.to_tsv().as_bytes()).unwrap();
    assert_eq!(Corpus::clean(tsv, &Filters::default()).unwrap().0, corpus);

    let split = split::hold_out(&corpus, 200).unwrap();
    let keys: HashSet<String> =
        split.held_out.iter().map(|pair| split::key(&pair.source)).collect();
    assert!(split.training.pairs().iter().all(|pair| !keys.contains(&split::key(&pair.source))));

    let texts = split.training.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]);
    let tokenizer = Tokenizer::train(texts, 500).unwrap();
    let encoded = tokenizer.encode_corpus(&split.training).unwrap();
    let read = Encoded::from_bytes(encoded.to_bytes().to_vec()).unwrap();
    assert_eq!((read.len(), read.digest()), (split.training.len(), encoded.digest()));
    for (at, pair) in split.training.pairs().iter().enumerate() {
        assert_eq!(tokenizer.decode(&read.source(at).unwrap()).unwrap(), pair.source);
        assert_eq!(tokenizer.decode(&read.target(at).unwrap()).unwrap(), pair.target);
    }

    let sources: Vec<String> =
        split.held_out.iter().map(|pair| format!("  {}\n", pair.source)).collect();
    let document = tokenizer.encode_sentences(&sources, Salt(Digest::of_bytes(b"salt"))).unwrap();
    let back: Vec<String> = (0..document.len())
        .map(|at| tokenizer.decode(&document.source(at).unwrap()).unwrap())
        .collect();
    let wanted: Vec<&str> = split.held_out.iter().map(|pair| pair.source.as_str()).collect();
    assert_eq!(back, wanted);

    // English is not German: copying scores low, the references themselves the most there is.
    let references: Vec<&str> = split.held_out.iter().map(|pair| pair.target.as_str()).collect();
    assert!(Bleu::of(&wanted, &references).unwrap().score < 10.0);
    assert!(Bleu::of(&references, &references).unwrap().score > 99.999);
}

#[test]
fn a_document_with_an_empty_sentence_is_refused_with_its_number() {
    let corpus = grammar::corpus(11, 200);
    let texts = corpus.pairs().iter().map(|pair| pair.source.as_str());
    let tokenizer = Tokenizer::train(texts, 300).unwrap();
    let salt = Salt(Digest::of_bytes(b"salt"));
    let error = tokenizer.encode_sentences(&["Ein Satz.", " \n"], salt).unwrap_err().to_string();
    assert_eq!(error, "sentence 1 of the encoded corpus is empty on one side: leave it out");
}
