//! Our BLEU beside sacreBLEU's: recorded scores always, and sacreBLEU itself where the environment
//! variable `ALIA_SACREBLEU_PYTHON` names a Python that has it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use text::bleu::Bleu;

/// How far a score may be off: rounding in `exp` and `ln`.
const TOLERANCE: f64 = 1e-6;

/// Name, pairs of translation and reference, and what sacreBLEU 2.6.0 gave for them
/// (`sacrebleu.corpus_bleu(translations, [references])`): score, precisions, brevity penalty,
/// tokens of translation and reference.
type Case = (&'static str, &'static [(&'static str, &'static str)], f64, [f64; 4], f64, u64, u64);

const CASES: &[Case] = &[
    (
        "the same",
        &[("Der kleine Hund sieht zwei rote Häuser.", "Der kleine Hund sieht zwei rote Häuser.")],
        100.00000000000004,
        [100.0, 100.0, 100.0, 100.0],
        1.0,
        8,
        8,
    ),
    (
        "nothing in common",
        &[("Guten Morgen allerseits heute", "der Zug fährt nicht mehr")],
        0.0,
        [0.0, 0.0, 0.0, 0.0],
        0.7788007830714049,
        4,
        5,
    ),
    (
        "one word wrong",
        &[("Die Katze sitzt auf dem Tisch im Garten.", "Die Katze sitzt auf dem Stuhl im Garten.")],
        59.694917920196445,
        [88.88888888888889, 75.0, 57.142857142857146, 33.333333333333336],
        1.0,
        9,
        9,
    ),
    (
        "shorter than its reference",
        &[("Das Boot fährt", "Das Boot fährt morgen früh über den großen See.")],
        0.0,
        [100.0, 100.0, 100.0, 0.0],
        0.09697196786440505,
        3,
        10,
    ),
    (
        "longer than its reference",
        &[(
            "Das Boot fährt morgen früh über den großen See, sagt man hier.",
            "Das Boot fährt morgen.",
        )],
        18.798317647335093,
        [35.714285714285715, 23.076923076923077, 16.666666666666668, 9.090909090909092],
        1.0,
        14,
        5,
    ),
    (
        "fewer than four tokens",
        &[("Datei öffnen", "Datei öffnen")],
        0.0,
        [100.0, 100.0, 0.0, 0.0],
        1.0,
        2,
        2,
    ),
    (
        "fewer than four tokens beside longer ones",
        &[
            ("Datei öffnen", "Datei öffnen"),
            (
                "Das alte Pferd trägt den schweren Wagen",
                "Das alte Pferd trägt einen schweren Wagen",
            ),
        ],
        50.197242487957936,
        [88.88888888888889, 71.42857142857143, 40.0, 25.0],
        1.0,
        9,
        9,
    ),
    (
        "an empty translation",
        &[
            ("", "Etwas fehlt hier."),
            ("Hier fehlt ganz und gar nichts.", "Hier fehlt ganz und gar nichts."),
        ],
        56.47181220077595,
        [100.0, 100.0, 100.0, 100.0],
        0.5647181220077593,
        7,
        11,
    ),
    ("nothing at all", &[("", "")], 0.0, [0.0, 0.0, 0.0, 0.0], 1.0, 0, 0),
    (
        "only an empty reference",
        &[("Zu viel des Guten ist da", "")],
        0.0,
        [0.0, 0.0, 0.0, 0.0],
        1.0,
        6,
        0,
    ),
    (
        "no four-gram matches",
        &[("ein Baum steht am Haus und blüht", "am Haus steht und blüht ein Baum")],
        23.643540225079395,
        [100.0, 50.0, 10.0, 6.25],
        1.0,
        7,
        7,
    ),
    (
        "repeated words count as often as in the reference",
        &[("die die die die die die", "die Uhr und die Tür")],
        9.652434877402245,
        [33.333333333333336, 10.0, 6.25, 4.166666666666667],
        1.0,
        6,
        5,
    ),
    (
        "numbers, stops and hyphens",
        &[(
            "Es kostet 1,000.50 Euro, d.h. 5-10 mehr als 3.",
            "Es kostet 1,000.50 Euro, d. h. 5 - 10 mehr als 3 .",
        )],
        100.00000000000004,
        [100.0, 100.0, 100.0, 100.0],
        1.0,
        16,
        16,
    ),
    (
        "entities and signs",
        &[(
            "&quot;A &amp; B&quot; &lt;b&gt;fett&lt;/b&gt; (x) [y] 100%!",
            "\"A & B\" <b>fett</b> (x) [y] 100 % !",
        )],
        100.00000000000004,
        [100.0, 100.0, 100.0, 100.0],
        1.0,
        22,
        22,
    ),
    (
        "placeholders",
        &[(
            "%s: kann '%s' nicht öffnen (Fehler %d)",
            "%s: '%s' kann nicht geöffnet werden (Fehler %d)",
        )],
        42.46938486270644,
        [92.85714285714286, 61.53846153846154, 41.666666666666664, 18.181818181818183],
        0.9310627797040228,
        14,
        15,
    ),
    (
        "what other scripts have for stops",
        &[
            ("これは本です。 それは犬です。", "これは本です。 あれは犬です。"),
            ("Цена — 5,5 рубля…", "Цена - 5,5 рубля ..."),
        ],
        10.722048562008837,
        [50.0, 12.5, 12.5, 12.5],
        0.6065306597126334,
        6,
        9,
    ),
    (
        "line ends, skipped marks, odd spaces",
        &[(
            "ab-\nge\u{a0}brochen <skipped>und\u{2009}weiter\u{1c}so  ",
            "abge brochen und weiter so",
        )],
        100.00000000000004,
        [100.0, 100.0, 100.0, 100.0],
        1.0,
        5,
        5,
    ),
    (
        "apostrophes and accents",
        &[("l'été n'est pas d'ici, c'est sûr", "l' été n'est pas d'ici , c'est sûr")],
        70.1396726799769,
        [85.71428571428571, 83.33333333333333, 80.0, 75.0],
        0.8668778997501817,
        7,
        8,
    ),
    (
        "case counts",
        &[("der hund bellt laut im garten", "Der Hund bellt laut im Garten")],
        30.213753973567677,
        [50.0, 40.0, 25.0, 16.666666666666668],
        1.0,
        6,
        6,
    ),
    (
        "a small corpus",
        &[
            ("Die Maschine ist alt, aber schnell.", "Die Maschine ist alt, doch schnell."),
            ("Öffnen Sie %d Dateien?", "%d Dateien öffnen?"),
            (
                "Anna sagt, dass der Vogel das Fenster sieht.",
                "Anna sagt, dass der Vogel das Fenster sieht.",
            ),
            ("Speichern unter …", "Speichern unter..."),
            (
                "Heute kauft die Frau 17 Äpfel und drei Lampen.",
                "Heute hat die Frau 17 Äpfel und drei Lampen gekauft.",
            ),
        ],
        65.69882580718141,
        [86.48648648648648, 71.875, 62.96296296296296, 59.09090909090909],
        0.9473808953395989,
        37,
        39,
    ),
];

