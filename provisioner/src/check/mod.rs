//! `provisioner check`: reads the configuration whole and tells all that is wrong with it. `serve`
//! refuses with the same words.
//!
//! [`file`] reads the text, key by key; `together` looks at what cannot go together; `there` at
//! the files and the interface that are named. The first two are pure.

mod file;
mod report;
mod there;
mod together;

pub use report::{Finding, Place, Report, Weight};

use crate::config::Options;
use clap::Args;
use std::{fs, path::Path};

/// How `provisioner check` is told what to look at.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// What `serve` would be given.
    #[command(flatten)]
    pub options: Options,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How far is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything: the image is read to its last byte, the interface looked up.
    All,
    /// All but those: who starts does both anyhow.
    BeforeStart,
}

/// The options as they would be served with, and all that is wrong with them. Where there are
/// mistakes the options are only what is left without them.
pub fn look(flags: Options, reach: Reach) -> (Options, Report) {
    let read = match &flags.config {
        None => file::Read::default(),
        Some(path) => text(path),
    };
    let file::Read { options: of_file, places, findings } = read;
    // What the flags alone have wrong stands in no line of the file.
    let of_flags: Vec<Finding> = pure(&flags);
    let options = flags.over(of_file);
    let mut found = pure(&options);
    found.extend(there::look(&options, reach));
    for finding in &mut found {
        let key = finding.key.as_deref().filter(|_| !of_flags.contains(finding));
        finding.place = key.and_then(|key| nearest_place(&places, key));
    }
    (options, Report::new(findings.into_iter().chain(found)))
}

/// The options to serve with.
///
/// # Errors
/// All mistakes. What is merely odd goes to the log.
pub fn settle(flags: Options) -> Result<(Options, Report), Report> {
    let (options, report) = look(flags, Reach::BeforeStart);
    if report.is_good() { Ok((options, report)) } else { Err(report) }
}

/// What is wrong in a file's text by itself. Pure.
pub fn of_text(path: &Path, text: &str) -> Vec<Finding> {
    file::read(path, text).findings
}

fn text(path: &Path) -> file::Read {
    match fs::read_to_string(path) {
        Ok(text) => file::read(path, &text),
        Err(error) => {
            let text = format!("the configuration {}: {error}", path.display());
            file::Read { findings: vec![Finding::mistake("config", text)], ..Default::default() }
        }
    }
}

fn pure(options: &Options) -> Vec<Finding> {
    let values = options.mistakes().into_iter();
    let values = values.map(|(key, error)| Finding::mistake(key, error.to_string()));
    values.chain(together::look(options)).collect()
}

/// Where a key stands, or the table that it would stand in.
fn nearest_place(places: &file::Places, key: &str) -> Option<Place> {
    let above = || key.rsplit_once('.').and_then(|(above, _)| places.get(above));
    places.get(key).or_else(above).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Part;
    use std::path::PathBuf;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn flags(config: &Path) -> Options {
        Options { config: Some(config.into()), ..Options::default() }
    }

    #[test]
    fn every_mistake_of_a_file_is_told_with_its_line() {
        let (_folder, path) = written(
            "interfcae = \"lo\"\n\
             dhcp = \"proxy\"\n\
             pool = \"10.0.0.10-10.0.0.20\"\n\
             http-port = 99999\n\
             ledger = [\"https://x\"]\n\
             image = \"nowhere\"\n\
             [machine.\"52:54:00:12:34:56\"]\n\
             nmae = \"x\"\n\
             window = 0\n\
             [machine.nobody]\n",
        );
        let (_, report) = look(flags(&path), Reach::All);
        let told = report.to_string();
        for (line, words) in [
            (1, "did you mean \"interface\""),
            (3, "gives no addresses"),
            (4, "http-port"),
            (5, "http://HOST:PORT"),
            (6, "nowhere"),
            (8, "did you mean \"name\""),
            (7, "a window of 1 to 64"),
            (10, "a MAC address as its name"),
        ] {
            let place = format!("p.toml:{line}:");
            let there = told.lines().any(|line| line.contains(&place) && line.contains(words));
            assert!(there, "line {line}, {words:?}, in\n{told}");
        }
        assert!(!report.is_good());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["good"], false);
        assert_eq!(json["findings"][0]["line"], 1);
    }

    #[test]
    fn a_text_that_is_no_toml_is_told_with_all_else_that_is_wrong() {
        let (_folder, path) = written("a = = 1\nhttp-port = \"x\"\ndhcp = \"ful\"\nb c\n");
        let (_, report) = look(flags(&path), Reach::BeforeStart);
        let told = report.to_string();
        for line in ["p.toml:1:", "p.toml:2:", "p.toml:3:", "p.toml:4:"] {
            assert!(told.contains(line), "{line} in\n{told}");
        }
    }

    #[test]
    fn a_mistake_of_the_flags_is_not_the_files() {
        let (_folder, path) = written("dhcp = \"full\"\nlease-seconds = 3600\n");
        let flags = Options { lease_seconds: Some(5), ..flags(&path) };
        let (_, report) = look(flags, Reach::BeforeStart);
        let told = report.to_string();
        let line = told.lines().find(|line| line.contains("lease-seconds")).unwrap();
        assert!(!line.contains("p.toml"), "{line}");
    }

    #[test]
    fn what_is_good_is_served_with() {
        let (_folder, path) = written("dhcp = \"full\"\npool = \"10.0.0.10-10.0.0.20\"\n");
        let (options, _) = settle(flags(&path)).unwrap();
        assert_eq!(options.dhcp, Some(Part::Full));
        assert_eq!(options.pool.map(|pool| pool.size()), Some(11));
        let missing = settle(flags(Path::new("/nonexistent/p.toml"))).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/p.toml"), "{missing}");
    }
}
