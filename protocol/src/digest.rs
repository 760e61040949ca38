//! BLAKE3 digests: the name of every piece of content.

use borsh::{BorshDeserialize, BorshSerialize};
use std::{fmt, io, str::FromStr};

/// A BLAKE3 digest, 32 bytes. Shown, and written in JSON, as 64 lower-case hex digits.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Digest(pub [u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a digest: 64 hex digits are wanted")]
pub struct NotADigest {
    text: String,
}

impl Digest {
    /// The content address of bytes: plain BLAKE3, what `b3sum` prints.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a value's canonical bytes under `domain`.
    ///
    /// `domain` is BLAKE3's key-derivation context: a constant that names the kind of value and
    /// its version, such as `"aliaOS receipt v1"`. Two domains never share a digest.
    pub fn of<T: BorshSerialize + ?Sized>(domain: &'static str, value: &T) -> Self {
        let mut writer = HashWriter(blake3::Hasher::new_derive_key(domain));
        // A hasher accepts every byte, and our types hold no map or float that borsh refuses.
        match value.serialize(&mut writer) {
            Ok(()) => Self(*writer.0.finalize().as_bytes()),
            Err(error) => unreachable!("a hasher never refuses bytes: {error}"),
        }
    }

    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

struct HashWriter(blake3::Hasher);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotADigest { text: text.into() })?;
        Ok(Self(bytes))
    }
}

/// serde as text, for every type here that has `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_address_is_plain_blake3() {
        // The empty input's digest from BLAKE3's own published test vectors.
        assert_eq!(
            Digest::of_bytes(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn two_domains_never_share_a_digest() {
        assert_ne!(Digest::of("aliaOS a v1", &7u32), Digest::of("aliaOS b v1", &7u32));
    }

    #[test]
    fn text_round_trips_and_nonsense_is_refused_with_a_reason() {
        let digest = Digest::of_bytes(b"x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let error = "abc".parse::<Digest>().unwrap_err().to_string();
        assert!(error.contains("64 hex digits"), "{error}");
    }
}
