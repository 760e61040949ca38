//! Which machines are in a group: pure.

use super::{Document, Placed};
use protocol::configuration::Member;
use std::collections::BTreeMap;

/// The machines of a group, by MAC address: those that the document puts there, and those that a rule
/// did while the document says nothing of their groups.
pub fn members(document: &Document, placed: &BTreeMap<String, Placed>, group: &str) -> Vec<Member> {
    let own = document.machine.iter();
    let own = own.filter(|(_, own)| own.groups.iter().any(|name| name == group));
    let says = |mac: &str| document.machine.get(mac).is_some_and(|own| !own.groups.is_empty());
    let placed = placed
        .iter()
        .filter(|(mac, placed)| placed.group.as_deref() == Some(group) && !says(mac))
        .map(|(mac, placed)| (mac, Some(placed.rule.clone())));
    let all: BTreeMap<&String, Option<String>> =
        own.map(|(mac, _)| (mac, None)).chain(placed).collect();
    let name = |mac: &str| {
        let name = document.machine.get(mac)?.values.get("name")?;
        name.as_str().map(str::to_owned)
    };
    let member = |(mac, rule): (&String, _)| Member { mac: mac.clone(), name: name(mac), rule };
    all.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::Machine;

    #[test]
    fn a_group_has_the_machines_that_the_document_names_and_those_that_a_rule_put_there() {
        let in_group = |names: &[&str]| Machine {
            groups: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Machine::default()
        };
        let placed = |group: &str| Placed {
            rule: "r".into(),
            group: Some(group.into()),
            ..Placed::default()
        };
        let mut named = in_group(&["b", "a"]);
        named.values.insert("name".into(), "bear".into());
        let document = Document {
            machine: [
                ("52:54:00:00:00:01".to_owned(), named),
                ("52:54:00:00:00:02".to_owned(), in_group(&["b"])),
                ("52:54:00:00:00:03".to_owned(), Machine::default()),
            ]
            .into(),
            ..Document::default()
        };
        let placed = [
            ("52:54:00:00:00:02".to_owned(), placed("a")),
            ("52:54:00:00:00:03".to_owned(), placed("a")),
        ];
        let found = members(&document, &placed.into(), "a");
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.mac.as_str(), one.name.as_deref(), one.rule.as_deref()))
            .collect();
        let first = ("52:54:00:00:00:01", Some("bear"), None);
        assert_eq!(told, [first, ("52:54:00:00:00:03", None, Some("r"))]);
    }
}
