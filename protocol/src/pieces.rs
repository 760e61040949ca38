//! Pieces of a release's file that machines of one site give each other.
//!
//! `POST /v1/machines/{mac}/pieces` takes a [`PiecesAsk`] and answers a [`Signed`]`<Swarm>`: who at
//! the machine's site has pieces, and which ones it is to fetch from the provisioner itself.
//! `GET /v1/pieces/{file}` gives the file's outline, 32 bytes for each piece, which whoever has it
//! holds against the file's digest. What a piece is, and how an outline is checked, is member `pieces`'.

use crate::{digest::Digest, key::PublicKey, signed::SignedBody};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

#[cfg(doc)]
use crate::signed::Signed;

/// The most peers of one answer: more than a machine fetches from at a time.
pub const MAX_GIVERS: usize = 24;
/// The most peers that a machine says it avoids.
pub const MAX_AVOIDED: usize = 32;

/// A machine asks who has pieces, and says which ones it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiecesAsk {
    /// Random, once a boot.
    pub boot_id: Digest,
    /// Counts up within a boot: an answer to an older question does not fit.
    pub number: u32,
    /// The file: its content.
    pub file: Digest,
    /// What it has, a bit for each piece, the first piece in the lowest bit of the first byte; hex.
    pub held: String,
    /// Where it speaks from, as it sees it: behind a router that translates addresses nobody reaches
    /// it.
    pub address: IpAddr,
    /// Where it gives pieces itself.
    #[serde(default)]
    pub door: Option<Door>,
    /// Peers that lied, stood still or were not there; at most [`MAX_AVOIDED`].
    #[serde(default)]
    pub avoid: Vec<PublicKey>,
    /// How long no piece came any more, milliseconds.
    #[serde(default)]
    pub stuck_ms: u64,
}

/// Where a machine gives pieces.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Door {
    /// The key that it shows there: of this boot, and for this alone.
    pub key: PublicKey,
    /// The port at the address that it speaks from.
    pub port: u16,
}

/// Who has pieces, and what is to be fetched from the provisioner. Signed by the provisioner's key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    /// The question's.
    pub boot_id: Digest,
    /// The question's.
    pub number: u32,
    /// The site: the machine gives pieces to these addresses alone. None where machines here fetch
    /// from the provisioner and give nothing.
    pub site: Option<Subnet>,
    /// The most bytes a second that the machine gives.
    pub rate: u64,
    /// Peers; at most [`MAX_GIVERS`].
    pub givers: Vec<Giver>,
    /// Pieces to fetch from the provisioner.
    pub granted: Vec<Run>,
    /// When to ask again, milliseconds.
    pub again_ms: u32,
}

impl SignedBody for Swarm {
    const DOMAIN: &'static str = "aliaOS swarm";
    const VERSION: u16 = 1;
}

/// A peer that has pieces.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Giver {
    /// The key that it shows.
    pub key: PublicKey,
    /// Where.
    pub address: SocketAddr,
    /// What it had when it last asked, as in [`PiecesAsk::held`].
    pub held: Vec<u8>,
}

/// Pieces that follow one another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A network: `10.0.0.0/16`, `fd00::/64`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    address: IpAddr,
    length: u8,
}

/// A text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no network: one like 10.0.0.0/16 or fd00::/64 is wanted, with nothing set behind its prefix"
)]
pub struct NotASubnet(String);

impl Subnet {
    /// The network of so many bits that an address lies in; an IPv4 address mapped into IPv6 counts
    /// as what it is.
    pub fn of(address: IpAddr, length: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Self { address: std::net::Ipv4Addr::from(address.to_bits() & mask).into(), length }
            }
            IpAddr::V6(address) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Self { address: Ipv6Addr::from(address.to_bits() & mask).into(), length }
            }
        }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::of(address, self.length) == *self
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Subnet {
    type Err = NotASubnet;
    fn from_str(text: &str) -> Result<Self, NotASubnet> {
        let read = || {
            let (address, length) = text.split_once('/')?;
            let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
            let subnet = Self::of(address, length);
            (subnet == Self { address, length }).then_some(subnet)
        };
        read().ok_or_else(|| NotASubnet(text.chars().take(60).collect()))
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = NotASubnet;
    fn try_from(text: String) -> Result<Self, NotASubnet> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::SecretKey,
        signed::{ChainId, signing_bytes},
    };

    #[test]
    fn a_network_is_read_compared_and_shown() {
        let net = |text: &str| text.parse::<Subnet>();
        let site = net("10.77.0.0/16").unwrap();
        assert!(site.contains([10, 77, 255, 1].into()) && !site.contains([10, 78, 0, 1].into()));
        assert!(site.contains("::ffff:10.77.0.1".parse().unwrap()));
        assert!(!site.contains("fd00::1".parse().unwrap()));
        assert!(net("fd00::/64").unwrap().contains("fd00::1".parse().unwrap()));
        assert!(net("0.0.0.0/0").unwrap().contains([1, 2, 3, 4].into()));
        assert_eq!(site.to_string(), "10.77.0.0/16");
        assert_eq!(Subnet::of([10, 77, 3, 4].into(), 16), site);
        for text in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "fd00::/129", "a/8"] {
            assert!(net(text).is_err(), "{text}");
        }
    }

    /// A digest of the signed bytes stands for them: what changes them changes the version.
    #[test]
    fn the_signed_bytes_of_a_swarm_are_fixed() {
        let key = SecretKey::from_seed([3; 32]).public();
        let swarm = Swarm {
            boot_id: Digest([6; 32]),
            number: 2,
            site: Some("10.77.0.0/16".parse().unwrap()),
            rate: 50_000_000,
            givers: vec![Giver {
                key,
                address: "10.77.128.9:7443".parse().unwrap(),
                held: vec![0b101],
            }],
            granted: vec![Run { first: 4, count: 2 }],
            again_ms: 500,
        };
        let chain: ChainId = "alia-test".parse().unwrap();
        let digest = "195514ed2cd7092fc696411b18f88359ccfd1d89ecbf8989486aee96ca0c4212";
        assert_eq!(Digest::of_bytes(&signing_bytes(&chain, &swarm)).to_string(), digest);
        let json = serde_json::to_string(&swarm).unwrap();
        assert!(json.contains("\"site\":\"10.77.0.0/16\""), "{json}");
        assert_eq!(serde_json::from_str::<Swarm>(&json).unwrap(), swarm);
    }
}
