//! Text of strangers, made fit for a terminal and for one line.

/// The longest name or file name of a stranger's that is shown, in characters.
const MAX_SHOWN: usize = 80;

/// What these bytes say: without the zeros that end it, control characters escaped, cut off where
/// it is long.
pub(super) fn shown(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut shown: String =
        text.trim().chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// As [`shown`]; none where nothing is left.
pub(super) fn said(bytes: &[u8]) -> Option<String> {
    Some(shown(bytes)).filter(|text| !text.is_empty())
}

/// "a", "a and b", "a, b and c".
pub(super) fn list<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Breaks a text into lines of at most `width` characters where its words allow, each with
/// `indent` before it but the first.
pub(super) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let room = width.saturating_sub(indent.chars().count());
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join(&format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_does_nothing_to_a_terminal() {
        assert_eq!(shown(b"\x1b[2Jboot\n\0\0"), "\\u{1b}[2Jboot");
        assert_eq!(shown(&[b'x'; 300]).chars().count(), MAX_SHOWN + 1);
        assert_eq!((said(b"\0\0"), said(b"a\0")), (None, Some("a".into())));
    }

    #[test]
    fn lists_and_lines_are_plain_english() {
        assert_eq!(list(["a"]), "a");
        assert_eq!(list([67, 69, 4011]), "67, 69 and 4011");
        assert_eq!(wrapped("one two three", "  ", 9), "one two\n  three");
        assert_eq!(wrapped("unbreakable", "  ", 4), "unbreakable");
    }
}
