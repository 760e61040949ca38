//! Where two replies differ in what matters for booting.

use super::heard::Heard;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// A field on which we and the captured server differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The field, or what is answered at all.
    pub what: String,
    /// What we say; none where nothing.
    pub ours: Option<String>,
    /// What was said.
    pub captured: Option<String>,
}

/// Fields that both give, differently, and that one gives alone.
pub fn fields(
    ours: &BTreeMap<String, String>,
    captured: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut names: Vec<&String> = ours.keys().chain(captured.keys()).collect();
    names.sort();
    names.dedup();
    let difference = |name: &String| {
        let (mine, theirs) = (ours.get(name).cloned(), captured.get(name).cloned());
        (mine != theirs).then(|| Difference { what: name.clone(), ours: mine, captured: theirs })
    };
    names.into_iter().filter_map(difference).collect()
}

/// Our reply (none: silence) beside the captured ones, of which the one that says most like ours
/// counts: where two servers answer, only one is of our part.
pub fn replies(ours: Option<&Heard>, captured: &[Heard]) -> Vec<Difference> {
    let answered = |ours: Option<String>, captured: Option<String>| {
        vec![Difference { what: "answer".into(), ours, captured }]
    };
    let Some(ours) = ours else {
        let booting = captured.iter().find(|heard| heard.boots());
        return booting.map_or_else(Vec::new, |heard| answered(None, Some(heard.says())));
    };
    let likeness = |heard: &&Heard| {
        (heard.address.is_some() == ours.address.is_some(), heard.boots() == ours.boots())
    };
    // The first of those that are alike.
    let Some(theirs) = captured.iter().rev().max_by_key(likeness) else {
        return answered(Some(ours.says()), None);
    };
    let mut differences = Vec::new();
    if ours.message != theirs.message {
        differences = answered(Some(ours.says()), Some(theirs.says()));
    }
    differences.extend(fields(&ours.fields, &theirs.fields));
    differences
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        write!(f, "{}: we {}, they {}", self.what, said(&self.ours), said(&self.captured))
    }
}
