//! What differs between two documents.

use super::{Everything, Json};
use protocol::configuration::Change;
use std::collections::BTreeMap;

/// The values that differ, in the order of where they are. Lists are values as a whole.
pub fn between(before: &Json, after: &Json) -> Vec<Change<Json>> {
    let (before, after) = (leaves(before), leaves(after));
    let mut places: Vec<&String> = before.keys().chain(after.keys()).collect();
    places.sort();
    places.dedup();
    let change = |at: &String| {
        let (before, after) = (before.get(at).copied(), after.get(at).copied());
        let differs = before != after;
        differs.then(|| Change { at: at.clone(), before: before.cloned(), after: after.cloned() })
    };
    places.into_iter().filter_map(change).collect()
}

/// As JSON, of which every part has its place. Writing it does not fail: all keys are texts.
pub fn json<T: serde::Serialize>(document: &T) -> Json {
    serde_json::to_value(document).unwrap_or_default()
}

/// What an import changes.
pub fn of_import(before: &Everything, after: &Everything) -> Vec<Change<Json>> {
    between(&json(before), &json(after))
}

fn leaves(json: &Json) -> BTreeMap<String, &Json> {
    let mut all = BTreeMap::new();
    walk(String::new(), json, &mut all);
    all.remove("");
    all
}

fn walk<'a>(at: String, json: &'a Json, all: &mut BTreeMap<String, &'a Json>) {
    match json.as_object() {
        Some(table) if !table.is_empty() => {
            for (key, value) in table {
                let place = if at.is_empty() { part(key) } else { format!("{at}.{}", part(key)) };
                walk(place, value, all);
            }
        }
        _ => drop(all.insert(at, json)),
    }
}

/// A key as TOML writes it.
fn part(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !key.is_empty() && key.bytes().all(plain) { key.into() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_value_that_differs_is_told_by_its_place() {
        let before =
            json!({ "group": { "a": { "window": 1, "labels": { "x.y": "1" } }, "b": {} } });
        let after = json!({ "group": { "a": { "window": 2, "rate": 10_000 }, "b": {} } });
        let told: Vec<String> = between(&before, &after).iter().map(Change::to_string).collect();
        assert_eq!(
            told,
            [
                "- group.a.labels.\"x.y\" = \"1\"",
                "+ group.a.rate = 10000",
                "~ group.a.window: 1 -> 2",
            ]
        );
        assert!(between(&after, &after).is_empty());
        let told = between(&json!({}), &json!({ "group": { "b": {} } }));
        assert_eq!(told[0].to_string(), "+ group.b = {}");
    }
}