#[test]
fn scores_are_those_that_sacrebleu_gave() {
    for (name, pairs, score, precisions, brevity_penalty, translation, reference) in CASES {
        let bleu = ours(pairs);
        assert!(close(bleu.score, *score), "{name}: {bleu}, sacreBLEU {score}");
        for (ours, theirs) in bleu.precisions.iter().zip(precisions) {
            assert!(close(*ours, *theirs), "{name}: {bleu}, sacreBLEU {precisions:?}");
        }
        assert!(close(bleu.brevity_penalty, *brevity_penalty), "{name}: {bleu}");
        assert_eq!((bleu.translation_tokens, bleu.reference_tokens), (*translation, *reference));
    }
}

#[test]
fn scores_are_those_of_sacrebleu_itself() {
    let Some(python) = std::env::var_os("ALIA_SACREBLEU_PYTHON") else {
        eprintln!("not compared: ALIA_SACREBLEU_PYTHON is not set");
        return;
    };
    let mut corpora: Vec<Vec<(String, String)>> = CASES
        .iter()
        .map(|case| case.1.iter().map(|(t, r)| ((*t).into(), (*r).into())).collect())
        .collect();
    corpora.extend((0..300).map(hostile_corpus));
    let theirs = sacrebleu(&python, &corpora);
    assert_eq!(theirs.len(), corpora.len());
    for (corpus, theirs) in corpora.iter().zip(theirs) {
        let bleu = ours(corpus);
        let score = theirs["score"].as_f64().unwrap();
        assert!(close(bleu.score, score), "{bleu}, sacreBLEU {theirs}: {corpus:?}");
        assert_eq!(bleu.to_string(), theirs["text"].as_str().unwrap(), "{corpus:?}");
        let signature = theirs["signature"].as_str().unwrap();
        let (theirs, _) = signature.rsplit_once(':').unwrap();
        assert_eq!(Bleu::signature().rsplit_once(':').unwrap().0, theirs);
    }
}

