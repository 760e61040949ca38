//! A medium that a miner's machine boots from: whose node comes of it, and who says so.
//!
//! ```text
//! owner --[Grant]+[Delegation]--> token --[Binding]+[Endorsement]--> node
//! ```
//!
//! The token is an ed25519 key that lies on the medium. The owner signs twice: a [`Delegation`] to
//! it, which the ledger reads and which decides who is paid, and a [`Grant`], which the provisioner
//! reads and which ends if the medium is not used. The token signs twice, at first use: an
//! [`Endorsement`] for the ledger, and a [`Binding`] to node and machine for the provisioner. All of
//! it travels in a [`Claim`], which the node's own key signs; none of it is a secret.
//!
//! `POST /v1/media` takes a [`Granted`]; `POST /v1/machines/{mac}/claim` a
//! [`Signed`]`<`[`Claim`]`>`; `POST /v1/media/{token}/revoke` a [`Signed`]`<`[`Withdrawal`]`>`.
//! `GET /v1/media` gives a [`Signed`]`<`[`Offer`]`>`. `docs/home.md` says what each party can do
//! with what it has.

mod record;

pub use record::{NotFilled, RECORD_LEN, Record, RecordError, RecordText, blank, fill};

use crate::{
    digest::Digest,
    inventory::System,
    key::{PublicKey, SecretKey},
    node::{Delegation, Endorsement, Ownership, OwnershipError},
    signed::{ChainId, Signed, SignedBody, SignedError},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The longest that a medium may wait for its first use, in seconds: 90 days. A stick that lies in
/// a drawer for longer is one that nobody remembers.
pub const MAX_WAIT: u64 = 90 * 86_400;

/// Where systemd's stub puts what lies beside a UKI (systemd-stub(7)); on a BIOS machine an archive
/// that stands behind the initramfs has it.
pub const RECORD_FILE: &str = "/.extra/credentials/alia-medium.cred";

/// The owner lets one node in by a token, at one provisioner, for a time. Signed by the owner.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// The medium's key.
    pub token: PublicKey,
    /// The provisioner's: another one has nothing of it.
    pub provisioner: PublicKey,
    /// When it was signed, seconds since 1970.
    pub issued: u64,
    /// When it ends, unless a node came of it before; at most [`MAX_WAIT`] later.
    pub expires: u64,
}

impl SignedBody for Grant {
    const DOMAIN: &'static str = "aliaOS medium grant";
    const VERSION: u16 = 1;
}

/// What the owner signs for a medium.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Granted {
    /// For the provisioner.
    pub grant: Signed<Grant>,
    /// For the ledger.
    pub delegation: Signed<Delegation>,
}

/// What the owner signed is worth nothing here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Wrong chain, version or signature.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Two owners.
    #[error(
        "grant and delegation are signed by two keys, {grant} and {delegation}: sign both anew"
    )]
    TwoOwners {
        /// The grant's signer.
        grant: PublicKey,
        /// The delegation's.
        delegation: PublicKey,
    },
    /// Two tokens.
    #[error("grant and delegation name two tokens, {grant} and {delegation}: sign both anew")]
    TwoTokens {
        /// The grant's.
        grant: PublicKey,
        /// The delegation's.
        delegation: PublicKey,
    },
    /// It is for another provisioner.
    #[error(
        "the owner's grant is for the provisioner with key {found}, this one's is {ours}: get a \
         medium from the provisioner that the machine shall boot from"
    )]
    OtherProvisioner {
        /// The one that was meant.
        found: PublicKey,
        /// This one.
        ours: PublicKey,
    },
    /// Its time cannot be.
    #[error(
        "a grant from {issued} to {expires} (seconds since 1970) cannot be: it lasts for 1 second to \
         90 days"
    )]
    Period {
        /// From.
        issued: u64,
        /// To.
        expires: u64,
    },
}

impl Granted {
    /// Signs both for a token.
    pub fn sign(chain: &ChainId, grant: Grant, owner: &SecretKey) -> Self {
        let delegation = Delegation { delegate: grant.token };
        Self {
            delegation: Signed::sign(chain, delegation, owner),
            grant: Signed::sign(chain, grant, owner),
        }
    }

    /// Checks that both are of one owner, for one token and for the provisioner of that key, and
    /// that the time can be; whether it is over is the caller's to ask.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn verify(&self, chain: &ChainId, provisioner: &PublicKey) -> Result<&Grant, GrantError> {
        let grant = self.grant.verify(chain)?;
        let delegate = self.delegation.verify(chain)?.delegate;
        if self.grant.signer != self.delegation.signer {
            let (grant, delegation) = (self.grant.signer, self.delegation.signer);
            return Err(GrantError::TwoOwners { grant, delegation });
        }
        if grant.token != delegate {
            return Err(GrantError::TwoTokens { grant: grant.token, delegation: delegate });
        }
        if grant.provisioner != *provisioner {
            return Err(GrantError::OtherProvisioner {
                found: grant.provisioner,
                ours: *provisioner,
            });
        }
        let lasts = grant.expires.checked_sub(grant.issued);
        if lasts.is_none_or(|seconds| seconds == 0 || seconds > MAX_WAIT) {
            let (issued, expires) = (grant.issued, grant.expires);
            return Err(GrantError::Period { issued, expires });
        }
        Ok(grant)
    }

    /// Who is paid. Believed only after [`Granted::verify`].
    pub fn owner(&self) -> PublicKey {
        self.delegation.signer
    }
}

/// The token is used up by a node on a machine. Signed by the token's key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The node's identity key.
    pub node: PublicKey,
    /// What its firmware says of the machine ([`machine_facts`]).
    pub machine: Digest,
}

