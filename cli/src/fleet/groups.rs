//! What somebody writes who sets values of a group: pure.

use serde_json::{Map, Value};

/// A merge patch (RFC 7396) of `KEY=VALUE`s: `labels.site=berlin` is a label.
///
/// # Errors
/// A word that is none, in a sentence.
pub fn patch(words: &[String]) -> Result<Value, String> {
    let mut patch = Map::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("{word:?} sets nothing: KEY=VALUE does"))?;
        let value = if value.is_empty() { Value::Null } else { value_of(value) };
        match key.split_once('.') {
            Some(("labels", label)) if !label.is_empty() => {
                let value = match value {
                    // A label is a text, whatever it looks like.
                    Value::Null | Value::String(_) => value,
                    other => Value::String(other.to_string()),
                };
                let labels = patch.entry("labels").or_insert_with(|| Value::Object(Map::new()));
                if let Some(labels) = labels.as_object_mut() {
                    labels.insert(label.into(), value);
                }
            }
            _ => drop(patch.insert(key.into(), value)),
        }
    }
    Ok(Value::Object(patch))
}

/// As TOML has it, or else a text.
fn value_of(text: &str) -> Value {
    let parsed: Option<toml::Table> = format!("value = {text}").parse().ok();
    let value =
        parsed.filter(|table| table.len() == 1).and_then(|table| table.get("value").cloned());
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(words: &[&str]) -> Result<Value, String> {
        patch(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_written_as_in_toml_or_as_they_are() {
        let wanted = json!({
            "window": 2, "https": true, "network": "vlan=42,ip=dhcp", "quirks": ["a", "b"],
            "scratch": { "erase": "x" }, "rate": null, "labels": { "site": "berlin", "row": "7" },
        });
        let words = [
            "window=2",
            "https=true",
            "network=vlan=42,ip=dhcp",
            "quirks=[\"a\", \"b\"]",
            "scratch={ erase = \"x\" }",
            "rate=",
            "labels.site=berlin",
            "labels.row=7",
        ];
        assert_eq!(of(&words).unwrap(), wanted);
        for wrong in ["window", "=2", ""] {
            assert!(of(&[wrong]).unwrap_err().contains("KEY=VALUE"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_word_panics(words in proptest::collection::vec("(labels\\.|=|\\[|\"|\\PC){0,12}", 0..4)) {
            let _ = patch(&words);
        }
    }
}
