//! What in a text is not language: format placeholders, variables, markup tags, entities.
//!
//! They stay in the text (a translation has to carry them over, and a model learns to), but two
//! sentences that differ in them alone are the same sentence when a held-out part is chosen
//! (see [`crate::split`]), and a text of nothing else has nothing to translate.

use std::ops::Range;

/// The longest tag, variable or name that is looked for, in bytes: longer ones are text.
const MAX_SPAN: usize = 200;

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stands for a value: `%s`, `%-5.2f`, `%1$s`, `%(name)s`, `%.*s`, `%1`, `%n`, `%<`, `%%`,
    /// `{0}`, `{name}`, `$(NAME)`, `${NAME}`.
    Placeholder,
    /// A markup tag: `<b>`, `</a>`, `<br/>`.
    Tag,
    /// A character reference: `&lt;`, `&#215;`.
    Entity,
}

/// The spans of `text` that are not language, in order, none overlapping.
pub fn spans(text: &str) -> Vec<(Range<usize>, Kind)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        // Every span begins and ends with an ASCII byte, so that its bounds are char boundaries.
        let rest = &bytes[at..bytes.len().min(at + MAX_SPAN)];
        let span = match bytes[at] {
            b'%' => percent(rest).map(|len| (len, Kind::Placeholder)),
            b'{' => enclosed(rest, 1, b'}').map(|len| (len, Kind::Placeholder)),
            b'$' => variable(rest).map(|len| (len, Kind::Placeholder)),
            b'<' => tag(rest).map(|len| (len, Kind::Tag)),
            b'&' => entity(rest).map(|len| (len, Kind::Entity)),
            _ => None,
        };
        match span {
            Some((len, kind)) => {
                found.push((at..at + len, kind));
                at += len;
            }
            None => at += 1,
        }
    }
    found
}

/// The length of the entity that `bytes` begin with: `&lt;`, `&#215;`, `&#xa0;`.
pub(crate) fn entity(bytes: &[u8]) -> Option<usize> {
    let name = bytes.get(1..)?;
    let len = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'#').count();
    // No entity has a name of one letter, and "R&D; more" is text.
    (len > 1 && name.get(len) == Some(&b';')).then_some(len + 2)
}

/// A conversion of C's `printf` (with positions), Python, Qt, strftime, or GCC's diagnostics.
///
/// The flag "space" is left out on purpose: "50 % sure" has no conversion in it.
fn percent(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    if bytes.get(at) == Some(&b'(') {
        at = enclosed(bytes, at + 1, b')')?;
    }
    let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let flags =
        bytes[at..].iter().take_while(|b| b.is_ascii_digit() || b"-+#0'*.$".contains(b)).count();
    match bytes.get(at + flags) {
        // `%q` quotes the conversion that follows it: `%qs`, `%q+D`.
        Some(b'q' | b'l' | b'h' | b'z' | b'L') => {
            let mut end = at + flags + 1;
            end += bytes[end..].iter().take_while(|b| b"lhzj+#".contains(b)).count();
            let more = bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
            Some(if more { end + 1 } else { end })
        }
        Some(b) if b.is_ascii_alphabetic() => Some(at + flags + 1),
        Some(b'%' | b'<' | b'>' | b'@') if flags == 0 => Some(at + 1),
        // Qt's `%1`, `%12`.
        _ if digits > 0 && flags == digits => Some(at + digits),
        _ => None,
    }
}

fn variable(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'(' => enclosed(bytes, 2, b')'),
        b'{' => enclosed(bytes, 2, b'}'),
        _ => None,
    }
}

/// From `from` a name (with a format, an index, a default) and then `close`.
fn enclosed(bytes: &[u8], from: usize, close: u8) -> Option<usize> {
    let inner = bytes.get(from..)?;
    let len =
        inner.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-.:!+,#%".contains(b)).count();
    (inner.get(len) == Some(&close)).then_some(from + len + 1)
}

fn tag(bytes: &[u8]) -> Option<usize> {
    let name = if bytes.get(1) == Some(&b'/') { 2 } else { 1 };
    if !bytes.get(name)?.is_ascii_alphabetic() {
        return None;
    }
    let len = bytes[name..].iter().take_while(|b| !b"<>".contains(b)).count();
    (bytes.get(name + len) == Some(&b'>')).then_some(name + len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<&str> {
        spans(text).into_iter().map(|(range, _)| &text[range]).collect()
    }

    #[test]
    fn placeholders_of_every_kind_are_found() {
        assert_eq!(
            found("%s %d %-5.2f %1$s %(name)s %.*s %lu %zu %5.1f%%"),
            ["%s", "%d", "%-5.2f", "%1$s", "%(name)s", "%.*s", "%lu", "%zu", "%5.1f", "%%"]
        );
        assert_eq!(found("{0} of {name:>3}"), ["{0}"]);
        assert_eq!(found("{} {0} {name} {x.y:02}"), ["{}", "{0}", "{name}", "{x.y:02}"]);
        assert_eq!(found("%1 and %n, %2/%3"), ["%1", "%n", "%2", "%3"]);
        assert_eq!(found("%<int%> of %qs, %q+D at %L"), ["%<", "%>", "%qs", "%q+D", "%L"]);
        assert_eq!(found("$(EXIF.YEAR) ${HOME}"), ["$(EXIF.YEAR)", "${HOME}"]);
        assert_eq!(found("<b>a</b> &lt; <br/> &#215;"), ["<b>", "</b>", "&lt;", "<br/>", "&#215;"]);
    }

    #[test]
    fn ordinary_text_has_none() {
        for text in ["50 % of it", "a < b > c", "R&D; no", "costs $5", "{ a b }", "100%", "(%)"] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    proptest! {
        #[test]
        fn spans_are_in_order_and_on_char_boundaries(text in "[%{}<>&;$()a-z0-9äß_.*# ]{0,60}") {
            let mut end = 0;
            for (range, _) in spans(&text) {
                prop_assert!(range.start >= end && range.end > range.start);
                prop_assert!(text.get(range.clone()).is_some());
                end = range.end;
            }
        }
    }
}
