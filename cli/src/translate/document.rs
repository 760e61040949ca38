//! A document: a sentence a line.

use text::normalise::normalise;

/// The lines of a document. Empty ones are kept back and put in their places again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Normalised, none of them empty.
    sentences: Vec<String>,
    /// For each line, which sentence it is.
    lines: Vec<Option<usize>>,
}

impl Document {
    /// A document of lines.
    pub fn new<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> Self {
        let mut document = Self::default();
        for line in lines {
            let sentence = normalise(line.as_ref());
            let place = (!sentence.is_empty()).then_some(document.sentences.len());
            document.lines.push(place);
            document.sentences.extend(place.map(|_| sentence));
        }
        document
    }

    /// The sentences, without the empty lines.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The translations as lines, the empty ones in their places. A sentence without translation
    /// gives an empty line.
    pub fn join(&self, translations: &[String]) -> Vec<String> {
        self.lines
            .iter()
            .map(|place| place.and_then(|at| translations.get(at)).cloned().unwrap_or_default())
            .collect()
    }

    /// The line of a sentence, from 1.
    pub fn line_of(&self, sentence: usize) -> usize {
        self.lines.iter().position(|place| *place == Some(sentence)).map_or(0, |at| at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_come_back_in_their_places() {
        let document = Document::new(["", "one  two", " \t", "three", ""]);
        assert_eq!(document.sentences(), ["one two", "three"]);
        let joined = document.join(&["eins zwei".into(), "drei".into()]);
        assert_eq!(joined, ["", "eins zwei", "", "drei", ""]);
        assert_eq!((document.line_of(0), document.line_of(1)), (2, 4));
        assert!(Document::new(["", " "]).sentences().is_empty());
    }
}
