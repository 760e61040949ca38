//! Rules of enrolment: which newcomer fits one, and whether it has room.

use super::Rule;
use crate::{machine::Mac, quirks::prefix::Prefix};
use jiff::Timestamp;
use protocol::{Digest, PublicKey};
use std::collections::BTreeMap;

/// The most entries of each of a rule's lists.
const MAX_LIST: usize = 4_096;
/// The largest limit: more machines than are kept.
const MAX_LIMIT: u64 = 1_000_000;
/// The longest serial number.
const MAX_SERIAL_LEN: usize = 64;

/// What a newcomer says of itself; key and chip it has proven.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// The address that it booted from.
    pub mac: Mac,
    /// Its firmware's serial number.
    pub serial: &'a str,
    /// Its node key.
    pub node: PublicKey,
    /// Its TPM.
    pub chip: Option<Digest>,
}

/// Whether a newcomer is let in, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By this one.
    By(String),
    /// By none; what those say that fit and do not let it in.
    None(Vec<String>),
}

/// What is wrong with a rule by itself. Prefixes are written as we write them.
pub(super) fn check(rule: &mut Rule) -> Vec<String> {
    let mut mistakes = Vec::new();
    let lengths = [rule.serials.len(), rule.macs.len(), rule.nodes.len(), rule.chips.len()];
    if lengths == [0; 4] {
        mistakes.push(
            "it fits every machine: give at least one of serials, macs, nodes and chips (or start \
             the provisioner with --approval automatic)"
                .into(),
        );
    }
    if lengths.iter().any(|length| *length > MAX_LIST) {
        mistakes.push(format!("a list has more than {MAX_LIST} entries"));
    }
    for serial in &mut rule.serials {
        *serial = serial.trim().into();
        if serial.is_empty()
            || serial.len() > MAX_SERIAL_LEN
            || serial.chars().any(char::is_control)
        {
            mistakes.push(format!("the serial number {serial:?}: 1 to 64 bytes are wanted"));
        }
    }
    for mac in &mut rule.macs {
        match mac.parse::<Prefix>() {
            Ok(prefix) => *mac = prefix.to_string(),
            Err(error) => mistakes.push(error.to_string()),
        }
    }
    if let Some(expires) = &rule.expires
        && expires.parse::<Timestamp>().is_err()
    {
        mistakes.push(format!("expires {expires:?}: a time as 2026-12-31T00:00:00Z is wanted"));
    }
    if rule.limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
        mistakes.push(format!("limit: 1 to {MAX_LIMIT} is wanted; a rule for nobody is left out"));
    }
    mistakes
}

impl Rule {
    /// Whether a newcomer fits it.
    pub fn fits(&self, claims: &Claims<'_>) -> bool {
        let prefix = |mac: &String| mac.parse::<Prefix>().is_ok_and(|mac| mac.fits(claims.mac));
        let serial = claims.serial.trim();
        (self.serials.is_empty() || self.serials.iter().any(|known| known == serial))
            && (self.macs.is_empty() || self.macs.iter().any(prefix))
            && (self.nodes.is_empty() || self.nodes.contains(&claims.node))
            && (self.chips.is_empty() || claims.chip.is_some_and(|chip| self.chips.contains(&chip)))
    }

    /// Whether its time is over at `now`, milliseconds since 1970. A time that cannot be read is over.
    pub fn is_over(&self, now: u64) -> bool {
        let ends = |text: &String| {
            text.parse::<Timestamp>().map_or(0, |ends| ends.as_millisecond().max(0).cast_unsigned())
        };
        self.expires.as_ref().is_some_and(|text| ends(text) <= now)
    }
}

/// Finds the rule that lets a newcomer in: the first by name that fits and has time and room. `taken`
/// says how many other machines each rule let in.
pub fn judge(
    rules: &BTreeMap<String, Rule>,
    claims: &Claims<'_>,
    taken: &BTreeMap<String, u64>,
    now: u64,
) -> Verdict {
    let mut why = Vec::new();
    for (name, rule) in rules.iter().filter(|(_, rule)| rule.fits(claims)) {
        let count = taken.get(name).copied().unwrap_or(0);
        match rule.limit {
            _ if rule.is_over(now) => why.push(format!("rule {name} is over")),
            Some(limit) if count >= limit => {
                why.push(format!("rule {name} has let in its {limit} machines"));
            }
            _ => return Verdict::By(name.clone()),
        }
    }
    Verdict::None(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::SecretKey;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn claims(serial: &str) -> Claims<'_> {
        Claims { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), serial, node: key(1), chip: None }
    }

    fn rule() -> Rule {
        Rule { serials: vec!["S-1".into()], macs: vec!["52:54:00".into()], ..Rule::default() }
    }

    #[test]
    fn of_each_list_that_is_given_one_must_fit() {
        assert!(rule().fits(&claims(" S-1 ")));
        assert!(!rule().fits(&claims("S-2")));
        assert!(!Rule { macs: vec!["52:54:01".into()], ..rule() }.fits(&claims("S-1")));
        assert!(!Rule { nodes: vec![key(2)], ..rule() }.fits(&claims("S-1")));
        assert!(Rule { nodes: vec![key(2), key(1)], ..rule() }.fits(&claims("S-1")));
        let chip = Digest([7; 32]);
        let with = Claims { chip: Some(chip), ..claims("S-1") };
        assert!(!Rule { chips: vec![chip], ..rule() }.fits(&claims("S-1")), "it proved none");
        assert!(Rule { chips: vec![chip], ..rule() }.fits(&with));
    }

    #[test]
    fn a_rule_that_is_over_or_full_lets_nobody_in_and_says_so() {
        let ends = Rule { expires: Some("1970-01-01T00:00:10Z".into()), limit: Some(2), ..rule() };
        let rules: BTreeMap<String, Rule> = [("a".to_string(), ends), ("b".into(), rule())].into();
        let judged =
            |taken: u64, now| judge(&rules, &claims("S-1"), &[("a".into(), taken)].into(), now);
        assert_eq!(judged(1, 9_999), Verdict::By("a".into()));
        assert_eq!(judged(2, 9_999), Verdict::By("b".into()), "the first with room");
        assert_eq!(judged(1, 10_000), Verdict::By("b".into()));
        let mut alone = rules.clone();
        alone.remove("b");
        let judged =
            |taken: u64, now| judge(&alone, &claims("S-1"), &[("a".into(), taken)].into(), now);
        assert_eq!(judged(0, 10_000), Verdict::None(vec!["rule a is over".into()]));
        let Verdict::None(why) = judged(2, 0) else { unreachable!() };
        assert!(why[0].contains("its 2 machines"), "{why:?}");
    }

    #[test]
    fn a_rule_that_fits_everybody_or_says_nonsense_is_refused() {
        let mistakes = |mut rule: Rule| check(&mut rule).join("; ");
        assert!(mistakes(Rule::default()).contains("fits every machine"));
        let bad = Rule {
            macs: vec!["52:54".into()],
            expires: Some("tomorrow".into()),
            limit: Some(0),
            ..rule()
        };
        let text = mistakes(bad);
        for part in ["MAC prefix", "2026-12-31", "limit: 1 to"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(mistakes(rule()), "");
    }
}
