//! Who may act: operators, known by tokens. (Accounts with roles come later; a token is one of them.)
//!
//! A token is shown once, when it is made. What is kept is its digest, from which nobody has it back:
//! it has 256 random bits, so that nobody guesses it either.

use protocol::Digest;
use std::fmt;

/// What every token begins with, so that a program that looks for leaked secrets knows one.
const PREFIX: &str = "alia-operator-";
/// The longest name of an operator.
const MAX_NAME_LEN: usize = 40;

/// A token. Whoever has it is the operator.
pub struct Token(String);

/// There is no randomness.
#[derive(Debug, thiserror::Error)]
#[error("no token can be made: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// No operator is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no operator: 1 to {MAX_NAME_LEN} letters, digits, - and _ do")]
pub struct BadName(String);

impl Token {
    /// A fresh one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", hex::encode(bytes))))
    }

    /// What is kept of it.
    pub fn digest(&self) -> Digest {
        digest(&self.0)
    }

    /// For the one time that it is shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is kept of a token that somebody shows.
pub fn digest(token: &str) -> Digest {
    Digest::of("aliaOS operator token v1", &token)
}

/// The token in a header `Authorization: Bearer …`.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && token.starts_with(PREFIX)).then_some(token)
}

/// A name as it was asked for, where an operator may be called so.
///
/// # Errors
/// [`BadName`].
pub fn name(text: &str) -> Result<String, BadName> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=MAX_NAME_LEN).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.into());
    }
    Err(BadName(text.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_what_is_kept_of_it_and_never_shown_by_chance() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_eq!(one.digest(), digest(one.reveal()));
        assert_ne!(one.digest(), other.digest());
        assert!(!format!("{one:?}").contains(one.reveal()));
        assert_eq!(bearer(&format!("bearer  {}", one.reveal())), Some(one.reveal()));
        for bad in ["", "Bearer", "Bearer x", "Basic alia-operator-1", "alia-operator-1"] {
            assert_eq!(bearer(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_words() {
        assert_eq!(name("anna_2").as_deref(), Ok("anna_2"));
        for bad in ["", "a b", "<b>", &"x".repeat(41)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