impl SignedBody for Binding {
    const DOMAIN: &'static str = "aliaOS medium binding";
    const VERSION: u16 = 1;
}

/// What stays the same of a machine while cards and disks are changed: what its firmware says of
/// the board.
pub fn machine_facts(system: &System) -> Digest {
    let facts = (&system.vendor, &system.product, &system.serial, &system.uuid);
    Digest::of("aliaOS machine facts v1", &facts)
}

/// A node shows whose it is. Signed by the node's key, in each boot.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What the owner signed.
    pub granted: Granted,
    /// By the token, for the provisioner.
    pub binding: Signed<Binding>,
    /// By the token, for the ledger.
    pub endorsement: Signed<Endorsement>,
    /// The MAC address of the NIC that the machine is known by, lower case with colons.
    pub mac: String,
    /// The boot.
    pub boot_id: Digest,
}

impl SignedBody for Claim {
    const DOMAIN: &'static str = "aliaOS medium claim";
    const VERSION: u16 = 1;
}

/// A claim was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A signature, version or chain is wrong.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// What the owner signed is worth nothing here.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The node's place in the owner's account is not shown.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The binding is by somebody else.
    #[error("the binding is by {signer}, but the owner's grant is to token {token}")]
    NotTheToken {
        /// Who signed.
        signer: PublicKey,
        /// Who may.
        token: PublicKey,
    },
    /// The binding is to somebody else.
    #[error("the token is bound to node {named}, and node {node} shows it: it was copied")]
    NotThisNode {
        /// To whom it is bound.
        named: PublicKey,
        /// Who came.
        node: PublicKey,
    },
}

/// What a claim comes to, once it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The token.
    pub token: PublicKey,
    /// The node.
    pub node: PublicKey,
    /// The machine.
    pub machine: Digest,
    /// When the token ends, if no node came of it before; seconds since 1970.
    pub expires: u64,
    /// How the node belongs to its owner, as the ledger reads it.
    pub ownership: Ownership,
}

impl Claimed {
    /// Who is paid.
    pub fn owner(&self) -> PublicKey {
        self.ownership.delegation.signer
    }
}

impl Claim {
    /// What a machine that has a medium's record says, with the keys of both.
    pub fn sign(
        chain: &ChainId,
        record: &Record,
        node: &SecretKey,
        machine: Digest,
        (mac, boot_id): (String, Digest),
    ) -> Signed<Self> {
        let public = node.public();
        let claim = Self {
            granted: record.granted.clone(),
            binding: Signed::sign(chain, Binding { node: public, machine }, &record.token),
            endorsement: Signed::sign(chain, Endorsement { node: public }, &record.token),
            mac,
            boot_id,
        };
        Signed::sign(chain, claim, node)
    }
}

/// Checks every signature of a claim at the provisioner of that key.
///
/// # Errors
/// [`ClaimError`], saying whose mistake or lie it is.
pub fn check_claim(
    claim: &Signed<Claim>,
    chain: &ChainId,
    provisioner: &PublicKey,
) -> Result<Claimed, ClaimError> {
    let node = claim.signer;
    let body = claim.verify(chain)?;
    let Grant { token, expires, .. } = *body.granted.verify(chain, provisioner)?;
    let binding = body.binding.verify(chain)?;
    if body.binding.signer != token {
        return Err(ClaimError::NotTheToken { signer: body.binding.signer, token });
    }
    if binding.node != node {
        return Err(ClaimError::NotThisNode { named: binding.node, node });
    }
    let ownership = Ownership {
        delegation: body.granted.delegation.clone(),
        endorsement: Some(body.endorsement.clone()),
    };
    ownership.verify(chain, &node)?;
    Ok(Claimed { token, node, machine: binding.machine, expires, ownership })
}

/// The owner takes a token back: it binds no more, and the node that came of it is taken in no
/// more. Signed by the owner.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Withdrawal {
    /// The token.
    pub token: PublicKey,
    /// The provisioner's key.
    pub provisioner: PublicKey,
}

impl SignedBody for Withdrawal {
    const DOMAIN: &'static str = "aliaOS medium withdrawal";
    const VERSION: u16 = 1;
}

/// What a provisioner has for miners. Signed by the provisioner's key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Offer {
    /// The provisioner's clock, seconds since 1970.
    pub unix_time: u64,
    /// The medium without an owner, as `GET /miners/medium` gives it.
    pub medium: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// The most tokens of one owner that wait for their first use.
    pub most_waiting: u32,
    /// The most tokens of one owner in all.
    pub most: u32,
}

impl SignedBody for Offer {
    const DOMAIN: &'static str = "aliaOS medium offer";
    const VERSION: u16 = 1;
}

/// How a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TokenState {
    /// It waits for its first use.
    Issued,
    /// A node came of it.
    Bound,
    /// It was taken back.
    Revoked,
    /// Its time was over before its first use.
    Expired,
}

impl TokenState {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Bound => "bound",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A token as `GET /v1/media/{token}` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenStatus {
    /// The token.
    pub token: PublicKey,
    /// Who is paid.
    pub owner: crate::key::Address,
    /// How it stands.
    pub state: TokenState,
    /// When it was registered, milliseconds since 1970.
    pub made: u64,
    /// When it ends, if it was not used; seconds since 1970.
    pub expires: u64,
    /// The node that came of it.
    pub node: Option<PublicKey>,
    /// The MAC address that its machine came by at first.
    pub mac: Option<String>,
    /// When it came, milliseconds since 1970.
    pub bound_at: Option<u64>,
}

#[cfg(test)]
mod tests;
