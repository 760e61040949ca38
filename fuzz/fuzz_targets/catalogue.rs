//! A gettext catalogue (`.mo`), to the sentence pairs in it.
#![no_main]

use fuzz::target;
use text::{
    catalogues::{Collected, language_of},
    gettext::{pairs, parse},
    normalise::normalise,
};

target!(|bytes: &[u8]| {
    if let Ok(path) = std::str::from_utf8(bytes) {
        language_of(path);
    }
    let Ok(catalogue) = parse(bytes) else { return };
    assert!(catalogue.messages.len() <= bytes.len() / 8);
    let found = pairs(&catalogue);
    let mut total = 0;
    for pair in &found.pairs {
        assert!(!pair.source.is_empty() && !pair.target.is_empty());
        assert_eq!(
            (normalise(&pair.source), normalise(&pair.target)),
            (pair.source.clone(), pair.target.clone())
        );
        total += pair.source.len() + pair.target.len();
    }
    // Latin-1 doubles, composed forms may take thrice, and a plural's text stands twice.
    assert!(total <= 16 * bytes.len(), "{total} bytes of {}", bytes.len());
    let mut collected = Collected::default();
    let path = "usr/share/locale/de/LC_MESSAGES/x.mo";
    collected.add("package", path, bytes, "de").expect("it was read before");
    assert_eq!(collected.pairs, found.pairs);
});
