//! A node's console: what its kernel and its PID 1 said, on its way to the provisioner, and as that
//! keeps it.
//!
//! `POST /v1/machines/{mac}/lines` takes a [`ConsoleBatch`], by TLS with a node's certificate alone;
//! `GET /v1/machines/{mac}/console` gives a [`ConsolePage`], and
//! `GET /v1/machines/{mac}/console/live` streams [`ConsoleEntry`] as server-sent events.
//!
//! Each source counts its own lines from 0 within a boot: the kernel its records, PID 1 its lines. So
//! a line that is sent twice is known, and one that is missing too.

use crate::{digest::Digest, told::is_plain};
use serde::{Deserialize, Serialize};

/// The most lines of one batch.
pub const MAX_CONSOLE_LINES: usize = 256;
/// The longest line in bytes; what is longer is cut.
pub const MAX_CONSOLE_LINE: usize = 1_000;

/// Who said a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConsoleSource {
    /// The kernel (`/dev/kmsg`).
    Kernel,
    /// PID 1, and the service that it runs.
    Init,
}

impl ConsoleSource {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Init => "init",
        }
    }
}

/// Lines of a node, in the order in which each source said them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleBatch {
    /// The boot.
    pub boot_id: Digest,
    /// At most [`MAX_CONSOLE_LINES`].
    pub lines: Vec<ConsoleLine>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleLine {
    /// Who said it.
    pub source: ConsoleSource,
    /// Its number among that source's lines of this boot.
    pub sequence: u64,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// syslog's level, 0 (emergency) to 7 (debug), where the kernel said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// The line.
    pub text: String,
}

/// A line as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleEntry {
    /// Its number among all that are kept here: what `after` and `before` mean.
    pub id: u64,
    /// The boot that it is of.
    pub boot: Digest,
    /// Who said it.
    pub source: ConsoleSource,
    /// Its number among that source's lines of this boot.
    pub sequence: u64,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// When it came here, milliseconds since 1970.
    pub received: u64,
    /// syslog's level, 0 (emergency) to 7 (debug), where the kernel said it.
    pub level: Option<u8>,
    /// How many lines before it never came, or came faster than they are taken.
    pub missing: u64,
    /// The line; what would move a terminal's cursor is taken out of it.
    pub text: String,
}

/// A page of a machine's console, oldest line first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsolePage {
    /// The lines.
    pub lines: Vec<ConsoleEntry>,
    /// How many of this machine's lines were kept and went, oldest first, to make room.
    pub gone: u64,
    /// The boots of which lines are kept, newest first.
    pub boots: Vec<ConsoleBoot>,
}

/// A boot of which lines are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsoleBoot {
    /// The boot.
    pub boot: Digest,
    /// When the first of its lines came, milliseconds since 1970.
    pub began: u64,
    /// How many lines of it are kept.
    pub lines: u64,
}

/// A foreign line as it may be shown: without the escape sequences of terminals (ECMA-48: CSI, OSC
/// and the like), with U+FFFD for what else is not plain, and not longer than
/// [`MAX_CONSOLE_LINE`].
pub fn readable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_CONSOLE_LINE));
    let mut rest = text.trim_end().chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\u{1b}' => match rest.clone().next() {
                // A control sequence: parameters, then one byte from @ to ~.
                Some('[') => {
                    rest.next();
                    let _ = rest.by_ref().find(|c| !matches!(c, ' '..='?'));
                    continue;
                }
                // A string (of the operating system, of a device, …): up to its terminator.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    rest.next();
                    let mut before = ' ';
                    let _ = rest.by_ref().find(|c| {
                        let ends =
                            *c == '\u{7}' || *c == '\u{9c}' || (before, *c) == ('\u{1b}', '\\');
                        before = *c;
                        ends
                    });
                    continue;
                }
                // Any other sequence: intermediate bytes, then one more.
                Some(_) => {
                    let _ = rest.by_ref().find(|c| !matches!(c, ' '..='/'));
                    continue;
                }
                None => continue,
            },
            '\t' => ' ',
            c if is_plain(c) => c,
            _ => char::REPLACEMENT_CHARACTER,
        };
        if shown.len() + c.len_utf8() > MAX_CONSOLE_LINE {
            break;
        }
        shown.push(c);
    }
    shown
}

/// Names of which the value is nobody's but its owner's.
const SECRET: [&str; 6] = ["password", "passwd", "passphrase", "secret", "token", "psk"];
/// What stands in the place of a secret.
const HIDDEN: &str = "[hidden]";

/// A line without what looks like a secret: the values of `…password=`, `…token=` and the like (as on
/// a kernel's command line), and operators' tokens. A line is not split at anything but spaces.
pub fn without_secrets(line: &str) -> String {
    let hide = |word: &str| -> Option<String> {
        if let Some(at) = word.find("alia-operator-") {
            return Some(format!("{}{HIDDEN}", &word[..at]));
        }
        let (name, value) = word.split_once('=')?;
        let name_of = name.to_ascii_lowercase();
        let secret = SECRET.iter().any(|secret| name_of.ends_with(secret));
        (secret && !value.is_empty()).then(|| format!("{name}={HIDDEN}"))
    };
    let words: Vec<String> =
        line.split(' ').map(|word| hide(word).unwrap_or_else(|| word.to_owned())).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_a_cursor_is_taken_out_and_the_words_stay() {
        for (text, wanted) in [
            ("plain <b>é</b>", "plain <b>é</b>"),
            ("a\u{1b}[31;1mred\u{1b}[0m", "ared"),
            ("a\u{1b}[2J\u{1b}[Hb", "ab"),
            ("t\u{1b}]0;title\u{7}x", "tx"),
            ("t\u{1b}]8;;http://e\u{1b}\\link", "tlink"),
            ("a\u{1b}(Bb\u{1b}cd", "abd"),
            ("open \u{1b}[12;", "open "),
            ("open \u{1b}]never ends", "open "),
            ("\u{1b}", ""),
            ("a\tb\u{7}c\u{202e}d\r\n", "a b\u{fffd}c\u{fffd}d"),
        ] {
            assert_eq!(readable(text), wanted, "{text:?}");
        }
        assert_eq!(readable(&"ä".repeat(MAX_CONSOLE_LINE)).len(), MAX_CONSOLE_LINE);
    }

    #[test]
    fn secrets_are_not_in_a_line_and_all_else_is() {
        let line = "Kernel command line: alia.key=ab12 wifi.psk=hush X.Password=p  token= quiet";
        let told = without_secrets(line);
        assert_eq!(
            told,
            "Kernel command line: alia.key=ab12 wifi.psk=[hidden] X.Password=[hidden]  token= quiet"
        );
        assert_eq!(without_secrets("with alia-operator-00ff."), "with [hidden]");
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_bounded_plain_line(text in "(\u{1b}|\\[|\\]|\\PC|[\u{0}-\u{9f}]){0,80}") {
            let shown = readable(&text);
            prop_assert!(shown.chars().all(is_plain) && shown.len() <= MAX_CONSOLE_LINE);
            let again = readable(&shown);
            prop_assert_eq!(again.trim_end(), shown.trim_end(), "it stays as it is");
        }
    }
}
