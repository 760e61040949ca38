//! What a replay tells: for people as text, for programs as JSON.

use super::compare::Difference;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// A replay's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Our part, address and network.
    pub we: String,
    /// Every client's packet that is for such as us, in order.
    pub steps: Vec<Step>,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
}

/// A client's packet and its answers.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its number in the capture, from 1.
    pub packet: usize,
    /// Seconds since the capture's first packet.
    pub seconds: f64,
    /// Who asks: a MAC address, or where that is not told an address.
    pub client: String,
    /// What it asks.
    pub asks: String,
    /// What we answer.
    pub ours: Said,
    /// What was answered.
    pub captured: Vec<Said>,
    /// Where it differs in what matters.
    pub differences: Vec<Difference>,
}

/// An answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Said {
    /// Who said it; none of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its kind, and where it goes.
    pub says: String,
    /// The reason, of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it tells of booting.
    pub fields: BTreeMap<String, String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "we are {}", self.we)?;
        for step in &self.steps {
            write!(f, "\n{step}")?;
        }
        if self.steps.is_empty() {
            writeln!(f, "\nnobody asks for anything here")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "packet {} at {:.3} s, {}: {}",
            self.packet, self.seconds, self.client, self.asks
        )?;
        said(f, "we", &self.ours)?;
        for theirs in &self.captured {
            said(f, theirs.from.as_deref().unwrap_or("they"), theirs)?;
        }
        for difference in &self.differences {
            writeln!(f, "  differs: {difference}")?;
        }
        Ok(())
    }
}

fn said(f: &mut fmt::Formatter<'_>, who: &str, answer: &Said) -> fmt::Result {
    writeln!(f, "  {who}: {}", answer.says)?;
    if let Some(why) = &answer.why {
        writeln!(f, "    because {why}")?;
    }
    for (name, value) in &answer.fields {
        writeln!(f, "    {name:<11} {value}")?;
    }
    Ok(())
}
