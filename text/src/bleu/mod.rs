//! Corpus BLEU (Papineni et al. 2002) as sacreBLEU computes it (Post 2018, arXiv 1804.08771):
//! one reference, case as it is, 13a tokens, exponential smoothing, n-grams up to four.
//!
//! Scores agree with sacreBLEU's to rounding; a test compares them with sacreBLEU itself where
//! there is one.

mod tokens;

use std::{collections::HashMap, fmt};

/// The longest n-grams.
const ORDER: usize = 4;

/// A corpus's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// 0 to 100.
    pub score: f64,
    /// Per cent of the n-grams found in the references, for n from 1 to 4; smoothed.
    pub precisions: [f64; ORDER],
    /// 1, or less for translations shorter than their references.
    pub brevity_penalty: f64,
    /// Tokens of the translations.
    pub translation_tokens: u64,
    /// Tokens of the references.
    pub reference_tokens: u64,
}

/// As many references as translations are wanted. The caller is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{translations} translations cannot be scored against {references} references")]
pub struct Unequal {
    /// Translations.
    pub translations: usize,
    /// References.
    pub references: usize,
}

impl Bleu {
    /// Scores each translation against its reference, and all together.
    pub fn of<T: AsRef<str>, R: AsRef<str>>(
        translations: &[T],
        references: &[R],
    ) -> Result<Self, Unequal> {
        if translations.len() != references.len() {
            let (translations, references) = (translations.len(), references.len());
            return Err(Unequal { translations, references });
        }
        let mut counts = Counts::default();
        for (translation, reference) in translations.iter().zip(references) {
            counts.add(translation.as_ref(), reference.as_ref());
        }
        Ok(counts.score())
    }

    /// How the score was computed, in sacreBLEU's form. Not sacreBLEU's version but our own
    /// stands at its end.
    pub fn signature() -> String {
        format!(
            "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:aliaOS-{}",
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// `BLEU = 37.63 65.1/43.0/31.4/24.2 (BP = 0.982 ratio = 0.983 hyp_len = 5411 ref_len = 5507)`,
/// sacreBLEU's form.
impl fmt::Display for Bleu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three, four] = self.precisions;
        let (translation, reference) = (self.translation_tokens, self.reference_tokens);
        let ratio = if reference == 0 { 0.0 } else { translation as f64 / reference as f64 };
        write!(
            f,
            "BLEU = {:.2} {one:.1}/{two:.1}/{three:.1}/{four:.1} (BP = {:.3} ratio = {ratio:.3} hyp_len = {translation} ref_len = {reference})",
            self.score, self.brevity_penalty,
        )
    }
}

#[derive(Default)]
struct Counts {
    /// N-grams of the translations that their references have, by n - 1.
    correct: [u64; ORDER],
    /// N-grams of the translations.
    total: [u64; ORDER],
    translation_tokens: u64,
    reference_tokens: u64,
}

impl Counts {
    fn add(&mut self, translation: &str, reference: &str) {
        let (translation, reference) = (tokens::tokens(translation), tokens::tokens(reference));
        self.translation_tokens += translation.len() as u64;
        self.reference_tokens += reference.len() as u64;
        for n in 1..=ORDER {
            let mut wanted: HashMap<&[String], u64> = HashMap::new();
            for gram in reference.windows(n) {
                *wanted.entry(gram).or_default() += 1;
            }
            for gram in translation.windows(n) {
                self.total[n - 1] += 1;
                // Each n-gram of the reference can be found once.
                if let Some(left) = wanted.get_mut(gram).filter(|left| **left > 0) {
                    *left -= 1;
                    self.correct[n - 1] += 1;
                }
            }
        }
    }

    fn score(&self) -> Bleu {
        let (translation, reference) = (self.translation_tokens, self.reference_tokens);
        let brevity_penalty = match translation {
            0 if reference > 0 => 0.0,
            _ if translation < reference => (1.0 - reference as f64 / translation as f64).exp(),
            _ => 1.0,
        };
        let mut precisions = [0.0; ORDER];
        let mut score = 0.0;
        if self.correct.iter().any(|count| *count > 0) {
            // Method 3 of Chen and Cherry (2014): each order without a match counts as half of
            // one, then a quarter, and so on.
            let mut smoothing = 1.0;
            for (n, precision) in precisions.iter_mut().enumerate() {
                let (correct, total) = (self.correct[n] as f64, self.total[n] as f64);
                if self.total[n] == 0 {
                    break;
                }
                *precision = if self.correct[n] == 0 {
                    smoothing *= 2.0;
                    100.0 / (smoothing * total)
                } else {
                    100.0 * correct / total
                };
            }
            // An order without any n-gram has precision 0: its logarithm makes the score 0.
            let logarithms: f64 = precisions.iter().map(|precision| precision.ln()).sum();
            score = brevity_penalty * (logarithms / ORDER as f64).exp();
        }
        Bleu {
            score,
            precisions,
            brevity_penalty,
            translation_tokens: translation,
            reference_tokens: reference,
        }
    }
}
