//! A node's certificate: by it the provisioner knows on TLS whom it took in. It lasts for a day and
//! is renewed at half its time, so that a provisioner that knows a node no longer is asked soon, and
//! whoever finds an old one has nothing.
//!
//! `POST /v1/machines/{mac}/certificate` takes a [`Signed`]`<CertificateRequest>` and answers a
//! [`Signed`]`<NodeCertificate>`; `POST /v1/machines/{mac}/alive` takes an [`Alive`], by TLS with
//! such a certificate alone, and answers a [`Wished`].

use crate::{digest::Digest, key::PublicKey, signed::SignedBody};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::signed::Signed;

/// How often a node that is taken in says that it is alive, in seconds.
pub const ALIVE_SECONDS: u64 = 60;

/// Asks for a certificate. Signed by the node's key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The machine's MAC address, as in its enrolment.
    pub mac: String,
    /// The boot in which it was taken in.
    pub boot_id: Digest,
    /// Random: an answer that somebody recorded is for another one.
    pub nonce: Digest,
}

impl SignedBody for CertificateRequest {
    const DOMAIN: &'static str = "aliaOS certificate request";
    const VERSION: u16 = 1;
}

/// A certificate. Signed by the provisioner's key, which nodes pin.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCertificate {
    /// The node that it is for.
    pub node: PublicKey,
    /// As asked.
    pub nonce: Digest,
    /// X.509 in DER.
    #[serde(with = "hex::serde")]
    pub certificate: Vec<u8>,
    /// For how many seconds from now it is taken: a node counts them itself, whatever its clock.
    pub seconds: u64,
    /// The port on which the provisioner speaks TLS, at the address that the node knows.
    pub port: u16,
}

impl SignedBody for NodeCertificate {
    const DOMAIN: &'static str = "aliaOS node certificate";
    const VERSION: u16 = 1;
}

/// A node that was taken in is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    /// The boot.
    pub boot_id: Digest,
    /// What its sensors say, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readings: Option<Readings>,
    /// Whether its work is done and none is begun, as somebody wished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}

/// What a node is answered that says that it is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wished {
    /// What the provisioner has it do.
    pub wish: Wish,
}

/// What the provisioner has a node do: an operator's word to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Works, as nodes do.
    #[default]
    Work,
    /// Finishes the work that it has, and takes no more.
    Drain,
    /// Restarts.
    Restart,
    /// A word of a later version, which says nothing here.
    #[serde(other)]
    Other,
}

/// What a machine's sensors say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readings {
    /// What its sensors of power say together, in thousandths of watts: GPUs' boards, and the
    /// processor's package where it counts its energy. Not what the wall gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliwatts: Option<u64>,
    /// The processor's hottest sensor, in thousandths of degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millidegrees: Option<i64>,
    /// Its cards, at most [`MAX_CARDS_READ`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<CardReading>,
}

/// The most cards of [`Readings`].
pub const MAX_CARDS_READ: usize = 32;

/// What a card's sensors say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CardReading {
    /// Its PCI address as the kernel has it: `0000:01:00.0`.
    pub address: String,
    /// Its name.
    pub name: String,
    /// What its board draws, in thousandths of watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliwatts: Option<u64>,
    /// Its temperature, in thousandths of degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millidegrees: Option<i64>,
}
