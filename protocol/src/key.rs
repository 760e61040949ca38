//! Ed25519 keys (ZIP-215 rules, so that one signature and a batch never disagree) and addresses.

use crate::digest::serde_as_text;
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{SigningKey, VerificationKey, VerificationKeyBytes};
use std::{fmt, str::FromStr};

/// What an address starts with: `alia1…` (BIP-173 human-readable part).
pub const ADDRESS_PREFIX: &str = "alia";

/// Something is wrong with a key, a signature or an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The text is not 64 hex digits.
    #[error("{0:?} is not a public key: 64 hex digits are wanted")]
    NotAKey(String),
    /// The text is not a signature.
    #[error("not a signature: 128 hex digits are wanted")]
    NotASignature,
    /// The text is not an ALIA address.
    #[error("{0:?} is not an ALIA address: bech32 that starts with \"alia1\" is wanted")]
    NotAnAddress(String),
    /// A secret key file holds something else.
    #[error("not a secret key: 64 hex digits are wanted")]
    NotASecret,
    /// The signature does not fit the key and the message.
    #[error("the signature does not fit key {0} and this message")]
    WrongSignature(PublicKey),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness for a new key: {0}")]
    NoRandomness(String),
}

/// An ed25519 public key, 32 bytes; hex in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 32]);

/// An ed25519 signature, 64 bytes; hex in text.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

/// An ed25519 secret key. Never shown by `Debug`; text only on purpose, by [`SecretKey::to_hex`].
#[derive(Clone)]
pub struct SecretKey(SigningKey);

/// An account's address: bech32 of its ed25519 public key, `alia1…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Address(pub PublicKey);

impl SecretKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// The key of a 32-byte seed (RFC 8032).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from(seed))
    }

    /// Reads what [`SecretKey::to_hex`] wrote; white space around it is ignored.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| KeyError::NotASecret)?;
        Ok(Self::from_seed(seed))
    }

    /// The seed in hex. Whoever reads it is the key's owner: files of it are mode 0600.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.as_ref())
    }

    /// The seed that [`SecretKey::from_seed`] takes. Whoever reads it is the key's owner.
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.into()
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(VerificationKeyBytes::from(&self.0).into())
    }

    /// Signs bytes. What members exchange goes through [`crate::Signed`], which adds the domain.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl PublicKey {
    /// Checks a signature by ZIP-215's rules.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), KeyError> {
        VerificationKey::try_from(self.0)
            .and_then(|key| key.verify(&ed25519_zebra::Signature::from(signature.0), message))
            .map_err(|_| KeyError::WrongSignature(*self))
    }

    /// The account's address.
    pub fn address(&self) -> Address {
        Address(*self)
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::NotAKey(text.into()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::NotASignature)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = bech32::Hrp::parse_unchecked(ADDRESS_PREFIX);
        match bech32::encode::<bech32::Bech32>(prefix, &self.0.0) {
            Ok(text) => f.write_str(&text),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refused = || KeyError::NotAnAddress(text.into());
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32>(text)
            .map_err(|_| refused())?;
        if parsed.hrp().to_lowercase() != ADDRESS_PREFIX {
            return Err(refused());
        }
        let bytes: Vec<u8> = parsed.byte_iter().collect();
        Ok(Self(PublicKey(bytes.try_into().map_err(|_| refused())?)))
    }
}

serde_as_text!(PublicKey);
serde_as_text!(Signature);
serde_as_text!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    #[test]
    fn rfc_8032_test_1_gives_the_published_key_and_signature() {
        let secret =
            SecretKey::from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
                .unwrap();
        assert_eq!(
            secret.public().to_string(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert!(secret.sign(b"").to_string().starts_with("e5564300c360ac729086e2cc806e828a"));
    }

    #[test]
    fn a_signature_fits_its_message_alone() {
        let signature = key().sign(b"one");
        assert!(key().public().verify(b"one", &signature).is_ok());
        assert!(key().public().verify(b"two", &signature).is_err());
    }

    #[test]
    fn an_address_round_trips_and_a_typing_error_is_caught() {
        let address = key().public().address();
        let text = address.to_string();
        assert!(text.starts_with("alia1"), "{text}");
        assert_eq!(text.parse::<Address>().unwrap(), address);
        let mut wrong = text.into_bytes();
        wrong[10] = if wrong[10] == b'q' { b'p' } else { b'q' };
        assert!(String::from_utf8(wrong).unwrap().parse::<Address>().is_err());
    }

    #[test]
    fn debug_never_shows_a_secret() {
        assert!(!format!("{:?}", key()).contains(&key().to_hex()));
    }
}
