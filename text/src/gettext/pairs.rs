//! From messages to sentence pairs. The module above says what is done to a message and why.

use super::accelerator::{marks_of, take_off};
use super::mo::{Catalogue, Message};
use super::plural::PluralRule;
use crate::{corpus::Pair, normalise::normalise, placeholder::spans};
use std::fmt;

/// Messages by which gettext's users have translators name themselves (GNOME, KDE, others).
const CREDITS: [&str; 6] = [
    "translator-credits",
    "translator_credits",
    "Your names",
    "Your emails",
    "NAME OF TRANSLATORS",
    "EMAIL OF TRANSLATORS",
];

/// What a catalogue gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Pairs in the catalogue's order, normalised; source and target are never empty.
    pub pairs: Vec<Pair>,
    /// What was left out.
    pub left_out: LeftOut,
}

/// What was left out of a catalogue, and why: counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Messages or paragraphs without a translation.
    pub untranslated: usize,
    /// Names of translators.
    pub credits: usize,
    /// Plural forms that stand for neither one nor the usual many.
    pub other_forms: usize,
    /// Texts without a letter outside placeholders and markup.
    pub wordless: usize,
}

impl LeftOut {
    /// Adds another catalogue's counts.
    pub fn add(&mut self, other: &Self) {
        self.untranslated += other.untranslated;
        self.credits += other.credits;
        self.other_forms += other.other_forms;
        self.wordless += other.wordless;
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { untranslated, credits, other_forms, wordless } = self;
        write!(
            f,
            "{untranslated} untranslated, {wordless} without words, {other_forms} other plural forms, {credits} translators' credits"
        )
    }
}

/// The sentence pairs of a catalogue's messages.
pub fn pairs(catalogue: &Catalogue) -> Extracted {
    let mut out = Extracted::default();
    let mut texts = Vec::new();
    for message in &catalogue.messages {
        forms(message, catalogue, &mut texts, &mut out.left_out);
    }
    let marks = marks_of(texts.iter().copied());
    for (source, target) in texts {
        let (mut plain, mut translated) = (source.to_owned(), target.to_owned());
        for mark in &marks {
            (plain, translated) =
                (take_off(&plain, &translated, *mark), take_off(&translated, &plain, *mark));
        }
        for (source, target) in paragraphs(&plain, &translated) {
            let pair = Pair { source: normalise(source), target: normalise(target) };
            if pair.source.is_empty() || pair.target.is_empty() {
                out.left_out.untranslated += 1;
            } else if !has_words(&pair.source) || !has_words(&pair.target) {
                out.left_out.wordless += 1;
            } else {
                out.pairs.push(pair);
            }
        }
    }
    out
}

/// A message's texts beside their translations: one, or singular and plural.
fn forms<'a>(
    message: &'a Message,
    catalogue: &Catalogue,
    texts: &mut Vec<(&'a str, &'a str)>,
    left_out: &mut LeftOut,
) {
    if CREDITS.contains(&message.singular.as_str()) {
        left_out.credits += 1;
        return;
    }
    if message.translations.iter().all(|text| text.trim().is_empty()) {
        left_out.untranslated += 1;
        return;
    }
    let before = texts.len();
    match &message.plural {
        None => {
            let translation = message.translations.first();
            texts.extend(translation.map(|text| (message.singular.as_str(), text.as_str())));
        }
        Some(plural) => {
            let form = |form: Option<usize>| message.translations.get(form?);
            let rule = catalogue.plural.as_ref();
            let one = form(rule.and_then(|rule| rule.form_of(1)));
            let many = form(rule.and_then(PluralRule::usual_plural));
            texts.extend(one.map(|text| (message.singular.as_str(), text.as_str())));
            texts.extend(many.map(|text| (plural.as_str(), text.as_str())));
        }
    }
    left_out.other_forms += message.translations.len().saturating_sub(texts.len() - before);
}

/// The paragraphs of both sides where there are equally many, else both sides whole.
fn paragraphs<'a>(source: &'a str, target: &'a str) -> Vec<(&'a str, &'a str)> {
    let (sources, targets) = (split_paragraphs(source), split_paragraphs(target));
    if sources.len() == targets.len() {
        sources.into_iter().zip(targets).collect()
    } else {
        vec![(source, target)]
    }
}

