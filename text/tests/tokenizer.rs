//! The tokenizer in other processes: other hash seeds, other numbers of threads, Python.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use text::{Tokenizer, grammar};

/// Set in a child of this test program, which then writes its tokenizer and ends.
const CHILD: &str = "ALIA_TEST_TOKENIZER_CHILD";

fn trained(turned: bool) -> Tokenizer {
    let corpus = grammar::corpus(5, 3_000);
    let mut texts: Vec<&str> =
        corpus.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]).collect();
    if turned {
        texts.reverse();
    }
    Tokenizer::train(texts.into_iter(), 600).unwrap()
}

#[test]
fn every_process_trains_the_same_tokenizer() {
    let json = trained(false).to_json().unwrap();
    if std::env::var_os(CHILD).is_some() {
        println!("\n{json}\n");
        return;
    }
    assert_eq!(trained(true).to_json().unwrap(), json, "the order of texts does not matter");
    for parallel in ["false", "true"] {
        for _ in 0..3 {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "every_process_trains_the_same_tokenizer", "--nocapture"])
                .env(CHILD, "1")
                .env("TOKENIZERS_PARALLELISM", parallel)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let theirs = text.lines().find(|line| line.starts_with('{'));
            assert_eq!(theirs, Some(json.as_str()));
        }
    }
}

#[test]
fn this_corpus_always_gives_this_tokenizer() {
    let json = trained(false).to_json().unwrap();
    assert_eq!(
        protocol::Digest::of_bytes(json.as_bytes()).to_string(),
        "ec934e19acda02ece0e5df175cf839ec8b1c13aa1ab36f2641a93ff468479045",
        "the library trains or writes differently: jobs of this version name other files"
    );
}

#[test]
fn python_gives_the_same_ids_and_texts() {
    let Some(python) = std::env::var_os("ALIA_TOKENIZERS_PYTHON") else {
        eprintln!("not compared: ALIA_TOKENIZERS_PYTHON is not set");
        return;
    };
    const PROGRAM: &str = "
import json, sys
from tokenizers import Tokenizer
given = json.load(sys.stdin)
tokenizer = Tokenizer.from_str(given['tokenizer'])
tokenizer.encode_special_tokens = True
ids = [tokenizer.encode(text).ids for text in given['texts']]
texts = [tokenizer.decode(i) for i in ids]
json.dump([ids, texts], sys.stdout)
";
    let mut texts: Vec<String> = [
        "",
        " ",
        "  two  spaces  ",
        "\t\n",
        "<|start|> is text <|end|>",
        "x<|unknown|>",
        "Größe: 1,024.50 €",
        "日本語のテキスト。",
        "हिन्दी में",
        "العربية ١٢٣",
        "🎉👩‍👩‍👧 emoji",
        "e\u{301} combined",
        "\u{a0}\u{2009}\u{3000}",
        "\u{0}\u{1c}\u{85}",
        "%1$s 'GIT_DIR' {0}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "don't I'll we've",
    ]
    .map(String::from)
    .to_vec();
    texts.extend(grammar::corpus(6, 500).pairs().iter().map(|pair| pair.target.clone()));
    let tokenizer = trained(false);
    let ids: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();

    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python that ALIA_TOKENIZERS_PYTHON names");
    let input = json!({ "tokenizer": tokenizer.to_json().unwrap(), "texts": texts }).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "are tokenizers installed in that Python?");
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (at, text) in texts.iter().enumerate() {
        assert_eq!(theirs[0][at], json!(ids[at]), "{text:?}");
        assert_eq!(theirs[1][at], json!(text));
    }
}
