//! The joint tokenizer: byte-level BPE, one vocabulary for source and target.
//!
//! A file that other tools open: the JSON of HuggingFace's `tokenizers`, and that library does
//! the encoding here too. Its parts, in order:
//!
//! 1. a space is put before the text, so that a word is the same pieces at the start as within;
//! 2. it is split into words ([`WORD`]): letters with the space before them, single digits,
//!    other signs, further whitespace; no piece reaches across;
//! 3. each word's UTF-8 bytes are merged by the rules learnt. All 256 bytes are pieces, so every
//!    text has pieces and decoding gives it back to the byte.
//!
//! Ids: [`UNKNOWN`], [`START`], [`END`], then the bytes, then merged pieces in the order learnt.
//! `UNKNOWN` is never given for a text; models use it for nothing. Text that looks like a special
//! piece is encoded as text. (In Python set `encode_special_tokens = True` for that.)
//!
//! Training is the library's, and depends on the texts alone: each time the most frequent pair of
//! neighbouring pieces becomes a piece, ties going to the pair with the smaller ids. The library
//! walks hash maps with random seeds, but only to add up counts and to fill its queue, which has
//! one entry a pair: a piece's bytes are joined in one way only (what happens inside a stretch of
//! text that pieces cover exactly does not depend on what is around it), so no pair is queued a
//! second time, and pairs have a total order. Tests hold it against the definition written plainly
//! and against other processes. While training, the library uses a pool of threads.

use crate::{
    corpus::{Corpus, Pair},
    normalise::normalise,
};
use protocol::{
    encoded::{Encoded, EncodedError},
    receipt::Salt,
};
use serde_json::{Value, json};
use tokenizers::{AddedToken, models::TrainerWrapper, models::bpe::BpeTrainer};

/// Id of the piece for what has no other; never given for a text.
pub const UNKNOWN: u32 = 0;
/// Id of the mark before a target sentence.
pub const START: u32 = 1;
/// Id of the mark after a sentence.
pub const END: u32 = 2;
/// The special pieces, by id.
pub const SPECIAL: [&str; 3] = ["<|unknown|>", "<|start|>", "<|end|>"];
/// Pieces of a joint vocabulary by default.
pub const DEFAULT_VOCABULARY: u32 = 4_000;
/// The smallest vocabulary: the special pieces and all bytes.
pub const MIN_VOCABULARY: u32 = 3 + 256;
/// The largest vocabulary: 65,536 ids fit two bytes each.
pub const MAX_VOCABULARY: u32 = 1 << 16;
/// The longest JSON file read, in bytes; one of 65,536 pieces has about 5 MB.
pub const MAX_JSON_LEN: usize = 16 << 20;

/// A pair seen once is no pattern: merging it would spend a piece on one word.
const LEAST_FREQUENT: u64 = 2;

/// A word, as text is split before merging: no piece reaches across two.
pub const WORD: &str = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+";

/// Two pieces that become one.
type Merge = (String, String);

/// Splits text into pieces and joins them again.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocabulary: u32,
}

/// Why there is no tokenizer, or a text could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The vocabulary asked for is too small or too large.
    #[error(
        "a vocabulary of {0} pieces cannot be made: {MIN_VOCABULARY} (all bytes and the special pieces) to {MAX_VOCABULARY} can"
    )]
    Vocabulary(u32),
    /// The text has too few different words for so many pieces.
    #[error(
        "the corpus has words for {found} pieces only, {wanted} were asked for: ask for fewer or bring a larger corpus"
    )]
    TooLittleText {
        /// Pieces that could be learnt.
        found: u32,
        /// Pieces asked for.
        wanted: u32,
    },
    /// A file that is not JSON, or not a tokenizer's.
    #[error("not a tokenizer's JSON file: {0}")]
    Json(String),
    /// A tokenizer with other rules than those that this crate makes, or written otherwise.
    #[error(
        "the tokenizer is not as aliaOS writes one: only its own are taken, since another's may split or decode differently"
    )]
    Foreign,
    /// The ids make no encoded corpus.
    #[error(transparent)]
    Encoded(#[from] EncodedError),
    /// The library refused.
    #[error("the tokenizer failed: {0}")]
    Library(String),
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}

