//! The rule in a catalogue's header that says which plural form goes with a number.
#![no_main]

use fuzz::target;
use text::gettext::PluralRule;

target!(|text: &str| {
    for text in [text, &format!("nplurals=3; plural={text}")] {
        let Ok(rule) = text.parse::<PluralRule>() else { continue };
        for n in [0, 1, 2, 5, 11, 101, u64::MAX] {
            let _ = rule.form_of(n);
        }
        if let Some(usual) = rule.usual_plural() {
            assert!((2..=100).any(|n| rule.form_of(n) == Some(usual)));
        }
    }
});
