//! How any text is cleaned before it is trained on, encoded or translated.

use unicode_normalization::UnicodeNormalization;

/// `text` on one line in Unicode's composed form (NFC).
///
/// - every run of whitespace (line ends, tabs, no-break and thin spaces too) becomes one space,
///   and none is left at either end: a pair is one line of a TSV file, and a model that small
///   should not spend parameters on the width of a space;
/// - control characters, soft hyphens, zero-width spaces and byte-order marks go: nobody sees
///   them. Joiners and direction marks stay, since scripts need them.
///
/// Applying it twice changes nothing more.
pub fn normalise(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            if !kept.is_empty() && !kept.ends_with(' ') {
                kept.push(' ');
            }
        } else if !is_invisible(c) {
            kept.push(c);
        }
    }
    if kept.ends_with(' ') {
        kept.pop();
    }
    if kept.is_ascii() { kept } else { kept.nfc().collect() }
}

fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{ad}' | '\u{200b}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::normalise;
    use proptest::prelude::*;

    #[test]
    fn whitespace_is_folded_and_what_nobody_sees_goes() {
        assert_eq!(normalise("  a\n\tb\u{a0}:\u{2009} c\r\n"), "a b : c");
        assert_eq!(normalise("so\u{ad}ft\u{7}\u{feff}"), "soft");
        assert_eq!(normalise("e\u{301}"), "é");
        assert_eq!(normalise(" \t\n"), "");
    }

    proptest! {
        #[test]
        fn twice_is_as_once(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once.clone());
            prop_assert!(!once.contains(['\t', '\n', '\r']));
        }
    }
}