impl Tokenizer {
    /// Learns a vocabulary of exactly `vocabulary` pieces from texts: of a corpus, both sides of
    /// its training part.
    ///
    /// The same texts, in any order, give the same tokenizer to the byte.
    pub fn train<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        vocabulary: u32,
    ) -> Result<Self, TokenizerError> {
        if !(MIN_VOCABULARY..=MAX_VOCABULARY).contains(&vocabulary) {
            return Err(TokenizerError::Vocabulary(vocabulary));
        }
        let mut inner = Self::build(&byte_pieces(), &[])?.inner;
        let special = SPECIAL.map(|piece| AddedToken::from(piece, true));
        let bytes = byte_pieces().into_iter().skip(SPECIAL.len());
        let trainer = BpeTrainer::builder()
            .vocab_size(vocabulary as usize)
            .min_frequency(LEAST_FREQUENT)
            .special_tokens(special.to_vec())
            .initial_alphabet(bytes.filter_map(|piece| piece.chars().next()).collect())
            .show_progress(false)
            .build();
        inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(library)?;
        let found = inner.get_vocab_size(true) as u32;
        if found < vocabulary {
            return Err(TokenizerError::TooLittleText { found, wanted: vocabulary });
        }
        Ok(Self { inner, vocabulary })
    }

    /// Reads the JSON that [`Tokenizer::to_json`] gives.
    ///
    /// Nothing else is taken, not even other spacing: another's tokenizer may split differently or
    /// hold an expression that takes for ever, and one tokenizer has one digest this way.
    pub fn from_json(text: &str) -> Result<Self, TokenizerError> {
        if text.len() > MAX_JSON_LEN {
            return Err(TokenizerError::Json(format!("{} bytes are too many", text.len())));
        }
        let given: Value =
            serde_json::from_str(text).map_err(|error| TokenizerError::Json(error.to_string()))?;
        let (pieces, merges) = vocabulary_of(&given)?;
        let tokenizer = Self::build(&pieces, &merges)?;
        if tokenizer.to_json()? != text {
            return Err(TokenizerError::Foreign);
        }
        Ok(tokenizer)
    }

    /// The tokenizer's JSON file, as HuggingFace's `tokenizers` reads it; always the same bytes.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(false).map_err(library)
    }

    /// Pieces in the vocabulary, special ones included: ids are below this.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// The ids of a text's pieces, without start or end mark. An empty text has none.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, false).map_err(library)?.get_ids().to_vec())
    }

    /// Every pair of a corpus, in the corpus's order.
    pub fn encode_corpus(&self, corpus: &Corpus) -> Result<Encoded, TokenizerError> {
        let encode = |pair: &Pair| Ok((self.encode(&pair.source)?, self.encode(&pair.target)?));
        let pairs: Result<Vec<_>, TokenizerError> = corpus.pairs().iter().map(encode).collect();
        Ok(Encoded::pairs(self.vocabulary, &pairs?)?)
    }

    /// Sentences to translate, in their order, normalised as what was trained on.
    ///
    /// One without any text is an error: whoever brings a document keeps its empty lines back.
    pub fn encode_sentences<T: AsRef<str>>(
        &self,
        sentences: &[T],
        salt: Salt,
    ) -> Result<Encoded, TokenizerError> {
        let encode = |text: &T| self.encode(&normalise(text.as_ref()));
        let sentences: Result<Vec<_>, TokenizerError> = sentences.iter().map(encode).collect();
        Ok(Encoded::sentences(self.vocabulary, salt, &sentences?)?)
    }

    /// The text of ids. Special and unknown ids give nothing; bytes that are not UTF-8 (a model may
    /// put any after any) give U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let ids: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| (SPECIAL.len() as u32..self.vocabulary).contains(id))
            .collect();
        self.inner.decode(&ids, true).map_err(library)
    }

    /// The piece of an id as the file writes it, where `Ġ` stands for a space; for people.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    fn build(pieces: &[String], merges: &[Merge]) -> Result<Self, TokenizerError> {
        let mut inner: tokenizers::Tokenizer =
            document(pieces, merges).to_string().parse().map_err(library)?;
        inner.set_encode_special_tokens(true);
        Ok(Self { inner, vocabulary: pieces.len() as u32 })
    }
}

/// The special pieces, then a printable character for each byte: as GPT-2 and every byte-level
/// BPE since write them. Bytes that Latin-1 prints are themselves; the rest count up from U+0100.
fn byte_pieces() -> Vec<String> {
    let prints = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let printed = (0..=255).filter(prints).map(char::from);
    let others = (0..=255u8).filter(|byte| !prints(byte));
    let replaced = others.zip('\u{100}'..).map(|(_, c)| c);
    let bytes = printed.chain(replaced).map(String::from);
    SPECIAL.into_iter().map(String::from).chain(bytes).collect()
}

