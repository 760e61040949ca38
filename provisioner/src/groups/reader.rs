//! A document from what somebody wrote: all of it, or all that is wrong with it.

use super::{
    Document, Everything, Group, Json, Labels, Machine, Placed, Rule, Site, Values,
    key::{self, KEYS, Reading, is_line, nearest},
    rule,
};
use crate::machine::Mac;
use protocol::{Signed, node::Delegation};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt};

/// The largest document, as it is kept, in bytes: 10,000 machines with some 200 bytes each.
pub const MAX_DOCUMENT_LEN: usize = 2 << 20;
/// The most machines of a document: as many as are kept at all.
const MAX_MACHINES: usize = 10_000;
const MAX_GROUPS: usize = 256;
const MAX_RULES: usize = 256;
const MAX_OWNERS: usize = 64;
/// The most groups of a machine.
const MAX_GROUPS_OF_ONE: usize = 16;
const MAX_LABELS: usize = 32;
/// The longest name of a group, owner, rule or label.
const MAX_NAME_LEN: usize = 40;
/// The longest value of a label, and line for people.
const MAX_TEXT_LEN: usize = 200;
/// The most mistakes told; whoever made more mends these first.
const MAX_MISTAKES: usize = 100;

/// The parts of a document.
const PARTS: [&str; 5] = ["defaults", "group", "machine", "owner", "rule"];
const RULE_KEYS: [&str; 9] =
    ["about", "serials", "macs", "nodes", "chips", "expires", "limit", "group", "labels"];

/// Something wrong in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `group.rack-7.network`.
    pub at: String,
    /// What is wrong, and what is wanted.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => f.write_str(&self.what),
            at => write!(f, "{at}: {}", self.what),
        }
    }
}

/// A document is not taken. Whoever wrote it has to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// What is wrong, in the document's order.
    pub told: Vec<Mistake>,
    /// How many more there are.
    pub more: usize,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.told.len() + self.more;
        let s = if count == 1 { "" } else { "s" };
        write!(f, "nothing of it was taken, for {count} mistake{s}:")?;
        self.told.iter().try_for_each(|mistake| write!(f, "\n{mistake}"))?;
        if self.more > 0 { write!(f, "\nand {} more", self.more) } else { Ok(()) }
    }
}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self { told: vec![mistake], more: 0 }
    }
}

/// Reads a document.
pub fn document(json: &Json, site: &Site) -> Result<Document, Mistakes> {
    let mut reader = Reader::new(site);
    let document = reader.document(json, &PARTS);
    reader.end(document)
}

/// Reads what was exported: a document, and where rules put machines.
pub fn everything(json: &Json, site: &Site) -> Result<Everything, Mistakes> {
    let mut reader = Reader::new(site);
    let parts: Vec<&str> = PARTS.into_iter().chain(["placed"]).collect();
    let document = reader.document(json, &parts);
    let placed = reader.each(json, "placed", MAX_MACHINES, |reader, at, mac, json| {
        let placed = reader.value::<Placed>(at, json)?;
        let name = placed.group.as_deref().unwrap_or("none");
        reader.hold(at, is_name(&placed.rule) && is_name(name), NAME);
        reader.check_labels(at, &placed.labels);
        Some((reader.mac(at, mac)?, placed))
    });
    reader.end(Everything { document, placed })
}

const NAME: &str = "a name of 1 to 40 of a-z, 0-9, - and _ is wanted";

/// Whether something may be called so.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(plain)
}

/// Like a name, but with what other systems' labels have too.
fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    (1..=MAX_NAME_LEN).contains(&text.len()) && text.bytes().all(plain)
}

struct Reader<'a> {
    site: &'a Site,
    owners: Vec<String>,
    groups: Vec<String>,
    mistakes: Mistakes,
}

type Table = serde_json::Map<String, Json>;

impl<'a> Reader<'a> {
    fn new(site: &'a Site) -> Self {
        let mistakes = Mistakes { told: vec![], more: 0 };
        Self { site, owners: vec![], groups: vec![], mistakes }
    }

    fn end<T>(self, read: T) -> Result<T, Mistakes> {
        if self.mistakes.told.is_empty() { Ok(read) } else { Err(self.mistakes) }
    }

    fn wrong(&mut self, at: &str, what: impl Into<String>) {
        if self.mistakes.told.len() < MAX_MISTAKES {
            self.mistakes.told.push(Mistake { at: at.into(), what: what.into() });
        } else {
            self.mistakes.more += 1;
        }
    }

