//! Whether a service can do what it is for: its answer to `GET /readyz`.

use serde::{Deserialize, Serialize};

/// Whether it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether nothing is missing.
    pub ready: bool,
    /// What is missing, in words for people; nothing where it is ready.
    pub missing: Vec<String>,
    /// Each part.
    pub parts: Vec<ReadyPart>,
}

/// One part of what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyPart {
    /// `store`, `image`, `key`, or what listens.
    pub part: String,
    /// How it is.
    pub state: PartState,
    /// More about it, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// As it should be.
    Ready,
    /// Nobody wanted it.
    Off,
    /// It is wanted, and is not there.
    Missing,
}

impl Readiness {
    /// Of these parts.
    pub fn of(parts: Vec<ReadyPart>) -> Self {
        let missing = parts.iter().filter(|part| part.state == PartState::Missing);
        let told = |part: &ReadyPart| match &part.detail {
            Some(detail) => format!("{}: {detail}", part.part),
            None => part.part.clone(),
        };
        let missing: Vec<String> = missing.map(told).collect();
        Self { ready: missing.is_empty(), missing, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wanted_is_not_missing() {
        let part = |part: &str, state| ReadyPart { part: part.into(), state, detail: None };
        let off = part("image", PartState::Off);
        assert!(Readiness::of(vec![off.clone(), part("store", PartState::Ready)]).ready);
        let missing = ReadyPart { detail: Some("gone".into()), ..part("key", PartState::Missing) };
        let found = Readiness::of(vec![off, missing]);
        assert_eq!((found.ready, found.missing), (false, vec!["key: gone".to_string()]));
    }
}
