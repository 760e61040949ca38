//! Signed values: domain tag, version, chain id, then the canonical body, in that order.

use crate::key::{KeyError, PublicKey, SecretKey, Signature};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, io, str::FromStr};

/// CometBFT's limit on a chain id (`MaxChainIDLen`).
pub const MAX_CHAIN_ID_LEN: usize = 50;

/// The chain a signature is for: 1 to [`MAX_CHAIN_ID_LEN`] bytes, so that what is signed for a
/// test network is worth nothing on another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainId(String);

/// Why a text is not a chain id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a chain id: 1 to {MAX_CHAIN_ID_LEN} bytes of text are wanted")]
pub struct NotAChainId(String);

impl ChainId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChainId {
    type Error = NotAChainId;
    fn try_from(text: String) -> Result<Self, NotAChainId> {
        if text.is_empty() || text.len() > MAX_CHAIN_ID_LEN {
            return Err(NotAChainId(text));
        }
        Ok(Self(text))
    }
}

impl From<ChainId> for String {
    fn from(id: ChainId) -> Self {
        id.0
    }
}

impl FromStr for ChainId {
    type Err = NotAChainId;
    fn from_str(text: &str) -> Result<Self, NotAChainId> {
        text.to_string().try_into()
    }
}

impl BorshDeserialize for ChainId {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let text = String::deserialize_reader(reader)?;
        text.try_into().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A value that is only worth something signed.
pub trait SignedBody: BorshSerialize + BorshDeserialize {
    /// Names the kind of value; no two kinds share one.
    const DOMAIN: &'static str;
    /// The version of its layout.
    const VERSION: u16;
}

/// A body with its signer's key and signature.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Signed<T> {
    /// The layout's version, [`SignedBody::VERSION`] when we made it.
    pub version: u16,
    /// The chain that it is for.
    pub chain: ChainId,
    /// What is said.
    pub body: T,
    /// Who says so.
    pub signer: PublicKey,
    /// Over [`signing_bytes`].
    pub signature: Signature,
}

/// A signed value was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignedError {
    /// Another version of the layout.
    #[error("this {domain} has version {found}; version {wanted} is understood here")]
    Version {
        /// What kind of value.
        domain: &'static str,
        /// Its version.
        found: u16,
        /// Ours.
        wanted: u16,
    },
    /// Signed for another chain.
    #[error("this {domain} was signed for chain {found:?}, not for {wanted:?}")]
    Chain {
        /// What kind of value.
        domain: &'static str,
        /// The chain it was signed for.
        found: ChainId,
        /// The chain at hand.
        wanted: ChainId,
    },
    /// The signature is wrong.
    #[error("this {domain} is not signed by the key it names: {source}")]
    Signature {
        /// What kind of value.
        domain: &'static str,
        /// The reason.
        source: KeyError,
    },
}

/// The bytes that are signed for `body` on `chain`: domain, version, chain id, canonical body.
pub fn signing_bytes<T: SignedBody>(chain: &ChainId, body: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let written = BorshSerialize::serialize(&(T::DOMAIN, T::VERSION, chain), &mut bytes)
        .and_then(|()| body.serialize(&mut bytes));
    match written {
        Ok(()) => bytes,
        Err(error) => unreachable!("a vector never refuses bytes: {error}"),
    }
}

impl<T: SignedBody> Signed<T> {
    /// Signs `body` for `chain`.
    pub fn sign(chain: &ChainId, body: T, key: &SecretKey) -> Self {
        let signature = key.sign(&signing_bytes(chain, &body));
        Self { version: T::VERSION, chain: chain.clone(), body, signer: key.public(), signature }
    }

    /// Checks version, chain and signature; whether the signer may say this is the caller's to ask.
    pub fn verify(&self, chain: &ChainId) -> Result<&T, SignedError> {
        if self.version != T::VERSION {
            return Err(SignedError::Version {
                domain: T::DOMAIN,
                found: self.version,
                wanted: T::VERSION,
            });
        }
        if &self.chain != chain {
            return Err(SignedError::Chain {
                domain: T::DOMAIN,
                found: self.chain.clone(),
                wanted: chain.clone(),
            });
        }
        self.signer
            .verify(&signing_bytes(chain, &self.body), &self.signature)
            .map_err(|source| SignedError::Signature { domain: T::DOMAIN, source })?;
        Ok(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
    struct Note(u32);
    impl SignedBody for Note {
        const DOMAIN: &'static str = "aliaOS test note";
        const VERSION: u16 = 1;
    }

    fn chain() -> ChainId {
        "alia-test".parse().unwrap()
    }

    #[test]
    fn a_signature_holds_on_its_own_chain_alone() {
        let note = Signed::sign(&chain(), Note(3), &SecretKey::from_seed([1; 32]));
        assert_eq!(note.verify(&chain()), Ok(&Note(3)));
        let other = "alia-other".parse().unwrap();
        assert!(matches!(note.verify(&other), Err(SignedError::Chain { .. })));
    }

    #[test]
    fn an_altered_body_chain_version_or_signer_is_refused() {
        let note = Signed::sign(&chain(), Note(3), &SecretKey::from_seed([1; 32]));
        let mut altered = note.clone();
        altered.body = Note(4);
        assert!(matches!(altered.verify(&chain()), Err(SignedError::Signature { .. })));
        let mut altered = note.clone();
        altered.version = 2;
        assert!(matches!(altered.verify(&chain()), Err(SignedError::Version { .. })));
        let mut altered = note;
        altered.signer = SecretKey::from_seed([2; 32]).public();
        assert!(matches!(altered.verify(&chain()), Err(SignedError::Signature { .. })));
    }

    #[test]
    fn the_signed_bytes_are_fixed() {
        let bytes = signing_bytes(&chain(), &Note(3));
        let mut wanted = vec![16, 0, 0, 0];
        wanted.extend(b"aliaOS test note");
        wanted.extend([1, 0, 9, 0, 0, 0]);
        wanted.extend(b"alia-test");
        wanted.extend([3, 0, 0, 0]);
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn a_chain_id_is_bounded_in_bytes_on_the_wire_too() {
        let long = borsh::to_vec(&"x".repeat(51)).unwrap();
        assert!(ChainId::try_from_slice(&long).is_err());
    }
}
