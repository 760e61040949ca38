//! Reading a corpus that a user brings: one TSV file, or two parallel files.

use super::Pair;
use std::fmt;

/// Which input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The TSV file.
    Tsv,
    /// The source side of two parallel files.
    Source,
    /// The target side of two parallel files.
    Target,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tsv => "the corpus",
            Self::Source => "the source file",
            Self::Target => "the target file",
        })
    }
}

/// What is wrong with a corpus that a user brought. Lines count from 1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not UTF-8.
    #[error(
        "{input} is not UTF-8 at line {line}, byte {byte} of the line: convert it, for example with iconv -t UTF-8"
    )]
    InvalidUtf8 {
        /// Which input.
        input: Input,
        /// The line.
        line: usize,
        /// The first byte of the line that is wrong, from 1.
        byte: usize,
    },
    /// Two parallel files of different lengths.
    #[error(
        "the source file has {source_lines} lines and the target file {target_lines}: line N of one must be the translation of line N of the other"
    )]
    UnequalLines {
        /// Lines of the source file.
        source_lines: usize,
        /// Lines of the target file.
        target_lines: usize,
    },
    /// A TSV line without exactly two columns.
    #[error("line {line} of the corpus has {columns} columns: \"source<TAB>target\" is wanted")]
    Columns {
        /// The line.
        line: usize,
        /// How many columns it has.
        columns: usize,
    },
}

/// Reads `source<TAB>target` lines. Empty lines give empty pairs, which cleaning drops and counts.
pub fn read_tsv(bytes: &[u8]) -> Result<Vec<Pair>, ReadError> {
    let mut pairs = Vec::new();
    for (at, text) in lines(bytes, Input::Tsv)?.into_iter().enumerate() {
        let pair = match text.split_once('\t') {
            Some((source, target)) if !target.contains('\t') => {
                Pair { source: source.to_owned(), target: target.to_owned() }
            }
            None if text.trim().is_empty() => Pair::default(),
            _ => {
                let columns = text.split('\t').count();
                return Err(ReadError::Columns { line: at + 1, columns });
            }
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// Reads two files of which line N of one is the translation of line N of the other.
pub fn read_parallel(source: &[u8], target: &[u8]) -> Result<Vec<Pair>, ReadError> {
    let sources = lines(source, Input::Source)?;
    let targets = lines(target, Input::Target)?;
    if sources.len() != targets.len() {
        let (source_lines, target_lines) = (sources.len(), targets.len());
        return Err(ReadError::UnequalLines { source_lines, target_lines });
    }
    let pair =
        |(source, target): (&str, &str)| Pair { source: source.into(), target: target.into() };
    Ok(sources.into_iter().zip(targets).map(pair).collect())
}

/// The lines, with `\n` or `\r\n` and a byte-order mark taken off; the last may lack its end.
fn lines(bytes: &[u8], input: Input) -> Result<Vec<&str>, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        ReadError::InvalidUtf8 {
            input,
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            byte: before.len() - line_start + 1,
        }
    })?;
    Ok(text.lines().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(source: &str, target: &str) -> Pair {
        Pair { source: source.into(), target: target.into() }
    }

    #[test]
    fn both_forms_give_the_same_pairs() {
        let wanted = [pair("a", "A"), Pair::default(), pair("b c", "B")];
        assert_eq!(read_tsv(b"\xef\xbb\xbfa\tA\r\n\nb c\tB").unwrap(), wanted);
        assert_eq!(read_parallel(b"a\n\nb c\n", b"A\r\n\r\nB").unwrap(), wanted);
    }

    #[test]
    fn unequal_line_counts_are_told_with_both_counts() {
        let error = read_parallel(b"a\nb\nc\n", b"A\nB\n").unwrap_err();
        assert_eq!(error, ReadError::UnequalLines { source_lines: 3, target_lines: 2 });
        assert!(error.to_string().contains("3 lines and the target file 2"), "{error}");
    }

    #[test]
    fn invalid_utf8_is_told_with_file_line_and_byte() {
        assert_eq!(
            read_tsv(b"a\tA\nb\tB\xff\n"),
            Err(ReadError::InvalidUtf8 { input: Input::Tsv, line: 2, byte: 4 })
        );
        let error = read_parallel(b"a\n", b"\xc3").unwrap_err();
        assert_eq!(error, ReadError::InvalidUtf8 { input: Input::Target, line: 1, byte: 1 });
    }

    #[test]
    fn a_line_without_two_columns_is_told_with_its_number() {
        assert_eq!(read_tsv(b"a\tA\nb\n"), Err(ReadError::Columns { line: 2, columns: 1 }));
        assert_eq!(read_tsv(b"a\tA\tx\n"), Err(ReadError::Columns { line: 1, columns: 3 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_tsv(&bytes);
            let _ = read_parallel(&bytes, b"a\n");
        }
    }
}