/// Stretches between lines that are empty or blank; at least one stretch.
fn split_paragraphs(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            found.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    found.push(&text[start..]);
    found.retain(|paragraph| !paragraph.trim().is_empty());
    if found.is_empty() { vec![text] } else { found }
}

/// Whether there is a letter outside placeholders, markup and entities.
fn has_words(text: &str) -> bool {
    let mut at = 0;
    for (span, _) in spans(text) {
        if text[at..span.start].chars().any(char::is_alphabetic) {
            return true;
        }
        at = span.end;
    }
    text[at..].chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(singular: &str, plural: Option<&str>, translations: &[&str]) -> Message {
        Message {
            context: None,
            singular: singular.into(),
            plural: plural.map(Into::into),
            translations: translations.iter().map(|text| (*text).into()).collect(),
        }
    }

    fn extract(messages: Vec<Message>, rule: &str) -> (Vec<(String, String)>, LeftOut) {
        let out = pairs(&Catalogue { messages, plural: rule.parse().ok() });
        (out.pairs.into_iter().map(|pair| (pair.source, pair.target)).collect(), out.left_out)
    }

    fn one(source: &str, target: &str) -> Vec<(String, String)> {
        extract(vec![message(source, None, &[target])], "").0
    }

    fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(source, target)| ((*source).into(), (*target).into())).collect()
    }

    #[test]
    fn the_singular_pairs_with_the_form_for_one_and_the_plural_with_the_usual_one() {
        let files =
            || vec![message("%d file", Some("%d files"), &["a %d", "b %d", "c %d", "d %d"])];
        let slovene =
            "nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);";
        let (found, left_out) = extract(files(), slovene);
        assert_eq!(found, texts(&[("%d file", "b %d"), ("%d files", "a %d")]));
        assert_eq!(left_out.other_forms, 2);
        let (found, _) = extract(
            vec![message("%d cat", Some("%d cats"), &["%d neko"])],
            "nplurals=1; plural=0;",
        );
        assert_eq!(found, texts(&[("%d cat", "%d neko"), ("%d cats", "%d neko")]));
        let (found, left_out) = extract(files(), "nonsense");
        assert_eq!((found, left_out.other_forms), (vec![], 4));
    }

    #[test]
    fn paragraphs_pair_where_both_sides_have_equally_many() {
        let found = one("One\nline.\n\nTwo.\n", "Eine\nZeile.\n \nZwei.\n");
        assert_eq!(found, texts(&[("One line.", "Eine Zeile."), ("Two.", "Zwei.")]));
        assert_eq!(one("A.\n\nB.", "A und B."), texts(&[("A. B.", "A und B.")]));
    }

    #[test]
    fn what_is_no_sentence_pair_is_left_out_and_counted() {
        let (found, left_out) = extract(
            vec![
                message("translator-credits", None, &["A. Person"]),
                message("Later", None, &[""]),
                message("%s: %d", None, &["%s: %d"]),
                message("<b>%s</b> 12", None, &["<b>%s</b> 12"]),
                message("Kept %s…", None, &["Behalten %s …"]),
            ],
            "",
        );
        assert_eq!(found, texts(&[("Kept %s…", "Behalten %s …")]));
        assert_eq!(left_out, LeftOut { untranslated: 1, credits: 1, other_forms: 0, wordless: 2 });
    }

    #[test]
    fn accelerators_come_off_on_both_sides_in_a_catalogue_that_has_them() {
        let mut messages: Vec<Message> = (0..10)
            .map(|i| message(&format!("_Save {i}"), None, &[&format!("{i} _Sichern")]))
            .collect();
        messages.push(message("Addis_Ababa", None, &["Addis_Ababa"]));
        let (found, _) = extract(messages, "");
        assert_eq!(found[3], ("Save 3".into(), "3 Sichern".into()));
        assert_eq!(found[10].0, "Addis_Ababa");
        assert_eq!(one("_Save", "_Sichern"), texts(&[("_Save", "_Sichern")]));
    }
}
