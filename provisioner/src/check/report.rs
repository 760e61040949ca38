//! What was found: for people a line each, for programs JSON.

use serde::Serialize;
use std::{fmt, path::PathBuf};

/// What a finding comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It cannot be served with.
    Mistake,
    /// It can, and is hardly what is wanted.
    Warning,
}

/// Where something stands, both counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The byte in it.
    pub column: usize,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it comes to.
    pub weight: Weight,
    /// The key that it is about: `pool`, `machine.52:54:00:12:34:56.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where that stands in the file.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong, and what to do.
    pub text: String,
}

impl Finding {
    /// Something that cannot be.
    pub fn mistake(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { weight: Weight::Mistake, key: Some(key.into()), place: None, text: text.into() }
    }

    /// Something odd.
    pub fn warning(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::mistake(key, text) }
    }

    /// At that place.
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        let weight = match self.weight {
            Weight::Mistake => "mistake",
            Weight::Warning => "warning",
        };
        write!(f, "{weight}: {}", self.text)
    }
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it can be served with.
    good: bool,
    /// Mistakes first, each in the order of the file.
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: impl IntoIterator<Item = Finding>) -> Self {
        let mut findings: Vec<Finding> = findings.into_iter().collect();
        let line = |finding: &Finding| finding.place.as_ref().map_or(usize::MAX, |at| at.line);
        findings.sort_by_key(|finding| (finding.weight, line(finding)));
        findings.dedup();
        Self { good: findings.iter().all(|f| f.weight != Weight::Mistake), findings }
    }

    /// Whether it can be served with.
    pub fn is_good(&self) -> bool {
        self.good
    }

    /// What is odd.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.weight == Weight::Warning)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let mistakes = self.findings.iter().filter(|f| f.weight == Weight::Mistake).count();
        let warnings = self.findings.len() - mistakes;
        let many = |count: usize, what: &str| match count {
            0 => format!("no {what}"),
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        write!(f, "{}, {}", many(mistakes, "mistake"), many(warnings, "warning"))
    }
}

impl std::error::Error for Report {}
