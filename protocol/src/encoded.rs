//! Corpora and documents as token ids: the bytes that work is done on, named by their digest.
//!
//! | field | bytes | |
//! |---|---|---|
//! | magic | 8 | `ALIAIDS1`, the format's name and version |
//! | kind | 1 | 0: pairs to train on; 1: sentences to translate |
//! | salt | 32 | kind 1 only: digests of this file go on the ledger, and without a salt anyone could guess a text and check |
//! | vocabulary | 4 | every id is below it |
//! | sentences | 4 | n: how many pairs or sentences |
//! | ends | 4 * columns * n | where each column's ids end, counted in ids from the first; 2 columns (source, target) or 1 |
//! | ids | 2 or 4 each | 2 bytes where the vocabulary is at most 65,536 |
//!
//! Integers are little-endian. Ends never fall, no column of a sentence is empty, and nothing
//! follows, so that one value has one form. No start or end marks: `job` adds them. Sentence i is
//! read at its place; the others stay bytes.

use crate::{digest::Digest, receipt::Salt};

const MAGIC: &[u8; 8] = b"ALIAIDS1";

/// The most sentences: 16 million, ten times the largest corpora of one language pair that are
/// trained on here.
pub const MAX_SENTENCES: usize = 1 << 24;
/// The most ids: 256 million, so that a file stays at or below 1 GiB.
pub const MAX_IDS: usize = 1 << 28;

/// An encoded corpus or document.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    bytes: Vec<u8>,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    salt: Option<Salt>,
    vocabulary: u32,
    sentences: usize,
    /// Where the table of ends begins.
    ends: usize,
    /// Where the ids begin.
    ids: usize,
}

/// Why there is no encoded corpus.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodedError {
    /// Not this format.
    #[error("not an encoded corpus: it does not begin with ALIAIDS1 and a known kind")]
    NotEncoded,
    /// Shorter or longer than its own table says.
    #[error("the encoded corpus has {found} bytes, its head says {wanted}: fetch or make it anew")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        wanted: usize,
    },
    /// More than [`MAX_SENTENCES`] or [`MAX_IDS`].
    #[error(
        "the corpus has {sentences} sentences and {ids} pieces or more; at most {MAX_SENTENCES} and {MAX_IDS} are taken: take a part of it"
    )]
    TooLarge {
        /// Sentences.
        sentences: usize,
        /// Ids, as far as counted.
        ids: usize,
    },
    /// A sentence without ids on one side, or a table that falls.
    #[error("sentence {0} of the encoded corpus is empty on one side: leave it out")]
    Empty(usize),
    /// An id outside the vocabulary.
    #[error(
        "sentence {sentence} has id {id}, the vocabulary ends at {vocabulary}: encode it with the job's own tokenizer"
    )]
    Id {
        /// The sentence, from 0.
        sentence: usize,
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: u32,
    },
}

impl Encoded {
    /// Sentence pairs to train on: ids of source and target, without marks.
    pub fn pairs(vocabulary: u32, pairs: &[(Vec<u32>, Vec<u32>)]) -> Result<Self, EncodedError> {
        let columns: Vec<&[u32]> =
            pairs.iter().flat_map(|(source, target)| [&source[..], &target[..]]).collect();
        Self::from_columns(None, vocabulary, &columns)
    }

    /// Sentences to translate, without marks. The salt is random and secret until it is shown.
    pub fn sentences(
        vocabulary: u32,
        salt: Salt,
        sentences: &[Vec<u32>],
    ) -> Result<Self, EncodedError> {
        let columns: Vec<&[u32]> = sentences.iter().map(Vec::as_slice).collect();
        Self::from_columns(Some(salt), vocabulary, &columns)
    }

