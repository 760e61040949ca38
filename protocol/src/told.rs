//! What people are told: errors with their causes, and others' words made harmless.

use std::error::Error;

/// Whether a character can do nothing to the terminal or page that shows it: no control character,
/// and none that turns the direction of the text around it (Unicode's annex 9).
pub fn is_plain(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    // The separators end a line for some.
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// A text of somebody else's, on one line, with U+FFFD for each character that is not
/// [`is_plain`].
pub fn plain(text: &str) -> String {
    text.trim().chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect()
}

/// As [`plain`], line by line.
pub fn plain_lines(text: &str) -> String {
    let harmless = |c: char| c == '\n' || c == '\t' || is_plain(c);
    text.chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// An error and its causes on one line. A cause that the line says already is not said again.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("reading: {0}; try again")]
        Says(#[source] io::Error),
        #[error("reading")]
        Hides(#[source] io::Error),
    }

    #[test]
    fn what_moves_a_cursor_or_turns_text_is_shown_and_not_done() {
        let text = " a\u{1b}[2J\u{202e}b\nc\u{7}\u{9b}é – 日本 \n";
        assert_eq!(plain(text), "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}é – 日本");
        assert_eq!(plain_lines("a\r\n\tb"), "a\u{fffd}\n\tb");
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || io::Error::other("no room");
        assert_eq!(told(&Failed::Says(cause())), "reading: no room; try again");
        assert_eq!(told(&Failed::Hides(cause())), "reading: no room");
    }
}
