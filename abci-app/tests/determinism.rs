//! The rules hold nothing on which two validators could differ.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

use std::{fs, path::Path};

/// What no rule may name, and why.
const FORBIDDEN: [(&str, &str); 14] = [
    ("f32", "floats round by machine and compiler"),
    ("f64", "floats round by machine and compiler"),
    ("HashMap", "its order is random"),
    ("HashSet", "its order is random"),
    ("Instant", "clocks differ"),
    ("SystemTime", "clocks differ"),
    ("thread", "threads race"),
    ("spawn", "tasks race"),
    ("Mutex", "threads race"),
    ("Atomic", "threads race"),
    ("random", "randomness differs"),
    ("env::", "environments differ"),
    ("usize::MAX", "its size differs"),
    ("std::fs", "disks differ"),
];

fn offences(name: &str, text: &str) -> Vec<String> {
    // A file's own tests may do as they like; they stand at its end.
    let rules = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code = rules.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        FORBIDDEN
            .iter()
            .filter(|(word, _)| line.contains(word))
            .map(move |(word, why)| format!("{name}:{}: {word}: {why}", number + 1))
    })
    .collect()
}

#[test]
fn no_rule_names_a_float_a_clock_a_thread_or_an_unordered_map() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
    let mut read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let found = offences(&path.display().to_string(), &text);
        assert!(found.is_empty(), "{found:#?}");
        read += 1;
    }
    assert!(read >= 8, "only {read} files of rules were found");
}

#[test]
fn an_offence_is_found_in_code_and_not_in_prose() {
    assert_eq!(offences("x", "// a HashMap would do\nlet a: f32 = 0.0;\n").len(), 1);
    assert!(offences("x", "#[cfg(test)]\nuse std::thread;").is_empty());
}