    fn hold(&mut self, at: &str, holds: bool, wanted: &str) {
        if !holds {
            self.wrong(at, wanted);
        }
    }

    fn unknown<'k>(&mut self, at: &str, key: &str, known: impl Iterator<Item = &'k str>) {
        let key: String = key.chars().take(60).collect();
        let nearest = nearest(&key, known).unwrap_or_default();
        self.wrong(at, format!("the key {key:?} is unknown: did you mean {nearest:?}?"));
    }

    fn table<'j>(&mut self, at: &str, json: &'j Json) -> Option<&'j Table> {
        let table = json.as_object();
        if table.is_none() {
            self.wrong(at, "a table is wanted");
        }
        table
    }

    fn value<T: DeserializeOwned>(&mut self, at: &str, json: &Json) -> Option<T> {
        match serde_json::from_value(json.clone()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(at, error.to_string());
                None
            }
        }
    }

    fn document(&mut self, json: &Json, parts: &[&str]) -> Document {
        let Some(table) = self.table("", json) else { return Document::default() };
        for key in table.keys().filter(|key| !parts.contains(&key.as_str())) {
            self.unknown("", key, parts.iter().copied());
        }
        let length = json.to_string().len();
        if length > MAX_DOCUMENT_LEN {
            let text = format!("{length} bytes: at most {MAX_DOCUMENT_LEN} are taken");
            self.wrong("", text);
            return Document::default();
        }
        let names = |part: &str| {
            let part = table.get(part).and_then(Json::as_object);
            part.map(|part| part.keys().cloned().collect()).unwrap_or_default()
        };
        (self.owners, self.groups) = (names("owner"), names("group"));
        let defaults = table.get("defaults").and_then(|json| self.table("defaults", json));
        let defaults = defaults.map(|table| self.values("defaults", table, &[], false));
        Document {
            defaults: defaults.unwrap_or_default(),
            group: self.each(json, "group", MAX_GROUPS, Self::group),
            machine: self.each(json, "machine", MAX_MACHINES, Self::machine),
            owner: self.each(json, "owner", MAX_OWNERS, Self::owner),
            rule: self.each(json, "rule", MAX_RULES, Self::rule),
        }
    }

    /// The tables of a part, by name.
    fn each<T>(
        &mut self,
        json: &Json,
        part: &str,
        most: usize,
        read: impl Fn(&mut Self, &str, &str, &Json) -> Option<(String, T)>,
    ) -> BTreeMap<String, T> {
        let Some(table) = json.get(part).and_then(|json| self.table(part, json)) else {
            return BTreeMap::new();
        };
        if table.len() > most {
            self.wrong(part, format!("{} of them: at most {most} are taken", table.len()));
            return BTreeMap::new();
        }
        let mut all = BTreeMap::new();
        for (name, json) in table {
            let shown: String = name.chars().take(60).collect();
            let at = format!("{part}.{shown}");
            if let Some((name, value)) = read(self, &at, name, json)
                && all.insert(name, value).is_some()
            {
                self.wrong(&at, "it is there twice, written in two ways");
            }
        }
        all
    }

    fn group(&mut self, at: &str, name: &str, json: &Json) -> Option<(String, Group)> {
        self.hold(at, is_name(name), NAME);
        let table = self.table(at, json)?;
        let group = Group {
            about: self.about(at, table),
            labels: self.labels(at, table),
            values: self.values(at, table, &["about", "labels"], false),
        };
        Some((name.into(), group))
    }

    fn machine(&mut self, at: &str, name: &str, json: &Json) -> Option<(String, Machine)> {
        let mac = self.mac(at, name)?;
        let table = self.table(at, json)?;
        let groups = table
            .get("groups")
            .and_then(|json| self.value::<Vec<String>>(&format!("{at}.groups"), json));
        let groups = groups.unwrap_or_default();
        for group in &groups {
            self.known_group(&format!("{at}.groups"), group);
        }
        let mut sorted = groups.clone();
        sorted.sort();
        sorted.dedup();
        let once = sorted.len() == groups.len() && groups.len() <= MAX_GROUPS_OF_ONE;
        self.hold(&format!("{at}.groups"), once, "at most 16 groups are taken, each once");
        let labels = self.labels(at, table);
        let values = self.values(at, table, &["groups", "labels"], true);
        Some((mac, Machine { groups, labels, values }))
    }

    fn owner(&mut self, at: &str, name: &str, json: &Json) -> Option<(String, Signed<Delegation>)> {
        self.hold(at, is_name(name), NAME);
        let signed = self.value::<Signed<Delegation>>(at, json)?;
        if let Some(chain) = &self.site.chain {
            match signed.verify(chain) {
                Err(error) => self.wrong(at, format!("{error}; have the owner make a new one")),
                Ok(delegation) if self.site.key.is_some_and(|ours| ours != delegation.delegate) => {
                    let text = format!(
                        "it is to key {}, and ours is another: have the owner delegate to ours",
                        delegation.delegate
                    );
                    self.wrong(at, text);
                }
                Ok(_) => {}
            }
        }
        Some((name.into(), signed))
    }

    fn rule(&mut self, at: &str, name: &str, json: &Json) -> Option<(String, Rule)> {
        self.hold(at, is_name(name), NAME);
        let table = self.table(at, json)?;
        for key in table.keys().filter(|key| !RULE_KEYS.contains(&key.as_str())) {
            self.unknown(at, key, RULE_KEYS.into_iter());
        }
        // Each key by itself, so that one mistake hides no other.
        let mut whole = Table::new();
        for (key, value) in table.iter().filter(|(key, _)| RULE_KEYS.contains(&key.as_str())) {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            if self.value::<Rule>(&format!("{at}.{key}"), &Json::Object(alone)).is_some() {
                whole.insert(key.clone(), value.clone());
            }
        }
        let mut rule = self.value::<Rule>(at, &Json::Object(whole))?;
        self.about(at, table);
        self.check_labels(at, &rule.labels);
        if let Some(group) = &rule.group {
            self.known_group(&format!("{at}.group"), group);
        }
        for mistake in rule::check(&mut rule) {
            self.wrong(at, mistake);
        }
        Some((name.into(), rule))
    }

    fn known_group(&mut self, at: &str, name: &str) {
        if self.groups.iter().any(|known| known == name) {
            return;
        }
        let name: String = name.chars().take(60).collect();
        let text = match nearest(&name, self.groups.iter().map(String::as_str)) {
            Some(nearest) => format!("there is no group {name:?}: did you mean {nearest:?}?"),
            None => format!("there is no group {name:?}: make it in the same document"),
        };
        self.wrong(at, text);
    }

    fn mac(&mut self, at: &str, name: &str) -> Option<String> {
        match name.parse::<Mac>() {
            Ok(mac) if mac.is_unicast() => Some(mac.to_string()),
            Ok(_) => {
                self.wrong(at, "that address is no single machine's");
                None
            }
            Err(error) => {
                self.wrong(at, error.to_string());
                None
            }
        }
    }

    fn about(&mut self, at: &str, table: &Table) -> String {
        let Some(json) = table.get("about") else { return String::new() };
        let at = format!("{at}.about");
        let about = self.value::<String>(&at, json).unwrap_or_default();
        let line = about.is_empty() || is_line(&about, MAX_TEXT_LEN);
        self.hold(&at, line, "one line of at most 200 bytes is wanted");
        about
    }

    fn labels(&mut self, at: &str, table: &Table) -> Labels {
        let Some(json) = table.get("labels") else { return Labels::new() };
        let labels = self.value::<Labels>(&format!("{at}.labels"), json).unwrap_or_default();
        self.check_labels(at, &labels);
        labels
    }

    fn check_labels(&mut self, at: &str, labels: &Labels) {
        let good = |(key, value): (&String, &String)| is_label(key) && is_line(value, MAX_TEXT_LEN);
        let holds = labels.len() <= MAX_LABELS && labels.iter().all(good);
        self.hold(
            &format!("{at}.labels"),
            holds,
            "at most 32 labels are taken, each a text by a key of 1 to 40 letters, digits and -_./",
        );
    }

    /// What is left of a table once its `others` are read: values by the table of keys.
    fn values(&mut self, at: &str, table: &Table, others: &[&str], machine: bool) -> Values {
        let mut values = Values::new();
        for (name, json) in table.iter().filter(|(name, _)| !others.contains(&name.as_str())) {
            let Some(key) = key::key(name) else {
                let known = KEYS.iter().map(|key| key.name).chain(others.iter().copied());
                self.unknown(at, name, known);
                continue;
            };
            let at = format!("{at}.{name}");
            if key.machine_alone && !machine {
                self.wrong(&at, "this is a single machine's alone: put it into machine.\"MAC\"");
                continue;
            }
            let with = Reading { site: self.site, owners: &self.owners };
            match (key.read)(json, &with) {
                Ok(value) => drop(values.insert(name.clone(), value)),
                Err(what) => self.wrong(&at, what),
            }
        }
        values
    }
}

#[cfg(test)]
mod tests;
