//! What a machine's TPM vouches for, from a booting node to its provisioner.
//!
//! `POST /v1/machines/{mac}/challenge` takes a [`Chip`] and answers a [`Challenge`], which only
//! that chip can open; what comes of it stands in [`crate::boot::Enrol`] as [`Evidence`]. The
//! digest of the evidence that a registration was made with stands on the ledger.

use crate::{digest::Digest, key::PublicKey, signed::SignedBody};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// PCR of what configures this boot: the trust root, the command line.
/// (systemd's stub measures overridden command lines there too.)
pub const PCR_CONFIGURATION: u8 = 12;
/// PCR of what this boot runs: the release's manifest and the hash of its verified root.
pub const PCR_ROOT: u8 = 15;
/// The PCRs that evidence speaks of: all that are static but 10, which the kernel's IMA extends
/// by a log of its own.
pub const PCRS_QUOTED: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];

/// The most measurements of node-init in one boot.
pub const MAX_MEASUREMENTS: usize = 64;

/// How a node's key outlasts the power.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// In the TPM, which gives it out only where the machine booted as it did then.
    Tpm,
    /// In a UEFI variable, which whoever runs as root on this machine reads.
    UefiVariable,
    /// In memory alone: it ends with this boot.
    #[default]
    Memory,
    /// On a medium that was made for it, which whoever has the medium reads.
    Medium,
}

impl Held {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::UefiVariable => "uefi-variable",
            Self::Memory => "memory",
            Self::Medium => "medium",
        }
    }

    /// For people: what the key is held by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tpm => "TPM",
            Self::UefiVariable => "UEFI variable",
            Self::Memory => "memory, for this boot alone",
            Self::Medium => "medium",
        }
    }
}

/// Something that node-init measured: it extended a PCR before it used the thing.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The PCR: [`PCR_CONFIGURATION`] or [`PCR_ROOT`].
    pub pcr: u8,
    /// What it is: `command-line`, `release`, …
    pub name: String,
    /// The thing itself where it is short, or its digest. The PCR was extended with
    /// SHA-256(name, a zero byte, data).
    pub data: String,
}

/// A PCR's value in the bank of SHA-256.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct PcrValue {
    /// The PCR.
    pub pcr: u8,
    /// Its value.
    #[serde(with = "hex::serde")]
    pub value: [u8; 32],
}

/// A chip as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chip {
    /// Its endorsement key, which names the chip: TPMT_PUBLIC of TCG's template for P-256.
    #[serde(with = "hex::serde")]
    pub endorsement_key: Vec<u8>,
    /// Its attestation key: TPMT_PUBLIC, P-256, signs only what the chip itself says.
    #[serde(with = "hex::serde")]
    pub attestation_key: Vec<u8>,
}

impl Chip {
    /// Names the chip.
    pub fn id(&self) -> Digest {
        Digest::of("aliaOS endorsement key v1", &self.endorsement_key)
    }
}

/// What a chip is asked. Made from the provisioner's key and the time, so that nobody has to
/// remember it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Goes into the quote.
    pub nonce: Digest,
    /// When it was made, seconds since 1970.
    pub issued: u64,
    /// TPM2B_ID_OBJECT's content.
    #[serde(with = "hex::serde")]
    pub credential: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET's content.
    #[serde(with = "hex::serde")]
    pub secret: Vec<u8>,
}

/// What a chip answered, with what explains it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The chip.
    pub chip: Chip,
    /// As in [`Challenge`].
    pub issued: u64,
    /// What the chip opened the challenge's credential to: both keys are in one chip.
    pub opened: Digest,
    /// TPMS_ATTEST of a quote of [`PCRS_QUOTED`] with [`qualifying`] in it.
    #[serde(with = "hex::serde")]
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE of it by the attestation key.
    #[serde(with = "hex::serde")]
    pub signature: Vec<u8>,
    /// The values that were quoted.
    pub pcrs: Vec<PcrValue>,
    /// What node-init measured, in its order.
    pub measurements: Vec<Measurement>,
    /// What firmware measured, as the kernel gives it; empty where it gives none.
    #[serde(with = "hex::serde")]
    pub firmware_log: Vec<u8>,
}

impl Evidence {
    /// What a registration names as its evidence.
    pub fn digest(&self) -> Digest {
        Digest::of("aliaOS boot evidence v1", self)
    }
}

/// Lets a node's key take a machine's place at its provisioner: a fresh key, or one that was seen
/// with another TPM or board. Signed by the owner, or by the provisioner's own key.
/// `POST /v1/machines/{mac}/approve` takes a [`crate::Signed`]`<Approval>`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// The machine's MAC address.
    pub mac: String,
    /// The key.
    pub node: PublicKey,
    /// When it was signed, seconds since 1970: it is taken for some minutes.
    pub issued: u64,
}

impl SignedBody for Approval {
    const DOMAIN: &'static str = "aliaOS approval";
    const VERSION: u16 = 1;
}

/// What binds a quote to a challenge, a node's key and a boot.
pub fn qualifying(nonce: &Digest, node: &PublicKey, boot_id: &Digest) -> Digest {
    Digest::of("aliaOS quote v1", &(nonce, node, boot_id))
}