/// The whole file for these pieces and rules.
fn document(pieces: &[String], merges: &[Merge]) -> Value {
    let special = |(id, content): (usize, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    let vocabulary: serde_json::Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(special).collect::<Vec<_>>(),
        "normalizer": { "type": "Prepend", "prepend": " " },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": WORD }, "behavior": "Isolated", "invert": false },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
            ],
        },
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": SPECIAL[0],
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges.iter().map(|(left, right)| json!([left, right])).collect::<Vec<_>>(),
        },
    })
}

/// Pieces by id and merge rules of a file, checked as far as building needs.
fn vocabulary_of(file: &Value) -> Result<(Vec<String>, Vec<Merge>), TokenizerError> {
    let wrong = |what: &str| TokenizerError::Json(what.to_owned());
    let given = file["model"]["vocab"].as_object().ok_or(wrong("it has no vocabulary"))?;
    let count = given.len();
    if !(MIN_VOCABULARY as usize..=MAX_VOCABULARY as usize).contains(&count) {
        return Err(wrong(&format!("its vocabulary has {count} pieces")));
    }
    let mut pieces = vec![String::new(); count];
    for (piece, id) in given {
        let slot = id.as_u64().and_then(|id| pieces.get_mut(usize::try_from(id).ok()?));
        let slot = slot.ok_or(wrong("its ids do not run from 0 without a gap"))?;
        slot.clone_from(piece);
    }
    if pieces.iter().any(String::is_empty) {
        return Err(wrong("two of its pieces have one id"));
    }
    if pieces[..MIN_VOCABULARY as usize] != byte_pieces() {
        return Err(TokenizerError::Foreign);
    }
    let rules = file["model"]["merges"].as_array().ok_or(wrong("it has no merges"))?;
    let rule = |rule: &Value| match rule.as_array().map(Vec::as_slice) {
        Some([Value::String(left), Value::String(right)]) => Some((left.clone(), right.clone())),
        _ => None,
    };
    let merges = rules.iter().map(rule).collect::<Option<Vec<_>>>();
    let merges = merges.ok_or(wrong("a merge is not a pair of pieces"))?;
    let known = |(left, right): &Merge| {
        [left, right, &format!("{left}{right}")].into_iter().all(|piece| given.contains_key(piece))
    };
    if !merges.iter().all(known) {
        return Err(wrong("a merge makes a piece that it does not have"));
    }
    Ok((pieces, merges))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar;
    use proptest::prelude::*;
    use std::{cmp::Reverse, collections::HashMap, sync::LazyLock};

    /// Of a thousand generated pairs.
    static SMALL: LazyLock<Tokenizer> = LazyLock::new(|| small(400).unwrap());

    fn small(vocabulary: u32) -> Result<Tokenizer, TokenizerError> {
        let corpus = grammar::corpus(1, 1_000);
        let texts = corpus.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]);
        Tokenizer::train(texts, vocabulary)
    }

    #[test]
    fn special_pieces_and_bytes_have_the_ids_they_are_said_to_have() {
        for (id, piece) in SPECIAL.into_iter().enumerate() {
            assert_eq!(SMALL.piece(id as u32).as_deref(), Some(piece));
        }
        assert_eq!((UNKNOWN, START, END), (0, 1, 2));
        assert_eq!(SMALL.piece(3).as_deref(), Some("!"));
        assert_eq!(SMALL.vocabulary(), 400);
        assert_eq!(SMALL.piece(400), None);
    }

    #[test]
    fn a_word_is_the_same_pieces_at_the_start_as_within() {
        let alone = SMALL.encode("house").unwrap();
        let within = SMALL.encode("the house").unwrap();
        assert!(within.ends_with(&alone), "{alone:?} {within:?}");
        assert!(SMALL.encode("").unwrap().is_empty());
    }

    #[test]
    fn text_that_looks_special_is_text() {
        let text = SPECIAL.join(" ") + "<|end|>";
        let ids = SMALL.encode(&text).unwrap();
        assert!(ids.iter().all(|id| *id > END), "{ids:?}");
        assert_eq!(SMALL.decode(&ids).unwrap(), text);
    }

    #[test]
    fn ids_that_no_text_has_decode_to_nothing_or_a_replacement() {
        let house = SMALL.encode("house").unwrap();
        let marked = [&[START], &house[..], &[END, UNKNOWN, 400, u32::MAX]].concat();
        assert_eq!(SMALL.decode(&marked).unwrap(), "house");
        // The first of the two bytes of "ä", which stands as the character of that number.
        let byte = (3..259).find(|id| SMALL.piece(*id).as_deref() == Some("\u{c3}")).unwrap();
        assert_eq!(SMALL.decode(&[byte]).unwrap(), "\u{fffd}");
    }

    #[test]
    fn the_file_gives_the_same_tokenizer_and_bytes() {
        let json = SMALL.to_json().unwrap();
        let read = Tokenizer::from_json(&json).unwrap();
        assert_eq!(read.to_json().unwrap(), json);
        assert_eq!(read.vocabulary(), SMALL.vocabulary());
        for pair in grammar::corpus(2, 200).pairs() {
            assert_eq!(read.encode(&pair.target).unwrap(), SMALL.encode(&pair.target).unwrap());
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused() {
        let json = SMALL.to_json().unwrap();
        let altered = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}");
            Tokenizer::from_json(&json.replacen(from, to, 1))
        };
        let foreign =
            |result| assert!(matches!(result, Err(TokenizerError::Foreign)), "{result:?}");
        foreign(altered("\"Prepend\"", "\"Append\""));
        foreign(altered("Isolated", "Removed"));
        foreign(altered(r"\\p{L}", "(a+)+"));
        foreign(altered("\"dropout\":null", "\"dropout\":0.5"));
        foreign(altered("\"version\":\"1.0\"", "\"version\":\"1.0\",\"more\":1"));
        foreign(altered("<|end|>", "<|fin|>"));
        foreign(altered("{", " {"));
        let unread = |result| assert!(matches!(result, Err(TokenizerError::Json(_))), "{result:?}");
        unread(altered("\"merges\":[[", "\"merges\":[[\"nope\",\"nope\"],["));
        unread(altered("\"!\":3", "\"!\":4"));
        unread(altered("\"!\":3", "\"!\":4000000000"));
        unread(Tokenizer::from_json("{}"));
        unread(Tokenizer::from_json(&json[..json.len() / 2]));
    }

    #[test]
    fn a_vocabulary_that_cannot_be_had_is_refused() {
        assert!(matches!(small(258), Err(TokenizerError::Vocabulary(258))));
        assert_eq!(small(MIN_VOCABULARY).unwrap().vocabulary(), MIN_VOCABULARY);
        let Err(TokenizerError::TooLittleText { found, wanted: 4_000 }) = small(4_000) else {
            panic!()
        };
        assert!((400..4_000).contains(&found), "{found}");
    }

    #[test]
    fn training_is_what_byte_pair_encoding_is_defined_as() {
        // Counting anew after every merge, ties going to the smaller ids; runs of one letter are
        // where another order of merging would show.
        let texts = ["abcab bcabc cabca", "aabbcc abab caab aaaa", "bcbcb aaa aaaaa bcabc caab"];
        let trained = Tokenizer::train(texts.into_iter(), MIN_VOCABULARY + 10).unwrap();

        let mut pieces = byte_pieces();
        let mut words: Vec<Vec<String>> = texts
            .iter()
            .flat_map(|text| text.split(' '))
            .map(|word| format!("Ġ{word}").chars().map(String::from).collect())
            .collect();
        while pieces.len() < MIN_VOCABULARY as usize + 10 {
            let id = |piece: &String| pieces.iter().position(|known| known == piece).unwrap();
            let mut counts: HashMap<(usize, usize), u64> = HashMap::new();
            for two in words.iter().flat_map(|word| word.windows(2)) {
                *counts.entry((id(&two[0]), id(&two[1]))).or_default() += 1;
            }
            let best = counts.into_iter().max_by_key(|(two, count)| (*count, Reverse(*two)));
            let ((left, right), _) = best.unwrap();
            let (left, right) = (pieces[left].clone(), pieces[right].clone());
            let joined = format!("{left}{right}");
            for word in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at] == left && word[at + 1] == right {
                        word.splice(at..at + 2, [joined.clone()]);
                    }
                    at += 1;
                }
            }
            assert!(!pieces.contains(&joined), "{joined} was made a second time");
            pieces.push(joined);
        }
        let learnt: Vec<String> =
            (0..trained.vocabulary()).map(|id| trained.piece(id).unwrap()).collect();
        assert_eq!(learnt, pieces);
    }

    proptest! {
        #[test]
        fn decoding_gives_any_text_back(text in any::<String>()) {
            let ids = SMALL.encode(&text).unwrap();
            prop_assert!(ids.iter().all(|id| (3..400).contains(id)));
            prop_assert_eq!(SMALL.decode(&ids).unwrap(), text);
        }

        #[test]
        fn any_ids_decode_and_any_json_is_answered(
            ids in prop::collection::vec(any::<u32>(), 0..40),
            json in "[\\[\\]{}\",:a-z0-9 ]{0,60}",
        ) {
            SMALL.decode(&ids).unwrap();
            prop_assert!(Tokenizer::from_json(&json).is_err());
        }
    }
}
