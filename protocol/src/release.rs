//! A signed release: which image a network's machines boot, and since when no older one.
//!
//! The [`Manifest`] is the file `release.json` of a TUF repository
//! (<https://theupdateframework.github.io/specification/latest/>), whose signatures the member
//! `release` checks. A machine gets all of that repository in one document, the bundle, with
//! `GET /image/{digest}/release.bundle`, and the time to judge its expiry by, from its
//! provisioner, with `POST /v1/time`: [`TimeRequest`] in, [`Signed`]`<`[`TimeAnswer`]`>` out.

use crate::{
    boot::ImageManifest,
    digest::Digest,
    signed::{ChainId, SignedBody},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::signed::Signed;

/// The manifest's name as a target of the TUF repository.
pub const MANIFEST_FILE: &str = "release.json";
/// The bundle's name beside an image's other files.
pub const BUNDLE_FILE: &str = "release.bundle";
/// The trusted TUF root of an initramfs, whichever version it has.
pub const ROOT_FILE: &str = "/etc/alia/root.json";
/// The largest bundle in bytes: thirty times one of five keys and no rotation.
pub const MAX_BUNDLE_LEN: usize = 256 << 10;

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Counts up from release to release of a network; never 0.
    pub version: u64,
    /// The image.
    pub image: ImageManifest,
    /// Machines that have seen this release boot none whose version is below it.
    pub floor: u64,
    /// What the chain is believed by; none where the release is for no chain in particular.
    pub chain: Option<TrustRoot>,
}

/// A light client's trust root: what it believes of a chain before it has proven anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustRoot {
    /// The chain.
    pub chain: ChainId,
    /// SHA-256 of the genesis document, as `sha256sum genesis.json` prints it.
    pub genesis_hash: Digest,
    /// The trusted header's height.
    pub height: u64,
    /// The trusted header's hash: SHA-256, CometBFT's.
    pub header_hash: Digest,
    /// Seconds from the header's time within which its validators are believed.
    pub trusting_period_seconds: u64,
}

/// A machine without a clock that it could believe asks for the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRequest {
    /// Random, for this question alone: no older answer fits it.
    pub nonce: Digest,
    /// The MAC address of the NIC that booted it, lower case with colons.
    pub mac: String,
    /// Random, once a boot.
    pub boot_id: Digest,
    /// Whether it was booted by the provisioner's script, which counts a boot too.
    pub scripted: bool,
}

/// The time. Signed by the provisioner's key.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct TimeAnswer {
    /// The request's.
    pub nonce: Digest,
    /// Seconds since 1970.
    pub unix_time: u64,
    /// Which boot in a row this is that none before it came to stand, from 1. It is no word on the
    /// kernel's command line: a TPM would take that for another boot, and keep the node's key.
    pub attempt: u32,
}

impl SignedBody for TimeAnswer {
    const DOMAIN: &'static str = "aliaOS time answer";
    const VERSION: u16 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::{RootImage, Verity},
        key::SecretKey,
        signed::Signed,
    };

    #[test]
    fn a_signed_time_has_these_bytes() {
        let body = TimeAnswer { nonce: Digest([7; 32]), unix_time: 1_800_000_000, attempt: 1 };
        let chain: ChainId = "alia-test".parse().unwrap();
        let signed = Signed::sign(&chain, body, &SecretKey::from_seed([1; 32]));
        signed.verify(&chain).unwrap();
        let wanted = concat!(
            "020009000000616c69612d746573740707070707070707070707070707070707070707070707",
            "07070707070707070700d2496b00000000010000008a88e3dd7409f195fd52db2d3cba5d72ca",
            "6709bf1d94121bf3748801b40f6f5cefd9c9356f9e00f4df009b23269089e9e335bd28a469c3",
            "1f6ac50b9e934b669441cdfa7a33149b4cfc82da4f3d0e2ecdfb4a93da9106536dc09f1a55c1",
            "412808",
        );
        assert_eq!(hex::encode(borsh::to_vec(&signed).unwrap()), wanted);
    }

    #[test]
    fn a_manifest_is_this_json() {
        let file = |name: &str| crate::boot::ImageFile {
            file: name.into(),
            digest: Digest([1; 32]),
            bytes: 5,
        };
        let manifest = Manifest {
            version: 3,
            image: ImageManifest {
                version: "0.1.0".into(),
                kernel_release: "6.12.0".into(),
                kernel: file("vmlinuz"),
                initramfs: file("initramfs.zst"),
                root: RootImage { file: file("root.erofs"), verity: Verity::default() },
                microcode: Default::default(),
                unix_time: 1_700_000_000,
            },
            floor: 2,
            chain: Some(TrustRoot {
                chain: "alia-test".parse().unwrap(),
                genesis_hash: Digest([2; 32]),
                height: 4,
                header_hash: Digest([3; 32]),
                trusting_period_seconds: 100,
            }),
        };
        let json = serde_json::to_value(&manifest).unwrap();
        assert_eq!(json["version"], 3);
        assert_eq!(json["floor"], 2);
        assert_eq!(json["chain"]["genesis_hash"], "02".repeat(32));
        assert_eq!(serde_json::from_value::<Manifest>(json.clone()).unwrap(), manifest);
        let mut more = json;
        more["flor"] = 2.into();
        assert!(serde_json::from_value::<Manifest>(more).is_err());
    }
}
