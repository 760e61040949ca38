//! What the process that asks NVIDIA's library prints of cards.
#![no_main]

use fuzz::target;
use fuzz::texts;
use node_init::{
    nvidia::reading,
    stages::cards::{self, Card, Cards},
};

target!(|bytes: &[u8]| {
    let [before, now] = texts(bytes);
    let (before, now) = (reading::parse(&before), reading::parse(&now));
    for card in before.iter().chain(&now) {
        assert!(!card.name.contains(char::is_control) && card.name.chars().count() <= 64);
    }
    // A sentence for each of two kinds of errors.
    assert!(reading::errors_since(&before, &now).len() <= 2 * now.len());
    assert!(reading::not_persistent_since(&before, &now).len() <= now.len());
    let card = Card {
        address: "0000:01:00.0".into(),
        pci_id: "10de:2684".into(),
        name: None,
        memory_bytes: None,
        usable: Ok(()),
    };
    let mut cards = Cards::default();
    cards.cards.push(card);
    for readings in [&before, &now] {
        cards::take_readings(&mut cards, readings);
    }
});
