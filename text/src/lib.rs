//! Text for aliaOS's translation work: bytes in, values out.
//!
//! The way of a corpus:
//!
//! ```text
//! .mo catalogues --gettext, catalogues--+
//! TSV, two parallel files --corpus::read+--> pairs --corpus::Corpus::clean--> corpus
//!   corpus --split--> training part, held-out part
//!   training part --tokenizer::Tokenizer::train--> tokenizer
//!   both --protocol::encoded::Encoded--> token ids, which is what work is done on
//!   translations, references --bleu--> a score
//! ```
//!
//! Every result depends on its input alone: not on the order of packages or lines where a set is
//! meant, not on hash seeds, threads or the time. So two people who prepare the same corpus get
//! files of the same digest.
//!
//! **Never** does I/O: no files, sockets, clocks or threads of its own; it neither fetches a
//! package nor opens one. It adds no start or end marks to a sentence: `job` does.

pub mod bleu;
pub mod catalogues;
pub mod corpus;
pub mod gettext;
pub mod grammar;
pub mod normalise;
pub mod placeholder;
pub mod split;
pub mod tokenizer;

pub use corpus::{Corpus, Pair};
pub use tokenizer::Tokenizer;
