//! What holds for one machine, and where each part of it comes from.

use super::{Document, Json, Placed, Settings, Values};
use crate::machine::Mac;
use protocol::configuration::{Effective, Sourced};
use std::collections::BTreeMap;

/// Settles a machine's values: the front-end's `file`, then its own table, its groups in their order (or
/// the one where a rule put it, while the document names none), and the defaults. Whoever is first to
/// say something of a key says all of it. A group that is no more says nothing.
pub fn effective(
    revision: u64,
    document: &Document,
    file: Option<&Values>,
    placed: Option<&Placed>,
    mac: Mac,
) -> Effective<Json> {
    let mut settled = Effective { revision, ..Effective::default() };
    if let Some(file) = file {
        take(&mut settled.values, file, "file");
    }
    let own = document.machine.get(&mac.to_string());
    if let Some(own) = own {
        take(&mut settled.values, &own.values, "machine");
        take(&mut settled.labels, &own.labels, "machine");
        settled.groups.clone_from(&own.groups);
    }
    if let Some(placed) = placed {
        take(&mut settled.labels, &placed.labels, &format!("rule {}", placed.rule));
        if settled.groups.is_empty() {
            settled.groups.extend(placed.group.clone());
        }
    }
    settled.groups.retain(|name| document.group.contains_key(name));
    for name in &settled.groups {
        if let Some(group) = document.group.get(name) {
            let from = format!("group {name}");
            take(&mut settled.values, &group.values, &from);
            take(&mut settled.labels, &group.labels, &from);
        }
    }
    take(&mut settled.values, &document.defaults, "defaults");
    settled
}

/// The typed values.
pub fn settings(effective: &Effective<Json>) -> Settings {
    let plain = effective.values.iter().map(|(key, value)| (key.clone(), value.value.clone()));
    Settings::of(&plain.collect())
}

fn take<V: Clone>(
    settled: &mut BTreeMap<String, Sourced<V>>,
    more: &BTreeMap<String, V>,
    from: &str,
) {
    for (key, value) in more {
        let sourced = || Sourced { value: value.clone(), from: from.into() };
        settled.entry(key.clone()).or_insert_with(sourced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::{Group, Machine};
    use serde_json::json;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn values<const N: usize>(all: [(&str, Json); N]) -> Values {
        all.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    #[test]
    fn the_file_outweighs_the_machine_that_its_groups_in_their_order_and_those_the_defaults() {
        let group = |set: Values| Group {
            labels: [("site".to_string(), set.len().to_string())].into(),
            values: set,
            ..Group::default()
        };
        let all = |n: u64| {
            values([
                ("rate", json!(n)),
                ("window", json!(n)),
                ("blksize", json!(n)),
                ("https", json!(n)),
                ("owner", json!(n)),
                ("jobs", json!(n)),
            ])
        };
        let without = |n: u64, keys: &[&str]| {
            let mut values = all(n);
            values.retain(|key, _| !keys.contains(&key.as_str()));
            values
        };
        let document = Document {
            defaults: all(6),
            group: [
                ("first".to_string(), group(without(3, &["rate", "jobs", "owner"]))),
                ("second".to_string(), group(without(4, &["jobs", "owner"]))),
                ("third".to_string(), group(without(5, &["jobs"]))),
            ]
            .into(),
            machine: [(
                MAC.to_string(),
                Machine {
                    groups: vec!["first".into(), "second".into()],
                    values: values([("window", json!(2)), ("blksize", json!(2))]),
                    ..Machine::default()
                },
            )]
            .into(),
            ..Document::default()
        };
        let placed = Placed {
            rule: "r".into(),
            group: Some("third".into()),
            labels: [("site".to_string(), "by rule".to_string())].into(),
        };
        let file = values([("blksize", json!(1))]);
        let settled = effective(7, &document, Some(&file), Some(&placed), MAC);
        let told: Vec<(&str, &str, u64)> = settled
            .values
            .iter()
            .map(|(key, value)| (key.as_str(), value.from.as_str(), value.value.as_u64().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("blksize", "file", 1),
                ("https", "group first", 3),
                ("jobs", "defaults", 6),
                ("owner", "defaults", 6),
                ("rate", "group second", 4),
                ("window", "machine", 2),
            ]
        );
        assert_eq!(settled.groups, ["first", "second"], "an operator's word, not the rule's");
        assert_eq!(settled.labels["site"].from, "rule r");
        let by_rule = effective(7, &document, None, Some(&placed), Mac([2, 0, 0, 0, 0, 2]));
        assert_eq!(by_rule.values["owner"].from, "group third");
        assert_eq!(by_rule.groups, ["third"]);
        let other = effective(7, &document, None, None, Mac([2, 0, 0, 0, 0, 2]));
        assert!(other.values.values().all(|value| value.from == "defaults"));
    }

    #[test]
    fn a_group_that_is_gone_says_nothing() {
        let placed = Placed { rule: "r".into(), group: Some("gone".into()), ..Placed::default() };
        let settled = effective(1, &Document::default(), None, Some(&placed), MAC);
        assert!(settled.groups.is_empty() && settled.values.is_empty());
    }
}
