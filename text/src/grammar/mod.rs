//! A small parallel corpus made from a grammar: for tests that need no network.
//!
//! Source: plain English sentences. Target: German ones. A learner has to find out about word
//! order (the verb second after an adverb; infinitive, participle, or the whole verb last in a
//! subordinate clause), agreement (articles and adjectives by gender, number and case, verbs by
//! number) and numbers (words to twelve, digits above, which are copied).
//!
//! The lexicon is small and every rule has no exception, so that a model of a hundred thousand
//! parameters learns it in seconds.

mod lexicon;

use crate::corpus::{Corpus, Pair};
use lexicon::{ADJECTIVES, ADVERBS, Adjective, NAMES, NOUNS, NUMBERS, Noun, VERBS, Verb};

/// The most pairs made: far below the millions that the grammar has.
pub const MAX_PAIRS: usize = 100_000;

/// `count` different sentence pairs, at most [`MAX_PAIRS`]; the same for the same seed.
pub fn corpus(seed: u64, count: usize) -> Corpus {
    let mut random = Random(seed);
    let mut pairs = std::collections::BTreeSet::new();
    while pairs.len() < count.min(MAX_PAIRS) {
        pairs.insert(sentence(&mut random));
    }
    pairs.into_iter().collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is small, so that the remainder's bias does not matter.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Nominative,
    Accusative,
}

/// The grammatical gender of a German noun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gender {
    Masculine,
    Feminine,
    Neuter,
}

#[derive(Clone, Copy)]
enum Determiner {
    The,
    A,
    ThePlural,
    Number(usize),
}

/// A determiner, perhaps an adjective, and a noun.
#[derive(Clone, Copy)]
struct Phrase {
    determiner: Determiner,
    adjective: Option<Adjective>,
    noun: Noun,
}

impl Phrase {
    fn choose(random: &mut Random) -> Self {
        let determiner = match random.below(4) {
            0 => Determiner::The,
            1 => Determiner::A,
            2 => Determiner::ThePlural,
            _ => Determiner::Number(2 + random.below(98)),
        };
        let adjective = (random.below(2) == 0).then(|| random.of(&ADJECTIVES));
        Self { determiner, adjective, noun: random.of(&NOUNS) }
    }

    fn is_plural(&self) -> bool {
        matches!(self.determiner, Determiner::ThePlural | Determiner::Number(_))
    }

    fn english(&self) -> Vec<String> {
        let noun = if self.is_plural() { self.noun.english.1 } else { self.noun.english.0 };
        let after = self.adjective.map_or(noun, |adjective| adjective.english);
        let determiner = match self.determiner {
            Determiner::The | Determiner::ThePlural => "the".into(),
            Determiner::A if after.starts_with(['a', 'e', 'i', 'o', 'u']) => "an".into(),
            Determiner::A => "a".into(),
            Determiner::Number(n) => number(n).0,
        };
        let adjective = self.adjective.map(|adjective| adjective.english.into());
        [determiner].into_iter().chain(adjective).chain([noun.into()]).collect()
    }

    fn german(&self, case: Case) -> Vec<String> {
        use Determiner::{A, Number, The, ThePlural};
        use Gender::{Feminine, Masculine, Neuter};
        let masculine_object = case == Case::Accusative && self.noun.gender == Masculine;
        let determiner = match (self.determiner, self.noun.gender) {
            (Number(n), _) => number(n).1,
            (ThePlural, _) | (The, Feminine) => "die".into(),
            (The, Masculine) => if masculine_object { "den" } else { "der" }.into(),
            (The, Neuter) => "das".into(),
            (A, Feminine) => "eine".into(),
            (A, Masculine) if masculine_object => "einen".into(),
            (A, Masculine | Neuter) => "ein".into(),
        };
        // Weak after an article that shows gender and case, strong where none does.
        let ending = match (self.determiner, self.noun.gender) {
            (ThePlural, _) => "en",
            (Number(_), _) => "e",
            (The | A, Masculine) if masculine_object => "en",
            (The, _) | (A, Feminine) => "e",
            (A, Masculine) => "er",
            (A, Neuter) => "es",
        };
        let adjective = self.adjective.map(|adjective| format!("{}{ending}", adjective.german));
        let noun = if self.is_plural() { self.noun.german.1 } else { self.noun.german.0 };
        [determiner].into_iter().chain(adjective).chain([noun.into()]).collect()
    }
}

/// A number from two on in both languages: words to twelve, digits above.
fn number(n: usize) -> (String, String) {
    match n.checked_sub(2).and_then(|at| NUMBERS.get(at)) {
        Some((english, german)) => ((*english).into(), (*german).into()),
        None => (n.to_string(), n.to_string()),
    }
}

/// How a clause puts its verb.
#[derive(Clone, Copy)]
enum Form {
    /// "the dog sees the cat"
    Present,
    /// "the dog does not see the cat"
    Negated,
    /// "the dog has seen the cat"
    Perfect,
    /// "the dog must see the cat"
    Must,
}

/// A subject, a verb and an object.
#[derive(Clone, Copy)]
struct Clause {
    subject: Phrase,
    verb: Verb,
    object: Phrase,
    form: Form,
}

impl Clause {
    fn choose(random: &mut Random) -> Self {
        let form =
            random.of(&[Form::Present, Form::Present, Form::Negated, Form::Perfect, Form::Must]);
        let (subject, object) = (Phrase::choose(random), Phrase::choose(random));
        Self { subject, verb: random.of(&VERBS), object, form }
    }

