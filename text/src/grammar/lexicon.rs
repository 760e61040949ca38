//! The words. Chosen so that every rule of the grammar holds for all of them.

use super::Gender;
use Gender::{Feminine, Masculine, Neuter};

/// A noun: singular and plural in both languages. Nominative and accusative are alike.
#[derive(Clone, Copy)]
pub(super) struct Noun {
    pub(super) english: (&'static str, &'static str),
    pub(super) gender: Gender,
    pub(super) german: (&'static str, &'static str),
}

/// An adjective; the German one takes its endings without changing.
#[derive(Clone, Copy)]
pub(super) struct Adjective {
    pub(super) english: &'static str,
    pub(super) german: &'static str,
}

/// A verb with a direct object whose perfect is formed with "haben".
#[derive(Clone, Copy)]
pub(super) struct Verb {
    pub(super) english: &'static str,
    pub(super) english_singular: &'static str,
    pub(super) english_participle: &'static str,
    /// Infinitive and plural, which are alike.
    pub(super) german: &'static str,
    pub(super) german_singular: &'static str,
    pub(super) german_participle: &'static str,
}

const fn noun(
    english: (&'static str, &'static str),
    gender: Gender,
    german: (&'static str, &'static str),
) -> Noun {
    Noun { english, gender, german }
}

pub(super) const NOUNS: [Noun; 28] = [
    noun(("dog", "dogs"), Masculine, ("Hund", "Hunde")),
    noun(("cat", "cats"), Feminine, ("Katze", "Katzen")),
    noun(("house", "houses"), Neuter, ("Haus", "Häuser")),
    noun(("tree", "trees"), Masculine, ("Baum", "Bäume")),
    noun(("flower", "flowers"), Feminine, ("Blume", "Blumen")),
    noun(("book", "books"), Neuter, ("Buch", "Bücher")),
    noun(("table", "tables"), Masculine, ("Tisch", "Tische")),
    noun(("lamp", "lamps"), Feminine, ("Lampe", "Lampen")),
    noun(("child", "children"), Neuter, ("Kind", "Kinder")),
    noun(("man", "men"), Masculine, ("Mann", "Männer")),
    noun(("woman", "women"), Feminine, ("Frau", "Frauen")),
    noun(("horse", "horses"), Neuter, ("Pferd", "Pferde")),
    noun(("apple", "apples"), Masculine, ("Apfel", "Äpfel")),
    noun(("street", "streets"), Feminine, ("Straße", "Straßen")),
    noun(("window", "windows"), Neuter, ("Fenster", "Fenster")),
    noun(("ball", "balls"), Masculine, ("Ball", "Bälle")),
    noun(("town", "towns"), Feminine, ("Stadt", "Städte")),
    noun(("boat", "boats"), Neuter, ("Boot", "Boote")),
    noun(("key", "keys"), Masculine, ("Schlüssel", "Schlüssel")),
    noun(("door", "doors"), Feminine, ("Tür", "Türen")),
    noun(("picture", "pictures"), Neuter, ("Bild", "Bilder")),
    noun(("letter", "letters"), Masculine, ("Brief", "Briefe")),
    noun(("clock", "clocks"), Feminine, ("Uhr", "Uhren")),
    noun(("bed", "beds"), Neuter, ("Bett", "Betten")),
    noun(("bird", "birds"), Masculine, ("Vogel", "Vögel")),
    noun(("island", "islands"), Feminine, ("Insel", "Inseln")),
    noun(("machine", "machines"), Feminine, ("Maschine", "Maschinen")),
    noun(("wagon", "wagons"), Masculine, ("Wagen", "Wagen")),
];

const fn adjective(english: &'static str, german: &'static str) -> Adjective {
    Adjective { english, german }
}

pub(super) const ADJECTIVES: [Adjective; 14] = [
    adjective("small", "klein"),
    adjective("big", "groß"),
    adjective("red", "rot"),
    adjective("green", "grün"),
    adjective("old", "alt"),
    adjective("new", "neu"),
    adjective("beautiful", "schön"),
    adjective("quick", "schnell"),
    adjective("slow", "langsam"),
    adjective("cold", "kalt"),
    adjective("warm", "warm"),
    adjective("heavy", "schwer"),
    adjective("empty", "leer"),
    adjective("important", "wichtig"),
];

const fn verb(english: [&'static str; 3], german: [&'static str; 3]) -> Verb {
    let [english, english_singular, english_participle] = english;
    let [german, german_singular, german_participle] = german;
    Verb {
        english,
        english_singular,
        english_participle,
        german,
        german_singular,
        german_participle,
    }
}

pub(super) const VERBS: [Verb; 14] = [
    verb(["see", "sees", "seen"], ["sehen", "sieht", "gesehen"]),
    verb(["find", "finds", "found"], ["finden", "findet", "gefunden"]),
    verb(["buy", "buys", "bought"], ["kaufen", "kauft", "gekauft"]),
    verb(["paint", "paints", "painted"], ["malen", "malt", "gemalt"]),
    verb(["hear", "hears", "heard"], ["hören", "hört", "gehört"]),
    verb(["carry", "carries", "carried"], ["tragen", "trägt", "getragen"]),
    verb(["love", "loves", "loved"], ["lieben", "liebt", "geliebt"]),
    verb(["seek", "seeks", "sought"], ["suchen", "sucht", "gesucht"]),
    verb(["draw", "draws", "drawn"], ["zeichnen", "zeichnet", "gezeichnet"]),
    verb(["know", "knows", "known"], ["kennen", "kennt", "gekannt"]),
    verb(["take", "takes", "taken"], ["nehmen", "nimmt", "genommen"]),
    verb(["bring", "brings", "brought"], ["bringen", "bringt", "gebracht"]),
    verb(["forget", "forgets", "forgotten"], ["vergessen", "vergisst", "vergessen"]),
    verb(["sell", "sells", "sold"], ["verkaufen", "verkauft", "verkauft"]),
];

pub(super) const ADVERBS: [(&str, &str); 8] = [
    ("today", "heute"),
    ("often", "oft"),
    ("now", "jetzt"),
    ("here", "hier"),
    ("sometimes", "manchmal"),
    ("tomorrow", "morgen"),
    ("perhaps", "vielleicht"),
    ("then", "dann"),
];

pub(super) const NAMES: [&str; 6] = ["Anna", "Boris", "Clara", "David", "Emma", "Felix"];

/// From two; those above have digits.
pub(super) const NUMBERS: [(&str, &str); 11] = [
    ("two", "zwei"),
    ("three", "drei"),
    ("four", "vier"),
    ("five", "fünf"),
    ("six", "sechs"),
    ("seven", "sieben"),
    ("eight", "acht"),
    ("nine", "neun"),
    ("ten", "zehn"),
    ("eleven", "elf"),
    ("twelve", "zwölf"),
];
