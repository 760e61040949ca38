//! Links that go and come back: what people are told of them. Pure.

use std::{collections::BTreeMap, time::Duration};

/// A link that came back must stay this long before people are told.
const STEADY: Duration = Duration::from_secs(5);

/// What is known of the links that the machine's network stands on.
#[derive(Clone, Debug, Default)]
pub struct Flaps {
    lost: BTreeMap<String, Lost>,
}

#[derive(Clone, Debug)]
struct Lost {
    since: Duration,
    /// When it came back, while it has not been there for long.
    back: Option<Duration>,
    times: u32,
}

impl Flaps {
    /// Takes in at `now` whether a link is there; gives what to tell people: whether it is back,
    /// and a sentence.
    pub fn step(&mut self, now: Duration, link: &str, carrier: bool) -> Option<(bool, String)> {
        let Some(lost) = self.lost.get_mut(link) else {
            if carrier {
                return None;
            }
            self.lost.insert(link.to_owned(), Lost { since: now, back: None, times: 1 });
            return Some((
                false,
                format!("{link} has lost its link: look at its cable and switch port"),
            ));
        };
        match (carrier, lost.back) {
            (false, Some(_)) => {
                lost.times = lost.times.saturating_add(1);
                lost.back = None;
                None
            }
            (true, None) => {
                lost.back = Some(now);
                None
            }
            (true, Some(back)) if now.saturating_sub(back) >= STEADY => {
                let away = back.saturating_sub(lost.since).as_secs();
                let detail = match lost.times {
                    1 => format!("{link} has its link again after {away} s"),
                    times => {
                        format!("{link} has its link again; it was lost {times} times in {away} s")
                    }
                };
                self.lost.remove(link);
                Some((true, detail))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_link_that_goes_and_comes_back_is_told_of_twice() {
        let mut flaps = Flaps::default();
        assert_eq!(flaps.step(SECOND, "eth0", true), None);
        let (back, told) = flaps.step(SECOND * 2, "eth0", false).unwrap();
        assert!(!back && told.contains("eth0 has lost its link"), "{told}");
        assert_eq!(flaps.step(SECOND * 10, "eth0", true), None);
        let (back, told) = flaps.step(SECOND * 15, "eth0", true).unwrap();
        assert!(back && told == "eth0 has its link again after 8 s", "{told}");
        assert_eq!(flaps.step(SECOND * 16, "eth0", true), None);
    }

    #[test]
    fn a_loose_cable_is_told_of_once_until_it_is_steady() {
        let mut flaps = Flaps::default();
        let told: Vec<_> = (0..100)
            .filter_map(|n| flaps.step(SECOND * n, "eth0", n % 4 > 1 || n > 80))
            .map(|(_, told)| told)
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("it was lost 21 times"), "{told:?}");
    }
}