    fn from_columns(
        salt: Option<Salt>,
        vocabulary: u32,
        columns: &[&[u32]],
    ) -> Result<Self, EncodedError> {
        let per_sentence = if salt.is_some() { 1 } else { 2 };
        let sentences = columns.len() / per_sentence;
        let ids: usize = columns.iter().map(|column| column.len()).sum();
        if sentences > MAX_SENTENCES || ids > MAX_IDS {
            return Err(EncodedError::TooLarge { sentences, ids });
        }
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(salt.is_some()));
        if let Some(Salt(digest)) = salt {
            bytes.extend(digest.0);
        }
        bytes.extend(vocabulary.to_le_bytes());
        // Within the bounds above, and so within 32 bits.
        bytes.extend((sentences as u32).to_le_bytes());
        let mut end = 0;
        for column in columns {
            end += column.len();
            bytes.extend((end as u32).to_le_bytes());
        }
        let width = width(vocabulary);
        for id in columns.iter().flat_map(|column| column.iter()) {
            if *id >= vocabulary {
                // Found again, with its sentence, below.
                return Err(first_wrong_id(columns, per_sentence, vocabulary, *id));
            }
            bytes.extend_from_slice(&id.to_le_bytes()[..width]);
        }
        Self::from_bytes(bytes)
    }

    /// Reads and checks a file: afterwards every sentence can be read.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, EncodedError> {
        let layout = Layout::read(&bytes)?;
        let encoded = Self { bytes, layout };
        let columns = layout.columns();
        let mut before = 0;
        for column in 0..layout.sentences * columns {
            let end = encoded.end(column);
            if end <= before {
                return Err(EncodedError::Empty(column / columns));
            }
            before = end;
        }
        let wanted = layout.ids + before * width(layout.vocabulary);
        let found = encoded.bytes.len();
        if found != wanted {
            return Err(EncodedError::Length { found, wanted });
        }
        for sentence in 0..layout.sentences {
            for column in sentence * columns..(sentence + 1) * columns {
                let vocabulary = layout.vocabulary;
                if let Some(id) = encoded.column(column).into_iter().find(|id| *id >= vocabulary) {
                    return Err(EncodedError::Id { sentence, id, vocabulary });
                }
            }
        }
        Ok(encoded)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The content address of the file.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&self.bytes)
    }

    /// How many pairs or sentences.
    pub fn len(&self) -> usize {
        self.layout.sentences
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layout.sentences == 0
    }

    /// Every id is below this.
    pub fn vocabulary(&self) -> u32 {
        self.layout.vocabulary
    }

    /// The salt of sentences to translate; none for pairs.
    pub fn salt(&self) -> Option<Salt> {
        self.layout.salt
    }

    /// Whether these are pairs to train on.
    pub fn is_pairs(&self) -> bool {
        self.layout.columns() == 2
    }

    /// How many ids source and target of a sentence have, read off the table; 0 for the target of
    /// sentences to translate. None beyond the last sentence.
    pub fn lengths(&self, sentence: usize) -> Option<(u32, u32)> {
        let len = |column| (self.end(column) - self.start(column)) as u32;
        (sentence < self.len()).then(|| match self.layout.columns() {
            1 => (len(sentence), 0),
            _ => (len(2 * sentence), len(2 * sentence + 1)),
        })
    }

    /// The ids of a sentence's source. None beyond the last sentence.
    pub fn source(&self, sentence: usize) -> Option<Vec<u32>> {
        (sentence < self.len()).then(|| self.column(self.layout.columns() * sentence))
    }

    /// The ids of a sentence's target. None beyond the last sentence and for sentences to
    /// translate.
    pub fn target(&self, sentence: usize) -> Option<Vec<u32>> {
        (self.is_pairs() && sentence < self.len()).then(|| self.column(2 * sentence + 1))
    }

    /// Where a column ends, in ids. Of a column that there is.
    fn end(&self, column: usize) -> usize {
        read_u32(&self.bytes[self.layout.ends + 4 * column..]) as usize
    }

    fn start(&self, column: usize) -> usize {
        if column == 0 { 0 } else { self.end(column - 1) }
    }

    fn column(&self, column: usize) -> Vec<u32> {
        let width = width(self.layout.vocabulary);
        let from = self.layout.ids + self.start(column) * width;
        let to = self.layout.ids + self.end(column) * width;
        self.bytes[from..to].chunks_exact(width).map(read_u32).collect()
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({} bytes, {:?})", self.bytes.len(), self.layout)
    }
}

impl Layout {
    fn columns(&self) -> usize {
        if self.salt.is_some() { 1 } else { 2 }
    }

    /// Reads the head, and checks that the table of ends is there.
    fn read(bytes: &[u8]) -> Result<Self, EncodedError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(EncodedError::NotEncoded)?;
        let (salt, rest) = match rest {
            [0, rest @ ..] => (None, rest),
            [1, rest @ ..] => {
                let (salt, rest) = rest.split_first_chunk().ok_or(EncodedError::NotEncoded)?;
                (Some(Salt(Digest(*salt))), rest)
            }
            _ => return Err(EncodedError::NotEncoded),
        };
        let (head, rest) = rest.split_first_chunk::<8>().ok_or(EncodedError::NotEncoded)?;
        let (vocabulary, sentences) = (read_u32(&head[..4]), read_u32(&head[4..]) as usize);
        if sentences > MAX_SENTENCES {
            return Err(EncodedError::TooLarge { sentences, ids: 0 });
        }
        let ends = bytes.len() - rest.len();
        let mut layout = Self { salt, vocabulary, sentences, ends, ids: ends };
        layout.ids += 4 * sentences * layout.columns();
        if bytes.len() < layout.ids {
            return Err(EncodedError::Length { found: bytes.len(), wanted: layout.ids });
        }
        Ok(layout)
    }
}

/// Bytes of an id.
fn width(vocabulary: u32) -> usize {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}

