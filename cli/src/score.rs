//! BLEU of translations, beside that of copying the source.

use serde::Serialize;
use std::fmt;
use text::{
    Pair,
    bleu::{Bleu, Unequal},
};

/// A model's score on held-out pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// On all of them.
    pub all: Part,
    /// On those whose reference differs from the source: where there is something to translate.
    pub differing: Part,
    /// How BLEU was computed, in sacreBLEU's form.
    pub signature: String,
}

/// Scores on some of the pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// How many.
    pub sentences: usize,
    /// The translations' BLEU.
    pub bleu: f64,
    /// BLEU of the sources themselves.
    pub copy: f64,
}

/// Scores the translations of pairs' sources against their targets.
///
/// # Errors
/// Where there are not as many translations as pairs.
pub fn score(pairs: &[Pair], translations: &[String]) -> Result<Scores, Unequal> {
    if pairs.len() != translations.len() {
        let (translations, references) = (translations.len(), pairs.len());
        return Err(Unequal { translations, references });
    }
    let part = |wanted: &dyn Fn(&Pair) -> bool| -> Result<Part, Unequal> {
        let chosen: Vec<(&Pair, &String)> =
            pairs.iter().zip(translations).filter(|(pair, _)| wanted(pair)).collect();
        let references: Vec<&str> = chosen.iter().map(|(pair, _)| pair.target.as_str()).collect();
        let sources: Vec<&str> = chosen.iter().map(|(pair, _)| pair.source.as_str()).collect();
        let ours: Vec<&str> = chosen.iter().map(|(_, ours)| ours.as_str()).collect();
        Ok(Part {
            sentences: chosen.len(),
            bleu: Bleu::of(&ours, &references)?.score,
            copy: Bleu::of(&sources, &references)?.score,
        })
    };
    Ok(Scores {
        all: part(&|_| true)?,
        differing: part(&|pair| pair.source != pair.target)?,
        signature: Bleu::signature(),
    })
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, part) in
            [("all held-out pairs", &self.all), ("reference differs from source", &self.differing)]
        {
            writeln!(
                f,
                "{what}: {} sentences, BLEU {:.1}, copying the source {:.1}",
                part.sentences, part.bleu, part.copy
            )?;
        }
        write!(f, "{}", self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str, target: &str) -> Pair {
        Pair { source: source.into(), target: target.into() }
    }

    #[test]
    fn pairs_that_are_only_copied_count_in_one_part_alone() {
        let pairs =
            [pair("open the old file", "öffne die alte Datei"), pair("a b c d e", "a b c d e")];
        let translations = ["öffne die alte Datei".to_string(), "a b c d e".into()];
        let scores = score(&pairs, &translations).unwrap();
        assert_eq!((scores.all.sentences, scores.differing.sentences), (2, 1));
        assert!(scores.all.bleu > 99.9 && scores.differing.bleu > 99.9);
        assert!(scores.all.copy > 40.0 && scores.differing.copy < 1.0, "{scores}");
    }

    #[test]
    fn a_missing_translation_is_refused() {
        assert!(score(&[pair("a", "b")], &[]).is_err());
    }
}
