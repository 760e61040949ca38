//! Translated messages from GNU gettext's binary catalogues (`.mo`).
//!
//! [`parse`] reads a catalogue; [`pairs`] makes sentence pairs of its messages. What is done to a
//! message, and why:
//!
//! | in a message | treatment |
//! |---|---|
//! | the header, messages without a translation, credits (`translator-credits` and the like: names and addresses of people) | left out |
//! | context (`msgctxt`) | taken off; one text with two translations in two contexts gives two pairs |
//! | plural forms | the singular pairs with the form for 1, the plural with the form that most numbers from 2 to 100 take, by the catalogue's own `Plural-Forms` rule; other forms are left out. Without a rule that can be read, messages with a plural are left out |
//! | keyboard accelerators (`_File`, `&Datei`, `ファイル(_F)`, `E_xit`) | taken off, in catalogues that use that mark: see below. `__` and `&&` in a text with an accelerator become one character |
//! | format placeholders (`%s`, `%1$s`, `%(name)s`, `%.*s`, `{0}`, `%1`, `%n`, `$(NAME)`) | stay: a translation carries them over. A message of nothing but placeholders, markup, digits and signs is left out |
//! | markup tags, entities | stay, like placeholders |
//! | trailing colon, ellipsis, full stop | stay: they differ from language to language and the model should learn that |
//! | several paragraphs (parted by empty lines) | one pair a paragraph where both sides have equally many, else one pair of the whole |
//! | other line ends, tabs, spaces at the ends, runs of spaces | folded by [`crate::normalise`] |
//! | a translation equal to its source (`OpenGL`) | stays: such texts are to be copied; the split reports how many there are |
//!
//! **Accelerators.** `_` and `&` are also ordinary characters (`GIT_DIR`, `R&D`), and a catalogue
//! does not say whether it marks accelerators. But in one that does, the mark sits at different
//! words in source and translation (`_Save` / `_Speichern`), and an identifier stands unchanged
//! in both. So a catalogue uses a mark when at least one message in 200, and at least eight,
//! have it exactly once on both sides at differing words. (Measured on the default catalogues in
//! German, French, Japanese and Turkish: of those that mark accelerators the least has one in
//! 150, of those that do not the most has one in 430, other than tiny ones.) In such a catalogue
//! a text's only mark before a letter or digit is taken off, except inside a word that stands
//! unchanged on the other side (`Addis_Ababa`).
//!
//! Messages for which a C library fills in its own constants (`%<PRIu64>`, minor revision 1's
//! second table) are not read: their text is not whole in the file.

mod accelerator;
mod mo;
mod pairs;
mod plural;

pub use mo::{Catalogue, CatalogueError, MAX_CATALOGUE_LEN, Message, parse};
pub use pairs::{Extracted, LeftOut, pairs};
pub use plural::{PluralRule, PluralRuleError};

#[cfg(test)]
pub(crate) use mo::tests::file as test_file;
