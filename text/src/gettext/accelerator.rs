//! Keyboard accelerators: the mark before the letter that Alt reaches. The module above says what
//! is done and why.

use crate::placeholder::entity;

/// Of so many messages one must show the mark as an accelerator.
const ONE_IN: usize = 200;
/// And so many at least, lest three odd messages decide for a tiny catalogue.
const AT_LEAST: usize = 8;

/// What marks an accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// GTK's.
    Underscore,
    /// Qt's and Windows'.
    Ampersand,
}

impl Mark {
    fn char(self) -> char {
        match self {
            Self::Underscore => '_',
            Self::Ampersand => '&',
        }
    }

    fn is_in_word(self, c: char) -> bool {
        c.is_alphanumeric() || c == self.char()
    }
}

/// The marks that a catalogue of these messages uses.
pub(super) fn marks_of<'a>(
    messages: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<Mark> {
    let count = messages.clone().count();
    let uses = |mark: &Mark| {
        let shown =
            messages.clone().filter(|(source, target)| shows(source, target, *mark)).count();
        shown >= AT_LEAST && shown * ONE_IN >= count
    };
    [Mark::Underscore, Mark::Ampersand].into_iter().filter(uses).collect()
}

/// Whether the mark stands once on both sides, at differing words.
fn shows(source: &str, target: &str, mark: Mark) -> bool {
    match (find(source, mark), find(target, mark)) {
        (Some(s), Some(t)) => word_at(source, s, mark) != word_at(target, t, mark),
        _ => false,
    }
}

/// `text` without its accelerator; `other` is the same message on the other side.
pub(super) fn take_off(text: &str, other: &str, mark: Mark) -> String {
    let Some(at) = find(text, mark) else { return text.to_owned() };
    let word = word_at(text, at, mark);
    let mut others = other.split(|c| !mark.is_in_word(c));
    if !word.starts_with(mark.char()) && others.any(|other| other == word) {
        return text.to_owned();
    }
    let (before, after) = (&text[..at], &text[at + 1..]);
    let double: String = [mark.char(); 2].iter().collect();
    let joined = match in_parentheses(before, after) {
        Some((before, after)) => format!("{before}{after}"),
        None => format!("{before}{after}"),
    };
    joined.replace(&double, &mark.char().to_string())
}

/// Around an accelerator of its own in parentheses, as scripts without letters on the keyboard
/// have it (`ファイル(_F)...`): what stands before and after them.
fn in_parentheses<'a>(before: &'a str, after: &'a str) -> Option<(&'a str, &'a str)> {
    let before = before.strip_suffix('(')?.trim_end();
    let mut chars = after.chars();
    let letter = chars.next()?;
    let after = chars.as_str().strip_prefix(')')?;
    (letter.is_alphanumeric() && !before.is_empty()).then_some((before, after))
}

/// Where the only mark before a letter or digit stands; none where there are several.
fn find(text: &str, mark: Mark) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut found = None;
    for (at, _) in text.match_indices(mark.char()) {
        let doubled = at > 0 && bytes[at - 1] == bytes[at];
        let marks = text[at + 1..].chars().next().is_some_and(char::is_alphanumeric);
        let is_entity = mark == Mark::Ampersand && entity(&bytes[at..]).is_some();
        if marks && !doubled && !is_entity {
            if found.is_some() {
                return None;
            }
            found = Some(at);
        }
    }
    found
}

/// The word around byte `at`: letters, digits and marks.
fn word_at(text: &str, at: usize, mark: Mark) -> &str {
    let part = |c: char| mark.is_in_word(c);
    let before = text[..at].len() - text[..at].trim_end_matches(part).len();
    let after = text[at..].len() - text[at..].trim_start_matches(part).len();
    &text[at - before..at + after]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn under(text: &str, other: &str) -> String {
        take_off(text, other, Mark::Underscore)
    }

    #[test]
    fn accelerators_come_off_wherever_they_stand() {
        assert_eq!(under("_File", "_Datei"), "File");
        assert_eq!(under("E_xit", "_Beenden"), "Exit");
        assert_eq!(under("Si_gnatur:", "Si_gnature:"), "Signatur:");
        assert_eq!(under("ファイル(_F)...", "_File..."), "ファイル...");
        assert_eq!(under("Name (_N):", "_Name:"), "Name:");
        assert_eq!(under("_Use __FILE", "x"), "Use _FILE");
        assert_eq!(under("(_G)AWK", "(_G)AWK"), "(G)AWK");
        assert_eq!(take_off("&Über", "&About", Mark::Ampersand), "Über");
        assert_eq!(take_off("S&uche && Hilfe", "&Search", Mark::Ampersand), "Suche & Hilfe");
    }

    #[test]
    fn identifiers_entities_and_lone_marks_stay() {
        for text in ["Addis_Ababa", "a _ b", "__attribute__", "max_iter, min_iter", "trailing_"] {
            assert_eq!(under(text, text), text);
        }
        for text in ["R&D", "a &lt; b", "x && y", "P & O"] {
            assert_eq!(take_off(text, text, Mark::Ampersand), text);
        }
    }

    #[test]
    fn a_catalogue_of_labels_uses_the_mark_and_one_of_identifiers_does_not() {
        let labels: Vec<(String, String)> =
            (0..20).map(|i| (format!("_Save {i}"), format!("{i} _Sichern"))).collect();
        let names: Vec<(String, String)> =
            (0..20).map(|i| (format!("no GIT_DIR {i}"), format!("kein GIT_DIR {i}"))).collect();
        let marks = |pairs: &[(String, String)]| {
            marks_of(pairs.iter().map(|(source, target)| (source.as_str(), target.as_str())))
        };
        assert_eq!(marks(&labels), [Mark::Underscore]);
        assert_eq!(marks(&names), []);
        assert_eq!(marks(&labels[..7]), []);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-cäß_&();. ]{0,20}", other in "[a-cäß_&();. ]{0,20}") {
            for mark in [Mark::Underscore, Mark::Ampersand] {
                take_off(&text, &other, mark);
                shows(&text, &other, mark);
            }
        }
    }
}