/// The first two or four bytes as a number.
fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn first_wrong_id(
    columns: &[&[u32]],
    per_sentence: usize,
    vocabulary: u32,
    id: u32,
) -> EncodedError {
    let column = columns.iter().position(|column| column.contains(&id)).unwrap_or_default();
    EncodedError::Id { sentence: column / per_sentence, id, vocabulary }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn salt() -> Salt {
        Salt(Digest::of_bytes(b"salt"))
    }

    fn sample() -> Encoded {
        Encoded::pairs(300, &[(vec![3, 4], vec![299]), (vec![5], vec![6, 7, 8])]).unwrap()
    }

    #[test]
    fn the_bytes_of_a_small_corpus_are_these() {
        let bytes = sample().to_bytes().to_vec();
        let mut wanted = b"ALIAIDS1\0".to_vec();
        for word in [300u32, 2, 2, 3, 4, 7] {
            wanted.extend(word.to_le_bytes());
        }
        for id in [3u16, 4, 299, 5, 6, 7, 8] {
            wanted.extend(id.to_le_bytes());
        }
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn any_sentence_is_read_at_its_place() {
        let corpus = sample();
        assert_eq!((corpus.source(1), corpus.target(1)), (Some(vec![5]), Some(vec![6, 7, 8])));
        assert_eq!((corpus.source(0), corpus.target(0)), (Some(vec![3, 4]), Some(vec![299])));
        assert_eq!((corpus.lengths(0), corpus.lengths(2)), (Some((2, 1)), None));
        assert_eq!((corpus.source(2), corpus.target(2)), (None, None));

        let wide = Encoded::sentences(1 << 20, salt(), &[vec![1 << 19], vec![1, 2]]).unwrap();
        assert_eq!((wide.source(0), wide.target(0)), (Some(vec![1 << 19]), None));
        assert_eq!((wide.lengths(1), wide.salt()), (Some((2, 0)), Some(salt())));
    }

    #[test]
    fn equal_texts_with_other_salts_have_other_digests() {
        let text = [vec![3, 4, 5]];
        let other = Salt(Digest::of_bytes(b"other"));
        assert_ne!(
            Encoded::sentences(300, salt(), &text).unwrap().digest(),
            Encoded::sentences(300, other, &text).unwrap().digest()
        );
    }

    #[test]
    fn what_cannot_be_worked_on_is_refused_with_its_sentence() {
        let one = || vec![1];
        assert_eq!(
            Encoded::pairs(300, &[(one(), one()), (one(), vec![])]),
            Err(EncodedError::Empty(1))
        );
        assert_eq!(
            Encoded::pairs(300, &[(one(), one()), (one(), vec![2, 300])]),
            Err(EncodedError::Id { sentence: 1, id: 300, vocabulary: 300 })
        );
        let good = sample().to_bytes().to_vec();
        let read = |bytes: &[u8]| Encoded::from_bytes(bytes.to_vec());
        assert_eq!(read(b"safetensors"), Err(EncodedError::NotEncoded));
        assert_eq!(
            read(&good[..good.len() - 1]),
            Err(EncodedError::Length { found: 46, wanted: 47 })
        );
        let longer = [&good[..], b"x"].concat();
        assert_eq!(read(&longer), Err(EncodedError::Length { found: 48, wanted: 47 }));
        let mut many = good.clone();
        many[13..17].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&many), Err(EncodedError::TooLarge { .. })));
        let mut id = good.clone();
        let last = id.len() - 1;
        id[last] = 0xff;
        assert!(matches!(read(&id), Err(EncodedError::Id { sentence: 1, .. })));
        let mut falls = good;
        falls[17] = 9;
        assert_eq!(read(&falls), Err(EncodedError::Empty(0)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pairs in prop::collection::vec(
                (prop::collection::vec(0u32..70_000, 1..9), prop::collection::vec(0u32..70_000, 1..9)),
                0..9,
            ),
            vocabulary in prop::sample::select(vec![300u32, 1 << 16, 70_000]),
        ) {
            let cut = |ids: Vec<u32>| ids.into_iter().map(|id| id % vocabulary).collect::<Vec<_>>();
            let pairs: Vec<_> = pairs.into_iter().map(|(s, t)| (cut(s), cut(t))).collect();
            let encoded = Encoded::pairs(vocabulary, &pairs).unwrap();
            let read = Encoded::from_bytes(encoded.to_bytes().to_vec()).unwrap();
            prop_assert_eq!(read.len(), pairs.len());
            for (at, (source, target)) in pairs.into_iter().enumerate() {
                prop_assert_eq!(read.lengths(at).unwrap(), (source.len() as u32, target.len() as u32));
                prop_assert_eq!((read.source(at).unwrap(), read.target(at).unwrap()), (source, target));
            }
        }

        #[test]
        fn damaged_bytes_never_panic(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = sample().to_bytes().to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = Encoded::from_bytes(bytes.clone());
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Ok(read) = Encoded::from_bytes(bytes) {
                for at in 0..read.len() {
                    prop_assert!(read.source(at).is_some());
                }
            }
        }
    }
}
