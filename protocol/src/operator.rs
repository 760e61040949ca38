//! Who may speak to a node besides its owner.

use crate::key::{KeyError, PublicKey};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The most operators of a node besides its owner.
pub const MAX_OPERATORS: usize = 64;

/// A key that may speak to a node, besides its owner's.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// The key.
    pub key: PublicKey,
    /// What it may.
    pub role: OperatorRole,
}

/// What an operator may; each role may all that the ones before it may.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// See everything.
    Reader,
    /// Change what the node does: restart it, turn it off, drain it, have it show itself.
    Operator,
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
        })
    }
}

/// A text names no operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOperator {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The role.
    #[error("{0:?} is no role: `reader` or `operator` is wanted")]
    Role(String),
}

/// `KEY` or `KEY:ROLE`; without a role the key is an operator's.
impl FromStr for Operator {
    type Err = NotAnOperator;
    fn from_str(text: &str) -> Result<Self, NotAnOperator> {
        let (key, role) = text.split_once(':').unwrap_or((text, "operator"));
        let role = match role {
            "reader" => OperatorRole::Reader,
            "operator" => OperatorRole::Operator,
            other => return Err(NotAnOperator::Role(other.chars().take(40).collect())),
        };
        Ok(Self { key: key.parse()?, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    #[test]
    fn an_operator_is_a_key_and_perhaps_a_role() {
        let key = SecretKey::from_seed([1; 32]).public();
        let read = |text: String| text.parse::<Operator>();
        let operator = Operator { key, role: OperatorRole::Operator };
        assert_eq!(read(key.to_string()), Ok(operator));
        assert_eq!(read(format!("{key}:operator")), Ok(operator));
        assert_eq!(read(format!("{key}:reader")).unwrap().role, OperatorRole::Reader);
        let error = read(format!("{key}:root")).unwrap_err().to_string();
        assert!(error.contains("`reader` or `operator`"), "{error}");
        assert!(matches!(read("x:reader".into()), Err(NotAnOperator::Key(_))));
        assert!(OperatorRole::Reader < OperatorRole::Operator);
    }
}
