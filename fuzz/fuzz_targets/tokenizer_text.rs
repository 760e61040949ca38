//! Any text through a tokenizer and back.
#![no_main]

use fuzz::target;
use std::sync::LazyLock;
use text::{Tokenizer, grammar};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let corpus = grammar::corpus(1, 300);
    let texts = corpus.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]);
    Tokenizer::train(texts, 320).expect("enough text")
});

target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let ids = TOKENIZER.encode(&text).expect("any text has pieces");
    assert!(ids.len() <= text.len() + 1 && ids.iter().all(|id| (3..320).contains(id)), "{ids:?}");
    assert_eq!(TOKENIZER.decode(&ids).expect("its own ids"), text);
    let ids: Vec<u32> = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) + 256 * u32::from(pair[pair.len() - 1]))
        .collect();
    TOKENIZER.decode(&ids).expect("any ids are text");
});