#[test]
fn unequal_numbers_of_sentences_are_refused_with_both() {
    let error = Bleu::of(&["a", "b"], &["a"]).unwrap_err().to_string();
    assert_eq!(error, "2 translations cannot be scored against 1 references");
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= TOLERANCE
}

fn ours<T: AsRef<str>>(pairs: &[(T, T)]) -> Bleu {
    let translations: Vec<&str> = pairs.iter().map(|pair| pair.0.as_ref()).collect();
    let references: Vec<&str> = pairs.iter().map(|pair| pair.1.as_ref()).collect();
    Bleu::of(&translations, &references).unwrap()
}

/// Sentences of what tokenizers trip over, the translation partly like its reference.
fn hostile_corpus(seed: u64) -> Vec<(String, String)> {
    const WORDS: [&str; 44] = [
        "der",
        "Hund",
        "sieht",
        "1,000.5",
        "3.",
        ".5",
        "5-10",
        "e-mail",
        "--",
        "...",
        ",",
        ".",
        "!?",
        "&quot;",
        "&amp;lt;",
        "&lt;b&gt;",
        "&",
        "R&D",
        "<skipped>",
        "-\n",
        "\n",
        "\t",
        "\u{a0}",
        "\u{1c}",
        "\u{85}",
        "\u{3000}",
        "'s",
        "d'",
        "„so“",
        "…",
        "%s",
        "%1$s",
        "{0}",
        "日本語。",
        "٣٫٥",
        "½",
        "a.b.c",
        "1.2.3",
        "x,y",
        "A/B",
        "[x]",
        "$5.00",
        "ß",
        "\u{feff}",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let mut sentence = |from: Option<&Vec<String>>| -> Vec<String> {
        let random = |below: &mut dyn FnMut(u64) -> u64| WORDS[below(WORDS.len() as u64) as usize];
        match from {
            None => (0..below(14)).map(|_| random(&mut below).to_owned()).collect(),
            Some(from) => from
                .iter()
                .filter_map(|word| match below(8) {
                    0 => None,
                    1 => Some(random(&mut below).to_owned()),
                    _ => Some(word.clone()),
                })
                .collect(),
        }
    };
    let glue = ["", " ", " ", "  "][(seed % 4) as usize];
    (0..1 + seed % 7)
        .map(|_| {
            let reference = sentence(None);
            let translation = sentence(Some(&reference));
            (translation.join(glue), reference.join(glue))
        })
        .collect()
}

fn sacrebleu(python: &std::ffi::OsStr, corpora: &[Vec<(String, String)>]) -> Vec<Value> {
    const PROGRAM: &str = "
import json, sys
from sacrebleu.metrics import BLEU
scores = []
for corpus in json.load(sys.stdin):
    bleu = BLEU()
    score = bleu.corpus_score([pair[0] for pair in corpus], [[pair[1] for pair in corpus]])
    scores.append({'score': score.score, 'text': str(score), 'signature': str(bleu.get_signature())})
json.dump(scores, sys.stdout)
";
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the Python that ALIA_SACREBLEU_PYTHON names");
    let input = json!(corpora).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "sacreBLEU failed: is it installed in that Python?");
    serde_json::from_slice(&output.stdout).unwrap()
}
