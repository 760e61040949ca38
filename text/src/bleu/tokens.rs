//! The 13a tokens: mteval-v13a's rules, as sacreBLEU words them.

/// A text's tokens.
///
/// 1. `<skipped>` goes, a hyphen at a line's end joins, a line end is a space; `&quot;`, `&amp;`,
///    `&lt;`, `&gt;` become their characters, in that order.
/// 2. Most ASCII signs become tokens; then full stop and comma unless after a digit, then unless
///    before a digit; then a hyphen after a digit.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let mut text = text
        .trim_end_matches(is_space)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let mut chars = vec![' '];
    for c in text.chars() {
        if is_sign(c) {
            chars.extend([' ', c, ' ']);
        } else {
            chars.push(c);
        }
    }
    chars.push(' ');
    let stop = |c: char| matches!(c, '.' | ',');
    let digit = |c: char| c.is_ascii_digit();
    let chars = pairwise(&chars, |a, b| !digit(a) && stop(b), |a, b| vec![a, ' ', b, ' ']);
    let chars = pairwise(&chars, |a, b| stop(a) && !digit(b), |a, b| vec![' ', a, ' ', b]);
    let chars = pairwise(&chars, |a, b| digit(a) && b == '-', |a, b| vec![a, ' ', b, ' ']);
    let text: String = chars.into_iter().collect();
    text.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// ASCII signs other than `'`, `,`, `-`, `.`.
fn is_sign(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.')
}

/// What Python's `str.split` parts words at: Unicode's whitespace and four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Replaces pairs of neighbours from the left; a character is part of one pair at most.
fn pairwise(
    chars: &[char],
    wanted: impl Fn(char, char) -> bool,
    replace: impl Fn(char, char) -> Vec<char>,
) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len() + 8);
    let mut rest = chars;
    loop {
        match rest {
            [a, b, others @ ..] if wanted(*a, *b) => {
                out.extend(replace(*a, *b));
                rest = others;
            }
            [a, others @ ..] => {
                out.push(*a);
                rest = others;
            }
            [] => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn signs_stops_and_hyphens_part_as_in_mteval() {
        for (text, wanted) in [
            ("Hello, world.", "Hello , world ."),
            ("1,000.5 or 3.", "1,000.5 or 3 ."),
            ("a.b ,c 1.x x.1", "a . b , c 1 . x x . 1"),
            ("5-10 well-known -3", "5 - 10 well-known -3"),
            ("don't (stop) [it]!", "don't ( stop ) [ it ] !"),
            ("&lt;b&gt; &amp;quot; R&D", "< b > & quot ; R & D"),
            ("x<skipped>y line-\nend a\nb", "xy lineend a b"),
            ("... ,, Ende…", ". . . , , Ende…"),
            ("a\u{a0}b\u{1f}c  ", "a b c"),
            ("", ""),
        ] {
            assert_eq!(tokens(text).join(" "), wanted, "{text:?}");
        }
    }
}
