//! The configuration's text, key by key: one that is wrong hides no other. Pure.

use super::report::{Finding, Place};
use crate::config::{MACHINE_KEYS, MachineOptions, Options, known_keys, nearest};
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, ops::Range, path::Path};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, Deserializer, Error},
};

/// Where keys stand.
pub(super) type Places = BTreeMap<String, Place>;

/// What a text says.
#[derive(Default)]
pub(super) struct Read {
    /// What is right in it.
    pub(super) options: Options,
    /// Where its keys stand.
    pub(super) places: Places,
    /// What is wrong in it.
    pub(super) findings: Vec<Finding>,
}

/// Reads a text to its end, whatever is wrong in it.
pub(super) fn read(path: &Path, text: &str) -> Read {
    let text = &Text { path, text };
    let (document, broken) = DeTable::parse_recoverable(text.text);
    let mut read = Read::default();
    // What is left of a line that is no TOML says nothing.
    let mut lines = Vec::new();
    for error in &broken {
        let place = text.place(error.span());
        lines.push(place.line);
        read.findings.push(Finding::mistake("config", first(error)).at(place));
    }
    let (known, machine_keys) = (known_keys(), MACHINE_KEYS.map(String::from));
    let mut right = DeTable::new();
    for (key, value) in document.into_inner() {
        let name = key.get_ref().to_string();
        let place = text.place(Some(key.span()));
        if lines.contains(&place.line) {
            continue;
        }
        read.places.insert(name.clone(), place.clone());
        if !known.contains(&name) {
            read.findings.push(unknown(&name, &name, &known, place));
            continue;
        }
        let value = match (name.as_str(), value.get_ref()) {
            ("machine", DeValue::Table(_)) => machines(text, value, &machine_keys, &mut read),
            _ => value,
        };
        match alone::<Options>(&key, &value) {
            Ok(_) => {
                right.insert(key, value);
            }
            Err(error) => {
                let text = format!("{name}: {}", first(&error));
                read.findings.push(Finding::mistake(name, text).at(place));
            }
        }
    }
    // Each of them was read alone, so that they are together.
    read.options = whole(right).unwrap_or_default();
    read
}

/// The machines with those of their keys that are right.
fn machines<'i>(
    text: &Text<'_>,
    value: Spanned<DeValue<'i>>,
    known: &[String],
    read: &mut Read,
) -> Spanned<DeValue<'i>> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        return Spanned::new(span, DeValue::Table(DeTable::new()));
    };
    let mut all = DeTable::new();
    for (mac, machine) in table {
        let path = format!("machine.{}", mac.get_ref());
        read.places.insert(path.clone(), text.place(Some(mac.span())));
        let of = machine.span();
        let DeValue::Table(keys) = machine.into_inner() else {
            let wrong = format!("{path}: a table of its settings is wanted");
            read.findings.push(Finding::mistake(path, wrong).at(text.place(Some(of))));
            continue;
        };
        let mut right = DeTable::new();
        for (key, value) in keys {
            let (name, place) = (key.get_ref().to_string(), text.place(Some(key.span())));
            let path = format!("{path}.{name}");
            read.places.insert(path.clone(), place.clone());
            if !known.contains(&name) {
                read.findings.push(unknown(&path, &name, known, place));
                continue;
            }
            match alone::<MachineOptions>(&key, &value) {
                Ok(_) => {
                    right.insert(key, value);
                }
                Err(error) => {
                    let text = format!("{path}: {}", first(&error));
                    read.findings.push(Finding::mistake(path, text).at(place));
                }
            }
        }
        all.insert(mac, Spanned::new(of, DeValue::Table(right)));
    }
    Spanned::new(span, DeValue::Table(all))
}

fn unknown(path: &str, name: &str, known: &[String], place: Place) -> Finding {
    let nearest = nearest(name, known);
    let text = format!("unknown key {name:?}: did you mean {nearest:?}?");
    Finding::mistake(path, text).at(place)
}

/// What one key alone says.
fn alone<T: DeserializeOwned>(
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<T, Error> {
    let mut table = DeTable::new();
    table.insert(key.clone(), value.clone());
    whole(table)
}

fn whole<'i, T: Deserialize<'i>>(table: DeTable<'i>) -> Result<T, Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table)))
}

/// What is wrong, in one line.
fn first(error: &Error) -> String {
    error.message().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    /// Where a piece of it begins.
    fn place(&self, span: Option<Range<usize>>) -> Place {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let before = &self.text.as_bytes()[..start];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        Place { file: self.path.into(), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_right_is_read_beside_what_is_not() {
        let text = "tftp-port = 70\nhttp-port = -1\n[machine.\"52:54:00:12:34:56\"]\n\
                    name = \"x\"\nwindow = \"y\"\n";
        let read = read(Path::new("p.toml"), text);
        assert_eq!((read.options.tftp_port, read.options.http_port), (Some(70), None));
        let machine = &read.options.machine["52:54:00:12:34:56"];
        assert_eq!((machine.name.as_deref(), machine.window), (Some("x"), None));
        let lines: Vec<usize> =
            read.findings.iter().filter_map(|f| Some(f.place.as_ref()?.line)).collect();
        assert_eq!(lines, [2, 5]);
        assert_eq!(read.places["machine.52:54:00:12:34:56.window"].column, 1);
    }

    proptest! {
        #[test]
        fn no_text_ends_the_program(text in ".{0,200}", key in "[a-z0-9-]{1,16}", value in ".{0,40}") {
            let path = Path::new("p.toml");
            let with_key = format!("{key} = {value}\n{text}");
            let machine = format!("[machine.{key}]\nname = \"{key}\"\n{text}");
            for text in [text, with_key, machine] {
                // Read whole or key by key, it is right or it is not.
                let right = read(path, &text).findings.is_empty();
                prop_assert_eq!(right, Options::from_toml(path, &text).is_ok(), "{}", text);
            }
        }
    }
}
