//! A tokenizer's JSON file: only those that we write ourselves are taken.
#![no_main]

use fuzz::target;
use fuzz::texts;
use text::Tokenizer;

target!(|bytes: &[u8]| {
    let [json, sample] = texts(bytes);
    let Ok(tokenizer) = Tokenizer::from_json(&json) else { return };
    assert_eq!(tokenizer.to_json().expect("it was read"), json);
    for sample in [&*sample, "the house <|end|> ÄÖ 1,234"] {
        let ids = tokenizer.encode(sample).expect("any text has pieces");
        assert!(ids.iter().all(|id| (3..tokenizer.vocabulary()).contains(id)), "{ids:?}");
        assert_eq!(tokenizer.decode(&ids).expect("its own ids"), sample);
    }
});