    fn english(&self) -> Vec<String> {
        let plural = self.subject.is_plural();
        let verb = match (self.form, plural) {
            (Form::Present, false) => self.verb.english_singular.into(),
            (Form::Present, true) => self.verb.english.into(),
            (Form::Negated, false) => format!("does not {}", self.verb.english),
            (Form::Negated, true) => format!("do not {}", self.verb.english),
            (Form::Perfect, false) => format!("has {}", self.verb.english_participle),
            (Form::Perfect, true) => format!("have {}", self.verb.english_participle),
            (Form::Must, _) => format!("must {}", self.verb.english),
        };
        [self.subject.english(), vec![verb], self.object.english()].concat()
    }

    /// Subject, finite verb, and the rest with what stands last: the parts that order moves.
    fn german(&self) -> (Vec<String>, String, Vec<String>) {
        let plural = self.subject.is_plural();
        let choose = |one: &str, many: &str| if plural { many.to_owned() } else { one.to_owned() };
        let (finite, last) = match self.form {
            Form::Present => (choose(self.verb.german_singular, self.verb.german), None),
            Form::Negated => (choose(self.verb.german_singular, self.verb.german), Some("nicht")),
            Form::Perfect => (choose("hat", "haben"), Some(self.verb.german_participle)),
            Form::Must => (choose("muss", "müssen"), Some(self.verb.german)),
        };
        let mut rest = self.object.german(Case::Accusative);
        rest.extend(last.map(str::to_owned));
        (self.subject.german(Case::Nominative), finite, rest)
    }
}

fn sentence(random: &mut Random) -> Pair {
    let clause = Clause::choose(random);
    let (subject, finite, rest) = clause.german();
    let english = clause.english();
    let finite = vec![finite];
    let word = |text: &str| vec![text.to_owned()];
    let (english, german) = match random.below(4) {
        0 | 1 => (english, [subject, finite, rest].concat()),
        // The adverb takes the first place, the verb keeps the second.
        2 => {
            let adverb = random.of(&ADVERBS);
            ([word(adverb.0), english].concat(), [word(adverb.1), finite, subject, rest].concat())
        }
        _ => {
            let name = random.of(&NAMES);
            (
                [word(name), word("says that"), english].concat(),
                [word(name), word("sagt, dass"), subject, rest, finite].concat(),
            )
        }
    };
    Pair { source: written(&english), target: written(&german) }
}

/// Words as a sentence: its first letter large, a full stop at its end.
fn written(words: &[String]) -> String {
    let text = words.join(" ");
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noun(english: &str) -> Noun {
        *NOUNS.iter().find(|noun| noun.english.0 == english).unwrap()
    }

    fn phrase(determiner: Determiner, adjective: bool, english: &str) -> Phrase {
        let adjective = adjective.then(|| ADJECTIVES[0]);
        Phrase { determiner, adjective, noun: noun(english) }
    }

    #[test]
    fn articles_and_adjectives_agree() {
        use Determiner::{A, Number, The, ThePlural};
        for (determiner, noun, nominative, accusative) in [
            (The, "dog", "der kleine Hund", "den kleinen Hund"),
            (A, "dog", "ein kleiner Hund", "einen kleinen Hund"),
            (The, "cat", "die kleine Katze", "die kleine Katze"),
            (A, "cat", "eine kleine Katze", "eine kleine Katze"),
            (The, "house", "das kleine Haus", "das kleine Haus"),
            (A, "house", "ein kleines Haus", "ein kleines Haus"),
            (ThePlural, "house", "die kleinen Häuser", "die kleinen Häuser"),
            (Number(3), "dog", "drei kleine Hunde", "drei kleine Hunde"),
            (Number(17), "cat", "17 kleine Katzen", "17 kleine Katzen"),
        ] {
            let phrase = phrase(determiner, true, noun);
            assert_eq!(phrase.german(Case::Nominative).join(" "), nominative);
            assert_eq!(phrase.german(Case::Accusative).join(" "), accusative);
        }
        assert_eq!(phrase(A, false, "apple").english().join(" "), "an apple");
        assert_eq!(phrase(A, true, "apple").english().join(" "), "a small apple");
    }

    #[test]
    fn the_verb_moves_with_the_form() {
        let clause = |form| Clause {
            subject: phrase(Determiner::The, false, "dog"),
            verb: VERBS[0],
            object: phrase(Determiner::A, false, "cat"),
            form,
        };
        for (form, english, german) in [
            (Form::Present, "the dog sees a cat", "der Hund | sieht | eine Katze"),
            (Form::Negated, "the dog does not see a cat", "der Hund | sieht | eine Katze nicht"),
            (Form::Perfect, "the dog has seen a cat", "der Hund | hat | eine Katze gesehen"),
            (Form::Must, "the dog must see a cat", "der Hund | muss | eine Katze sehen"),
        ] {
            let (subject, finite, rest) = clause(form).german();
            assert_eq!(clause(form).english().join(" "), english);
            assert_eq!(format!("{} | {finite} | {}", subject.join(" "), rest.join(" ")), german);
        }
    }

    #[test]
    fn a_seed_gives_as_many_different_pairs_as_asked_for_and_always_the_same() {
        let thousand = corpus(7, 1_000);
        assert_eq!(thousand.len(), 1_000);
        assert_eq!(thousand, corpus(7, 1_000));
        assert_ne!(thousand, corpus(8, 1_000));
        assert_eq!(corpus(1, MAX_PAIRS).len(), MAX_PAIRS);
    }

    #[test]
    fn one_source_has_one_translation_so_that_a_learner_can_reach_it() {
        let corpus = corpus(3, 20_000);
        let sources: std::collections::HashSet<&str> =
            corpus.pairs().iter().map(|pair| pair.source.as_str()).collect();
        assert_eq!(sources.len(), corpus.len());
    }
}
