//! What NVIDIA's management library says of cards, as `compute cards` prints it.

use protocol::nvidia::Reading;

/// The most that is read of what it prints.
pub const MAX_OUTPUT: usize = 64 << 10;
/// The longest name of a card that is kept.
const MAX_NAME: usize = 64;

/// The cards among its lines; what else it printed is passed over.
pub fn parse(output: &str) -> Vec<Reading> {
    let cards = output.lines().filter_map(|line| serde_json::from_str::<Reading>(line).ok());
    let tidy = |mut card: Reading| {
        card.name = card.name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
        card
    };
    cards.map(tidy).collect()
}

/// What is to be told of errors that came since: whether it is grave, and a sentence.
pub fn errors_since(before: &[Reading], now: &[Reading]) -> Vec<(bool, String)> {
    let mut told = Vec::new();
    for card in now {
        let Some(ecc) = card.ecc else { continue };
        let earlier = before.iter().find(|earlier| earlier.address == card.address);
        let earlier = earlier.and_then(|earlier| earlier.ecc).unwrap_or_default();
        let name = &card.name;
        let at = format!("{name} at {}", card.address);
        let new = ecc.uncorrected.saturating_sub(earlier.uncorrected);
        if new > 0 {
            told.push((true, format!("{at}: {new} errors of memory that were not mended")));
        }
        let new = ecc.corrected.saturating_sub(earlier.corrected);
        if new > 0 {
            told.push((false, format!("{at}: {new} errors of memory, mended")));
        }
    }
    told
}

/// What is to be told of cards whose persistence mode is off by now and was not known to be: they
/// stay started by their open files alone.
pub fn not_persistent_since(before: &[Reading], now: &[Reading]) -> Vec<String> {
    let off = |card: &&Reading| card.persistent == Some(false);
    let known = |card: &Reading| before.iter().filter(off).any(|old| old.address == card.address);
    let told = now.iter().filter(off).filter(|card| !known(card)).map(|card| {
        format!(
            "{} at {}: the driver's persistence mode is off; the card stays started as long as PID 1 \
             has its file open",
            card.name, card.address
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::nvidia::Ecc;

    fn card(corrected: u64, uncorrected: u64) -> Reading {
        Reading {
            address: "0000:01:00.0".into(),
            name: "NVIDIA X".into(),
            memory_bytes: 1 << 34,
            persistent: Some(true),
            ecc: Some(Ecc { corrected, uncorrected }),
            milliwatts: None,
            millidegrees: None,
        }
    }

    #[test]
    fn cards_are_read_and_other_lines_passed_over() {
        let line = serde_json::to_string(&card(0, 0)).unwrap();
        let output = format!("a warning\n{line}\n{{\"address\": 7}}\n");
        assert_eq!(parse(&output), [card(0, 0)]);
    }

    #[test]
    fn errors_are_told_once_and_the_grave_ones_as_such() {
        let told = errors_since(&[], &[card(2, 0)]);
        assert_eq!(told, [(false, "NVIDIA X at 0000:01:00.0: 2 errors of memory, mended".into())]);
        assert_eq!(errors_since(&[card(2, 0)], &[card(2, 0)]), []);
        let told = errors_since(&[card(2, 0)], &[card(2, 1)]);
        assert!(told[0].0 && told[0].1.contains("not mended"), "{told:?}");
        // A driver that was loaded anew counts from nothing.
        assert_eq!(errors_since(&[card(2, 1)], &[card(0, 0)]), []);
        let unchecked = Reading { ecc: None, ..card(0, 0) };
        assert_eq!(errors_since(&[], &[unchecked]), []);
    }

    #[test]
    fn persistence_that_is_known_to_be_off_is_told_once() {
        let with = |persistent| [Reading { persistent, ..card(0, 0) }];
        let (on, off, unknown) = (with(Some(true)), with(Some(false)), with(None));
        let told = not_persistent_since(&[], &off);
        let begins = "NVIDIA X at 0000:01:00.0: the driver's persistence mode is off";
        assert!(told.len() == 1 && told[0].starts_with(begins), "{told:?}");
        assert_eq!(not_persistent_since(&off, &off), [""; 0]);
        assert_eq!(not_persistent_since(&on, &off), told);
        for other in [on, unknown] {
            assert_eq!(not_persistent_since(&off, &other), [""; 0]);
        }
    }

    proptest! {
        #[test]
        fn no_output_panics(output in "(\\{\"address\":\"|name|[0-9\":,{}]|\n|\\PC){0,40}") {
            let cards = parse(&output);
            errors_since(&[], &cards);
            not_persistent_since(&[], &cards);
        }
    }
}
