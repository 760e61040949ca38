//! Patterns of drivers against names of devices, and depmod's tables.
#![no_main]

use fuzz::target;
use fuzz::texts;
use node_init::modalias::{Catalogue, matches};
use std::collections::BTreeSet;

target!(|bytes: &[u8]| {
    let [pattern, device, dep, softdep] = texts(bytes);
    let found = matches(&pattern, &device);
    // The plain definition takes time without bound where there are many stars.
    if pattern.len() < 10 && device.len() < 10 && !pattern.contains(['[', '\\']) {
        assert_eq!(found, plainly(pattern.as_bytes(), device.as_bytes()));
    }
    let catalogue = Catalogue::parse(pattern.into_owned(), &dep, &softdep);
    for module in catalogue.matching(&device) {
        let mut loaded = BTreeSet::new();
        let order = catalogue.load_order(module, &mut loaded);
        assert_eq!(order.len(), loaded.len());
    }
    for module in dep.split_ascii_whitespace() {
        catalogue.load_order(module, &mut BTreeSet::new());
    }
});

/// What `*` and `?` mean.
fn plainly(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| plainly(rest, &text[skip..])),
        ([b'?', rest @ ..], [_, text @ ..]) => plainly(rest, text),
        ([one, rest @ ..], [byte, text @ ..]) if one == byte => plainly(rest, text),
        _ => false,
    }
}
