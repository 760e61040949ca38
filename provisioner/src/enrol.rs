//! Taking machines in: who may, whose identity is whose, and what a node gets.

use crate::{
    attest::{self, AttestError},
    config,
    groups::{
        Own, Placed, Rule,
        rule::{self, Claims, Verdict},
    },
    hardware::Hardware,
    life,
    machine::{Mac, usable_uuid},
    store::{Enrolled, Known},
};
use protocol::{
    ChainId, Digest, PublicKey, SecretKey, Signed,
    boot::{Enrol, NodeConfig},
    evidence::{Approval, Held},
    fleet::MachineState,
    node::{Delegation, Endorsement, Ownership, OwnershipError},
    node_api::Operator,
    signed::SignedError,
};
use std::{collections::BTreeMap, net::IpAddr};

/// How long after it was last heard of a machine is held to be there still, so that another one
/// with its identity is a second machine and not the same one with a new board or NIC.
pub const STILL_THERE_MS: u64 = 600_000;
/// The most entries of each list of an inventory; the largest servers have a few hundred PCI
/// functions.
const MAX_LIST: usize = 2_048;

/// What nodes are taken in with.
pub struct Authority {
    /// The chain.
    pub chain: ChainId,
    /// Ours: endorses nodes and signs their configuration.
    pub key: SecretKey,
    /// By which the owner lets our key take nodes in.
    pub delegation: Signed<Delegation>,
    /// CometBFT RPC addresses, as nodes reach them.
    pub ledgers: Vec<String>,
    /// Parameter servers, as nodes reach them.
    pub parameter_servers: Vec<String>,
    /// Who decides that a machine is taken in.
    pub approval: config::Approval,
    /// Who may speak to nodes' API besides the owner.
    pub operators: Vec<Operator>,
    /// NTP servers, as nodes reach them.
    pub time_servers: Vec<String>,
}

/// Key and delegation do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The delegation itself is wrong.
    #[error("the owner's delegation: {0}; have the owner make a new one for this chain")]
    Delegation(#[from] SignedError),
    /// It is for somebody else.
    #[error(
        "the owner's delegation is to key {delegate}, this provisioner's key is {ours}: give it \
         the key that was delegated to, or have the owner delegate to this one"
    )]
    NotOurs {
        /// Whom it is to.
        delegate: PublicKey,
        /// Our key.
        ours: PublicKey,
    },
}

/// A node's configuration cannot be made. Whoever configured its machine has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// An owner's delegation does not hold.
    #[error(
        "whose the node is: {0}; have the owner make a new delegation to this provisioner's key"
    )]
    Ownership(#[from] OwnershipError),
    /// It is to be somebody's whose delegation is not there.
    #[error("the machine's owner {0:?} is not in the table `owner` of the configuration any more")]
    NoOwner(String),
}

impl Authority {
    /// Checks that the owner's delegation is for our key and chain.
    pub fn check(&self) -> Result<(), AuthorityError> {
        let delegate = self.delegation.verify(&self.chain)?.delegate;
        let ours = self.key.public();
        if delegate != ours {
            return Err(AuthorityError::NotOurs { delegate, ours });
        }
        Ok(())
    }

    /// A node's configuration for one boot of it, signed.
    pub fn configuration(
        &self,
        node: PublicKey,
        boot_id: Digest,
        own: &Own,
        name: String,
        unix_time: u64,
    ) -> Result<Signed<NodeConfig>, ConfigureError> {
        let endorsement = Signed::sign(&self.chain, Endorsement { node }, &self.key);
        // Work that was to be another's is not paid to us for want of a delegation.
        let delegation = match (&own.settings.owner, &own.delegation) {
            (None, _) => &self.delegation,
            (Some(_), Some(delegation)) => delegation,
            (Some(owner), None) => return Err(ConfigureError::NoOwner(owner.clone())),
        };
        let ownership =
            Ownership { delegation: delegation.clone(), endorsement: Some(endorsement) };
        let operators = self.operators.clone();
        self.settings(node, boot_id, (own, name), unix_time, ownership, operators)
    }

    /// The same for a node that is another owner's: ours have no say there.
    pub fn configuration_of(
        &self,
        node: PublicKey,
        boot_id: Digest,
        machine: (&Own, String),
        unix_time: u64,
        ownership: Ownership,
    ) -> Result<Signed<NodeConfig>, ConfigureError> {
        self.settings(node, boot_id, machine, unix_time, ownership, Vec::new())
    }

    fn settings(
        &self,
        node: PublicKey,
        boot_id: Digest,
        (own, name): (&Own, String),
        unix_time: u64,
        ownership: Ownership,
        operators: Vec<Operator>,
    ) -> Result<Signed<NodeConfig>, ConfigureError> {
        // What a ledger would refuse is not handed out.
        ownership.verify(&self.chain, &node)?;
        let own = own.settings.clone();
        let config = NodeConfig {
            node,
            boot_id,
            name: own.name.unwrap_or(name),
            chain: self.chain.clone(),
            ledgers: self.ledgers.clone(),
            parameter_servers: own.jobs.servers(&self.parameter_servers),
            ownership,
            unix_time,
            operators,
            network: own.network,
            time_servers: self.time_servers.clone(),
            scratch: own.scratch,
        };
        Ok(Signed::sign(&self.chain, config, &self.key))
    }
}

/// A machine that has its identity already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.mac)
    }
}

/// How long an approval is taken after it was signed.
const APPROVAL_SECONDS: u64 = 300;

/// Why an approval does not count.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Wrong chain, version or signature.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Signed by somebody who has no say.
    #[error("{0} signed it: only the owner and this provisioner's own key approve machines")]
    NotTheOwner(PublicKey),
    /// Meant for another machine.
    #[error("it is for machine {0:?}")]
    OtherMachine(String),
    /// Too old, or from the future.
    #[error("it was signed at another time than now ({0} s since 1970): sign it again")]
    Old(u64),
}

/// Checks an operator's approval; gives the node's key.
pub fn approved(
    authority: &Authority,
    mac: Mac,
    approval: &Signed<Approval>,
    now: u64,
) -> Result<PublicKey, ApprovalError> {
    let body = approval.verify(&authority.chain)?;
    let may = [authority.delegation.signer, authority.key.public()];
    if !may.contains(&approval.signer) {
        return Err(ApprovalError::NotTheOwner(approval.signer));
    }
    if body.mac.parse() != Ok(mac) {
        return Err(ApprovalError::OtherMachine(body.mac.chars().take(40).collect()));
    }
    if body.issued.abs_diff(now) > APPROVAL_SECONDS {
        return Err(ApprovalError::Old(body.issued));
    }
    Ok(body.node)
}

/// Why a machine was not taken in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Wrong chain, version or signature: the node's doing.
    #[error("{0}; boot it from this provisioner again")]
    Signed(#[from] SignedError),
    /// Posted under another machine's name.
    #[error("the request is for {posted}, but {signed} signed it: one of the two is forged")]
    OtherMachine {
        /// In the path.
        posted: Mac,
        /// In the body.
        signed: String,
    },
    /// More than a machine can have.
    #[error("the inventory lists more than {MAX_LIST} {what}: no machine has so many")]
    TooLarge {
        /// Of what.
        what: &'static str,
    },
    /// One node key, two machines.
    #[error(
        "node key {node} is already that of {holder}: a node's key never leaves its machine, so \
         one of the two carries a copy; reset TPM and UEFI variables of this one in its firmware, \
         and it makes a key of its own ({holder} keeps its place); if the machine is the same with \
         another network card, approve the key for {mac}"
    )]
    SameKey {
        /// The newcomer.
        mac: Mac,
        /// The key, shortened.
        node: String,
        /// Who has it.
        holder: Holder,
    },
    /// One MAC address, two machines.
    #[error(
        "MAC address {mac} is already that of {holder} with UUID {theirs}, heard of {ago} s ago; \
         this machine has UUID {ours}: give one of the two another MAC address ({holder} keeps \
         its place; if its board was replaced, wait {wait} s)"
    )]
    SameMac {
        /// The address.
        mac: Mac,
        /// Who has it.
        holder: Holder,
        /// The UUID of that one.
        theirs: String,
        /// The newcomer's.
        ours: String,
        /// Seconds since it was heard of.
        ago: u64,
        /// Seconds until it counts as gone.
        wait: u64,
    },
    /// One TPM, two machines.
    #[error(
        "the TPM of this machine is already that of {holder}: a TPM does not move, so its state \
         was copied; look at both machines ({holder} keeps its place); if the machine is the same \
         with another network card, approve its key"
    )]
    SameChip {
        /// Who has it.
        holder: Holder,
    },
    /// The key came with another TPM, or without the one that it had.
    #[error(
        "node key {node} came {now}, before it came with TPM {before}: it was copied, or the \
         board was replaced; if it was, approve it by `provisioner approve`"
    )]
    OtherChip {
        /// The key, shortened.
        node: String,
        /// What it comes with.
        now: String,
        /// The TPM that it had.
        before: String,
    },
    /// The key came from another board.
    #[error(
        "node key {node} came from a machine with UUID {ours}, before it came from {theirs}: it \
         was copied, or the board was replaced; if it was, approve it by `provisioner approve`"
    )]
    OtherBoard {
        /// The key, shortened.
        node: String,
        /// The UUID that it had.
        theirs: String,
        /// What it comes with.
        ours: String,
    },
    /// The chip forgot resets.
    #[error(
        "the TPM counts {now} resets, before it counted {before}: its state was copied or put \
         back; if that is as it should be, approve the key by `provisioner approve`"
    )]
    ChipBehind {
        /// Its count.
        now: u32,
        /// What it was.
        before: u32,
    },
    /// The TPM's word is not believed.
    #[error("what the TPM says is not believed: {0}")]
    Attest(#[from] AttestError),
    /// A key held by a TPM that says nothing.
    #[error(
        "the node says that its TPM keeps its key, but the TPM vouches for nothing; see the \
         machine's line \"attestation\""
    )]
    Silent,
    /// An operator has to say yes.
    #[error(
        "node key {node}, kept in {held}, waits for approval: `alia node approve {mac}`, or \
         here `provisioner approve --database FILE {mac} {node}`{note}"
    )]
    Waits {
        /// The machine.
        mac: Mac,
        /// The key.
        node: PublicKey,
        /// What keeps it.
        held: &'static str,
        /// What rules say that fit it and do not let it in.
        note: String,
    },
    /// It is made of other things than what was approved.
    #[error(
        "its hardware is not what was approved: {}; node key {node} waits until somebody approves \
         that: `alia node approve {mac}`, or here `provisioner approve --database FILE {mac} {node}`",
        .changes.join(", ")
    )]
    Changed {
        /// The machine.
        mac: Mac,
        /// The key.
        node: PublicKey,
        /// What changed.
        changes: Vec<String>,
    },
    /// A boot that is over.
    #[error(
        "another boot of {mac} was taken in since that one: what asks is a recording, or a machine \
         whose state was put back; boot it again"
    )]
    Replayed {
        /// The machine.
        mac: Mac,
    },
    /// It is in quarantine, or retired.
    #[error(
        "the machine is {}: an operator has to let it out first, by `alia fleet {}` {mac}",
        .state.as_str(),
        life::commands(*.state).next().map_or("", life::Cause::as_str)
    )]
    Barred {
        /// The machine.
        mac: Mac,
        /// Where it stands.
        state: MachineState,
    },
    /// It was taken in once, and is not to be any more.
    #[error(
        "node key {node} was revoked: if it is to come back, approve it by `provisioner approve \
         --database FILE {mac} {node}`"
    )]
    Revoked {
        /// The machine.
        mac: Mac,
        /// The key.
        node: PublicKey,
    },
    /// A node that came by a medium, on another machine than the one that used the medium first.
    #[error(
        "node key {node} was bound to another machine by the medium with token {token}: it was \
         copied, or the board was replaced; its owner gets a medium for this machine by `alia \
         medium get`, after `alia medium revoke {token}` for the other one"
    )]
    OtherThanBound {
        /// The key, shortened.
        node: String,
        /// The token, shortened.
        token: String,
    },
    /// A miner's machine in the place of one that is not the same owner's.
    #[error(
        "MAC address {} is that of {holder}, which is not this machine's owner's: give one of the \
         two another MAC address",
        .holder.mac
    )]
    OthersPlace {
        /// Who has it.
        holder: Holder,
    },
    /// One UUID, two machines.
    #[error(
        "UUID {uuid} is already that of {holder}, heard of {ago} s ago in another boot: set another \
         UUID in one machine's firmware ({holder} keeps its place; if that is this machine, with \
         NIC {mac} from now on, wait {wait} s)"
    )]
    SameUuid {
        /// The UUID.
        uuid: String,
        /// Who has it.
        holder: Holder,
        /// The newcomer.
        mac: Mac,
        /// Seconds since it was heard of.
        ago: u64,
        /// Seconds until it counts as gone.
        wait: u64,
    },
}

impl EnrolError {
    /// The machine whose identity the newcomer claims, where that is what is wrong.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::SameKey { holder, .. }
            | Self::SameMac { holder, .. }
            | Self::SameChip { holder }
            | Self::OthersPlace { holder }
            | Self::SameUuid { holder, .. } => Some(holder),
            _ => None,
        }
    }

    /// Whether an approval lets the key in all the same: it or its chip was copied, or is in another
    /// machine now. Where two machines share an address or a UUID, one of them has to be changed.
    pub fn approval_lifts(&self) -> bool {
        matches!(
            self,
            Self::SameKey { .. }
                | Self::SameChip { .. }
                | Self::OtherChip { .. }
                | Self::OtherBoard { .. }
                | Self::ChipBehind { .. }
        )
    }
}

/// Checks a request as far as it can be checked by itself; `now` in seconds since 1970. Evidence
/// is checked against the challenge that `key` made.
pub fn check(
    chain: &ChainId,
    key: &SecretKey,
    now: u64,
    posted: Mac,
    request: Signed<Enrol>,
    address: Option<IpAddr>,
) -> Result<Enrolled, EnrolError> {
    let body = request.verify(chain)?;
    if body.mac.parse() != Ok(posted) {
        let signed = body.mac.chars().take(40).collect();
        return Err(EnrolError::OtherMachine { posted, signed });
    }
    let inventory = &body.inventory;
    for (what, length) in [
        ("PCI functions", inventory.pci.len()),
        ("NICs", inventory.nics.len()),
        ("disks", inventory.disks.len()),
        ("GPUs", inventory.gpus.len()),
        ("devices without a driver", inventory.undriven.len()),
        ("faults of its processor", inventory.cpu.vulnerabilities.len()),
    ] {
        if length > MAX_LIST {
            return Err(EnrolError::TooLarge { what });
        }
    }
    let (node, boot_id) = (&request.signer, &body.boot_id);
    let verified = match &body.evidence {
        Some(said) => Some(attest::check(key, said, node, boot_id, &body.release, now)?),
        None if body.held == Held::Tpm => return Err(EnrolError::Silent),
        None => None,
    };
    Ok(Enrolled {
        held: body.held,
        chip: verified.map(|verified| (verified.chip, verified.resets)),
        evidence: body.evidence.as_ref().map(protocol::evidence::Evidence::digest),
        mac: posted,
        node: request.signer,
        boot_id: body.boot_id,
        release: body.release,
        uuid: usable_uuid(&body.inventory.system.uuid),
        inventory: request.body.inventory,
        address,
    })
}

/// Who may come in without a word of an operator.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Everybody, or nobody.
    pub approval: config::Approval,
    /// Those who fit one of these.
    pub rules: &'a BTreeMap<String, Rule>,
    /// How many other machines each of them let in.
    pub taken: &'a BTreeMap<String, u64>,
}

/// A newcomer that may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The rule that says so, and where it puts the machine.
    pub placed: Option<Placed>,
    /// What changed of its hardware, all of which was approved, or needs no approval here.
    pub changes: Vec<String>,
}

impl Enrolled {
    /// What matters of its hardware.
    pub fn hardware(&self) -> Hardware {
        let chip = self.chip.map(|(chip, _)| chip);
        Hardware::of(&self.inventory, self.uuid.as_deref(), chip)
    }
}

/// Whether the newcomer's identity is its own, among those who share a MAC address, node key, UUID
/// or TPM with it, whether it is still the machine that was approved, and whether it may come in.
pub fn admit(
    newcomer: &Enrolled,
    known: &[Known],
    entry: Entry<'_>,
    now: u64,
) -> Result<Admitted, EnrolError> {
    let before = known.iter().find(|known| known.mac == newcomer.mac);
    if let Some(state) = before.map(|before| before.state).filter(|state| life::is_barred(*state)) {
        return Err(EnrolError::Barred { mac: newcomer.mac, state });
    }
    if before.is_some_and(|before| before.replayed) {
        return Err(EnrolError::Replayed { mac: newcomer.mac });
    }
    let hardware = newcomer.hardware();
    // What was approved is what was shown, and not what came instead meanwhile.
    let as_shown =
        |before: &Known| before.approved_hardware.as_ref().is_none_or(|it| *it == hardware);
    let approved =
        before.is_some_and(|before| before.approved == Some(newcomer.node) && as_shown(before));
    identity(newcomer, known, approved, now)?;
    let changes = before.and_then(|before| before.hardware.as_ref());
    let changes = changes.map_or(vec![], |before| before.changes_to(&hardware));
    let automatic = entry.approval == config::Approval::Automatic;
    if !changes.is_empty() && !approved && !automatic {
        let (mac, node) = (newcomer.mac, newcomer.node);
        return Err(EnrolError::Changed { mac, node, changes });
    }
    let seen = before.is_some_and(|before| before.node == Some(newcomer.node));
    if approved || seen {
        return Ok(Admitted { placed: None, changes });
    }
    let claims = Claims {
        mac: newcomer.mac,
        serial: &newcomer.inventory.system.serial,
        node: newcomer.node,
        chip: newcomer.chip.map(|(chip, _)| chip),
    };
    let note = match rule::judge(entry.rules, &claims, entry.taken, now) {
        Verdict::By(name) => {
            let rule = entry.rules.get(&name).cloned().unwrap_or_default();
            let placed = Placed { rule: name, group: rule.group, labels: rule.labels };
            return Ok(Admitted { placed: Some(placed), changes });
        }
        Verdict::None(why) => why.into_iter().map(|why| format!("; {why}")).collect(),
    };
    if automatic {
        return Ok(Admitted { placed: None, changes });
    }
    let held = newcomer.held.as_str();
    Err(EnrolError::Waits { mac: newcomer.mac, node: newcomer.node, held, note })
}

/// Whether a key that its machine had before is on that machine still.
fn same_hardware(newcomer: &Enrolled, before: &Known) -> Result<(), EnrolError> {
    let node = || newcomer.node.short();
    match (before.chip, newcomer.chip) {
        (Some(theirs), ours) if ours.map(|(chip, _)| chip) != Some(theirs) => {
            let now = ours.map_or("without a TPM".to_owned(), |(chip, _)| {
                format!("with TPM {}", chip.short())
            });
            Err(EnrolError::OtherChip { node: node(), now, before: theirs.short() })
        }
        (Some(_), Some((_, resets))) if resets < before.resets => {
            Err(EnrolError::ChipBehind { now: resets, before: before.resets })
        }
        _ => match (&before.uuid, &newcomer.uuid) {
            (Some(theirs), Some(ours)) if theirs != ours => {
                let (theirs, ours) = (theirs.clone(), ours.clone());
                Err(EnrolError::OtherBoard { node: node(), theirs, ours })
            }
            _ => Ok(()),
        },
    }
}

fn identity(
    newcomer: &Enrolled,
    known: &[Known],
    approved: bool,
    now: u64,
) -> Result<(), EnrolError> {
    let has_nic = |mac: Mac| newcomer.inventory.nics.iter().any(|nic| nic.mac.parse() == Ok(mac));
    for other in known {
        let holder = Holder { name: other.name.clone(), mac: other.mac };
        let idle = now.saturating_sub(other.node_seen);
        let there = other.node.is_some() && idle < STILL_THERE_MS;
        let (ago, wait) = (idle / 1000, STILL_THERE_MS.saturating_sub(idle) / 1000 + 1);
        let same_boot = other.boot_id == Some(newcomer.boot_id);
        if other.mac == newcomer.mac {
            if other.node == Some(newcomer.node) && !approved {
                same_hardware(newcomer, other)?;
            }
            if let (Some(theirs), Some(ours), true) = (&other.uuid, &newcomer.uuid, there)
                && theirs != ours
            {
                return Err(EnrolError::SameMac {
                    mac: newcomer.mac,
                    holder,
                    theirs: theirs.clone(),
                    ours: ours.clone(),
                    ago,
                    wait,
                });
            }
            continue;
        }
        // Which NICs it has is the newcomer's own word; the other's boot it can hardly guess.
        let one_machine = same_boot && has_nic(other.mac);
        // An operator said that the key is this machine's from now on.
        let came = approved && other.node == Some(newcomer.node);
        if other.node == Some(newcomer.node) && !one_machine && !came {
            let (mac, node) = (newcomer.mac, newcomer.node.short());
            return Err(EnrolError::SameKey { mac, node, holder });
        }
        let same_chip = newcomer.chip.is_some_and(|(chip, _)| other.chip == Some(chip));
        // One that boots by another of its NICs from now on, and is not heard by the old one.
        let counted_on = newcomer.chip.is_some_and(|(_, resets)| resets >= other.resets);
        let moved = has_nic(other.mac) && !there && counted_on;
        if same_chip && !one_machine && !moved && !approved {
            return Err(EnrolError::SameChip { holder });
        }
        if let (Some(uuid), true, false) = (&newcomer.uuid, there, one_machine || came)
            && other.uuid.as_ref() == Some(uuid)
        {
            let (uuid, mac) = (uuid.clone(), newcomer.mac);
            return Err(EnrolError::SameUuid { uuid, holder, mac, ago, wait });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::Settings;
    use protocol::{boot::Scratch, inventory::Inventory, inventory::Nic, node_api::OperatorRole};

    const NOW: u64 = 10_000_000;
    const UUID: &str = "11223344-5566-7788-99aa-bbccddeeff01";
    const OTHER_UUID: &str = "11223344-5566-7788-99aa-bbccddeeff02";

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn chain() -> ChainId {
        "alia-test".parse().unwrap()
    }

    fn enrol(n: u8, uuid: &str) -> Enrol {
        let mut inventory = Inventory::default();
        inventory.system.uuid = uuid.into();
        let nic = |mac: Mac, booted_from| Nic {
            name: "eth0".into(),
            mac: mac.to_string(),
            driver: None,
            carrier: true,
            booted_from,
        };
        inventory.nics = vec![nic(mac(n), true)];
        Enrol {
            mac: mac(n).to_string(),
            boot_id: Digest([n; 32]),
            release: Digest([9; 32]),
            inventory,
            held: Held::Memory,
            evidence: None,
        }
    }

    fn newcomer(n: u8, uuid: &str, seed: u8) -> Enrolled {
        let request = Signed::sign(&chain(), enrol(n, uuid), &key(seed));
        checked(&chain(), mac(n), request).unwrap()
    }

    fn checked(chain: &ChainId, mac: Mac, request: Signed<Enrol>) -> Result<Enrolled, EnrolError> {
        check(chain, &key(8), NOW / 1_000, mac, request, None)
    }

    /// Says that it has a machine's NIC too.
    fn with_nic(mut newcomer: Enrolled, of: u8) -> Enrolled {
        newcomer.inventory.nics.extend(enrol(of, UUID).inventory.nics);
        newcomer
    }

    fn in_boot(mut newcomer: Enrolled, of: u8) -> Enrolled {
        newcomer.boot_id = Digest([of; 32]);
        newcomer
    }

    /// Everybody may come in whose identity is his own.
    fn judge(newcomer: &Enrolled, known: &[Known], now: u64) -> Result<(), EnrolError> {
        without_rules(newcomer, known, config::Approval::Automatic, now)
    }

    fn without_rules(
        newcomer: &Enrolled,
        known: &[Known],
        approval: config::Approval,
        now: u64,
    ) -> Result<(), EnrolError> {
        let entry = Entry { approval, rules: &BTreeMap::new(), taken: &BTreeMap::new() };
        admit(newcomer, known, entry, now).map(drop)
    }

    fn known(n: u8, uuid: &str, seed: u8, seen: u64) -> Known {
        Known {
            mac: mac(n),
            name: format!("node-{n}"),
            uuid: Some(uuid.into()),
            node: Some(key(seed).public()),
            boot_id: Some(Digest([n; 32])),
            node_seen: seen,
            chip: None,
            resets: 0,
            approved: None,
            state: MachineState::Ready,
            hardware: None,
            approved_hardware: None,
            replayed: false,
        }
    }

    #[test]
    fn a_request_posted_for_another_machine_or_chain_is_refused() {
        let request = Signed::sign(&chain(), enrol(1, UUID), &key(1));
        let error = checked(&chain(), mac(2), request.clone()).unwrap_err();
        assert!(matches!(error, EnrolError::OtherMachine { .. }));
        let other = "alia-other".parse().unwrap();
        assert!(matches!(checked(&other, mac(1), request.clone()), Err(EnrolError::Signed(_))));
        let mut altered = request;
        altered.body.inventory.memory_bytes += 1;
        assert!(matches!(checked(&chain(), mac(1), altered), Err(EnrolError::Signed(_))));
    }

    #[test]
    fn a_machine_in_quarantine_stays_out_whatever_was_approved() {
        let before = known(1, UUID, 1, NOW - 1_000);
        for (state, way) in
            [(MachineState::Quarantined, "release"), (MachineState::Retired, "restore")]
        {
            let approved = Some(key(1).public());
            let error =
                judge(&newcomer(1, UUID, 1), &[Known { state, approved, ..before.clone() }], NOW);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(way) && text.contains(state.as_str()), "{text}");
        }
    }

    #[test]
    fn a_machine_that_reboots_with_a_new_key_is_the_same_machine() {
        let before = known(1, UUID, 1, NOW - 1_000);
        assert_eq!(judge(&newcomer(1, UUID, 2), &[before], NOW), Ok(()));
    }

    #[test]
    fn one_mac_with_two_uuids_at_a_time_is_two_machines_and_later_a_new_board() {
        let before = known(1, UUID, 1, NOW - 1_000);
        let error = judge(&newcomer(1, OTHER_UUID, 2), &[before], NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameMac { .. }));
        let text = error.to_string();
        for part in ["node-1", UUID, OTHER_UUID, "another MAC address"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
        let long_ago = known(1, UUID, 1, NOW - STILL_THERE_MS);
        assert_eq!(judge(&newcomer(1, OTHER_UUID, 2), &[long_ago], NOW), Ok(()));
    }

    #[test]
    fn one_node_key_on_two_machines_is_refused_however_long_ago() {
        let before = known(1, UUID, 1, 0);
        let error = judge(&newcomer(2, OTHER_UUID, 1), &[before], NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameKey { .. }));
    }

    #[test]
    fn a_key_that_an_operator_approved_for_another_machine_goes_there() {
        let moved = newcomer(2, UUID, 1);
        let there = known(1, UUID, 1, NOW - 1_000);
        assert!(judge(&moved, std::slice::from_ref(&there), NOW).unwrap_err().approval_lifts());
        let approved =
            Known { node: None, approved: Some(key(1).public()), ..known(2, UUID, 1, 0) };
        assert_eq!(judge(&moved, &[there.clone(), approved.clone()], NOW), Ok(()));
        // Another key of the same board, heard of a moment ago: that is another machine.
        let other = newcomer(2, UUID, 3);
        let approved = Known { approved: Some(key(3).public()), ..approved };
        let error = judge(&other, &[there, approved], NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameUuid { .. }) && !error.approval_lifts());
    }

    #[test]
    fn one_uuid_on_two_macs_is_two_machines_unless_both_nics_are_in_one() {
        let before = known(1, UUID, 1, NOW - 1_000);
        let error = judge(&newcomer(2, UUID, 2), std::slice::from_ref(&before), NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameUuid { .. }));
        let both = with_nic(newcomer(2, UUID, 2), 1);
        let error = judge(&both, std::slice::from_ref(&before), NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameUuid { .. }), "it only says so: {error}");
        assert_eq!(judge(&in_boot(both, 1), &[before], NOW), Ok(()));
    }

    #[test]
    fn a_placeholder_uuid_makes_no_conflict() {
        let shared = "03000200-0400-0500-0006-000700080009";
        let before = Known { uuid: None, ..known(1, UUID, 1, NOW) };
        assert_eq!(judge(&newcomer(2, shared, 2), &[before], NOW), Ok(()));
    }

    #[test]
    fn a_node_gets_a_configuration_that_the_ledger_will_take() {
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(7));
        let authority = Authority {
            chain: chain(),
            key: key(8),
            delegation,
            ledgers: vec!["http://10.0.0.1:26657".into()],
            parameter_servers: vec![],
            approval: config::Approval::ByHand,
            operators: vec![Operator { key: key(5).public(), role: OperatorRole::Reader }],
            time_servers: vec!["10.0.0.1".into()],
        };
        authority.check().unwrap();
        let node = key(1).public();
        let made = |own: &Own| {
            authority.configuration(node, Digest([6; 32]), own, "node-1".into(), 1_700_000_000)
        };
        let mut own = Own::default();
        own.settings.scratch = Scratch::Disk;
        let config = made(&own).unwrap();
        let gone = Own { settings: Settings { owner: Some("x".into()), ..own.settings }, ..own };
        assert!(matches!(made(&gone), Err(ConfigureError::NoOwner(_))));
        assert_eq!(config.signer, key(8).public());
        let config = config.verify(&chain()).unwrap();
        assert_eq!(config.operators, authority.operators);
        assert_eq!(config.ownership.verify(&chain(), &node), Ok(key(7).public()));
        assert_eq!((&config.scratch, config.time_servers.len()), (&Scratch::Disk, 1));
        let stranger = Authority { key: key(6), ..authority };
        assert!(matches!(stranger.check(), Err(AuthorityError::NotOurs { .. })));
    }

    fn with_chip(mut newcomer: Enrolled, chip: u8, resets: u32) -> Enrolled {
        newcomer.held = Held::Tpm;
        newcomer.chip = Some((Digest([chip; 32]), resets));
        newcomer
    }

    fn known_with_chip(chip: u8, resets: u32) -> Known {
        Known { chip: Some(Digest([chip; 32])), resets, ..known(1, UUID, 1, 0) }
    }

    #[test]
    fn a_key_that_comes_with_another_tpm_or_none_was_copied_until_an_operator_says_otherwise() {
        let before = known_with_chip(5, 3);
        let same = with_chip(newcomer(1, UUID, 1), 5, 4);
        assert_eq!(judge(&same, std::slice::from_ref(&before), NOW), Ok(()));
        for moved in [with_chip(newcomer(1, UUID, 1), 6, 4), newcomer(1, UUID, 1)] {
            let error = judge(&moved, std::slice::from_ref(&before), NOW).unwrap_err();
            assert!(
                matches!(error, EnrolError::OtherChip { .. }) && error.approval_lifts(),
                "{error}"
            );
            let told = Known { approved: Some(key(1).public()), ..before.clone() };
            assert_eq!(judge(&moved, &[told], NOW), Ok(()));
        }
    }

    #[test]
    fn a_tpm_that_forgot_resets_or_stands_in_two_machines_was_copied() {
        let before = known_with_chip(5, 3);
        let behind = with_chip(newcomer(1, UUID, 1), 5, 2);
        let error = judge(&behind, std::slice::from_ref(&before), NOW).unwrap_err();
        assert_eq!(error, EnrolError::ChipBehind { now: 2, before: 3 });
        let elsewhere = with_chip(newcomer(2, OTHER_UUID, 2), 5, 9);
        let error = judge(&elsewhere, &[before], NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameChip { .. }), "{error}");
    }

    #[test]
    fn a_copied_tpm_is_none_the_less_for_a_machine_that_lists_the_others_nic() {
        let before = Known { node_seen: NOW - 1, ..known_with_chip(5, 3) };
        let copied = with_nic(with_chip(newcomer(2, OTHER_UUID, 2), 5, 9), 1);
        let error = judge(&copied, std::slice::from_ref(&before), NOW).unwrap_err();
        assert!(matches!(error, EnrolError::SameChip { .. }) && error.approval_lifts(), "{error}");
        // One boot that is heard by both of its NICs.
        assert_eq!(judge(&in_boot(copied, 1), std::slice::from_ref(&before), NOW), Ok(()));
        // By the other NIC from now on: the first is silent, and the chip counted on.
        let silent = [Known { node_seen: 0, ..before }];
        let now_by = |resets| with_nic(with_chip(newcomer(2, UUID, 2), 5, resets), 1);
        assert_eq!(judge(&now_by(4), &silent, NOW), Ok(()));
        assert!(matches!(judge(&now_by(2), &silent, NOW), Err(EnrolError::SameChip { .. })));
    }

    #[test]
    fn a_machine_with_another_card_is_approved_once_and_its_first_address_is_not_believed() {
        let (_folder, store) = crate::store::temporary();
        let enrolled = |newcomer: &Enrolled| {
            let approval = config::Approval::Automatic;
            let judge = |known: &[Known], taken: &BTreeMap<String, u64>| {
                let entry = Entry { approval, rules: &BTreeMap::new(), taken };
                admit(newcomer, known, entry, NOW)
            };
            store.enrol(newcomer, NOW, judge).unwrap().map(drop)
        };
        let first = with_chip(newcomer(1, UUID, 1), 5, 3);
        enrolled(&first).unwrap();
        for (seed, resets) in [(1, 4), (2, 5)] {
            let moved = with_chip(newcomer(1 + seed, UUID, seed), 5, resets);
            let moved = in_boot(Enrolled { uuid: None, ..moved }, 10 + seed);
            assert!(enrolled(&moved).unwrap_err().approval_lifts());
            let hardware = moved.hardware();
            let pend =
                |cause| store.pend(moved.mac, (&moved.node, None), Some(&hardware), cause, NOW);
            pend(life::Cause::Changed).unwrap();
            let anna = life::Actor::Operator("anna".into());
            assert!(store.approve(moved.mac, &moved.node, &anna, NOW).unwrap());
            enrolled(&moved).unwrap();
            enrolled(&in_boot(with_chip(moved, 5, resets + 1), 20 + seed)).unwrap();
        }
        let back = enrolled(&with_chip(newcomer(1, UUID, 1), 5, 9)).unwrap_err();
        assert!(back.approval_lifts(), "{back}");
    }

    #[test]
    fn a_key_in_a_variable_that_comes_from_another_board_was_copied() {
        let before = known(1, UUID, 1, 0);
        let error = judge(&newcomer(1, OTHER_UUID, 1), &[before], NOW).unwrap_err();
        assert!(matches!(error, EnrolError::OtherBoard { .. }), "{error}");
    }

    #[test]
    fn by_hand_each_new_key_waits_and_a_known_or_approved_one_does_not() {
        let by_hand = |newcomer: &Enrolled, known: &[Known]| {
            without_rules(newcomer, known, config::Approval::ByHand, NOW)
        };
        let error = by_hand(&newcomer(1, UUID, 1), &[]).unwrap_err();
        assert!(matches!(error, EnrolError::Waits { .. }));
        let text = error.to_string();
        assert!(text.contains("waits for approval") && text.contains("this boot alone"), "{text}");
        let before = known(1, UUID, 1, 0);
        assert_eq!(by_hand(&newcomer(1, UUID, 1), std::slice::from_ref(&before)), Ok(()));
        let fresh = by_hand(&newcomer(1, UUID, 2), std::slice::from_ref(&before));
        assert!(matches!(fresh, Err(EnrolError::Waits { .. })));
        let told = Known { approved: Some(key(2).public()), ..before };
        assert_eq!(by_hand(&newcomer(1, UUID, 2), &[told]), Ok(()));
    }

    #[test]
    fn a_rule_lets_in_whom_it_fits_and_says_where_it_belongs() {
        let rule = Rule {
            macs: vec!["02:00:00".into()],
            group: Some("rack".into()),
            limit: Some(1),
            ..Rule::default()
        };
        let rules = [("new".to_string(), rule)].into();
        let by = |taken: u64, known: &[Known]| {
            let (approval, taken) = (config::Approval::ByHand, [("new".to_string(), taken)].into());
            admit(
                &newcomer(1, UUID, 1),
                known,
                Entry { approval, rules: &rules, taken: &taken },
                NOW,
            )
        };
        let placed = by(0, &[]).unwrap().placed.unwrap();
        assert_eq!((placed.rule.as_str(), placed.group.as_deref()), ("new", Some("rack")));
        let text = by(1, &[]).unwrap_err().to_string();
        assert!(
            text.contains("waits for approval") && text.contains("let in its 1 machines"),
            "{text}"
        );
        let seen = known(1, UUID, 1, 0);
        assert_eq!(by(1, std::slice::from_ref(&seen)).unwrap().placed, None, "known already");
        let barred = Known { state: MachineState::Quarantined, ..seen };
        assert!(matches!(by(0, &[barred]), Err(EnrolError::Barred { .. })));
    }

    #[test]
    fn changed_hardware_asks_again_and_what_is_approved_is_what_was_shown() {
        let now = newcomer(1, UUID, 1);
        let mut hardware = now.hardware();
        hardware.cpu = "another".into();
        let before = Known { hardware: Some(hardware.clone()), ..known(1, UUID, 1, 0) };
        let rule = Rule { macs: vec!["02:00:00".into()], ..Rule::default() };
        let rules = [("new".to_string(), rule)].into();
        let judged = |approval, known: &Known| {
            let entry = Entry { approval, rules: &rules, taken: &BTreeMap::new() };
            admit(&now, std::slice::from_ref(known), entry, NOW)
        };
        let by_hand = config::Approval::ByHand;
        let error = judged(by_hand, &before).unwrap_err();
        assert!(matches!(&error, EnrolError::Changed { changes, .. } if changes.len() == 1));
        assert!(error.to_string().contains("processor: another -> "), "{error}");
        // Where nobody is asked, it is told.
        assert_eq!(judged(config::Approval::Automatic, &before).unwrap().changes.len(), 1);
        let approved = |hardware| {
            let approved = Some(key(1).public());
            Known { approved, approved_hardware: Some(hardware), ..before.clone() }
        };
        assert_eq!(judged(by_hand, &approved(now.hardware())).unwrap().changes.len(), 1);
        let mut third = now.hardware();
        third.cpu = "a third".into();
        assert!(matches!(judged(by_hand, &approved(third)), Err(EnrolError::Changed { .. })));
    }

    #[test]
    fn a_boot_that_is_over_is_not_taken_in_again() {
        let before = Known { replayed: true, ..known(1, UUID, 1, 0) };
        assert!(matches!(
            judge(&newcomer(1, UUID, 1), &[before], NOW),
            Err(EnrolError::Replayed { .. })
        ));
    }

    #[test]
    fn a_tpm_that_keeps_the_key_has_to_vouch_for_the_boot() {
        let silent = Enrol { held: Held::Tpm, ..enrol(1, UUID) };
        let request = Signed::sign(&chain(), silent, &key(1));
        assert_eq!(checked(&chain(), mac(1), request).unwrap_err(), EnrolError::Silent);
    }

    #[test]
    fn only_the_owner_and_we_approve_and_only_now_and_for_this_machine() {
        let delegation = Signed::sign(&chain(), Delegation { delegate: key(8).public() }, &key(7));
        let (ledgers, parameter_servers) = (vec![], vec![]);
        let approval = config::Approval::ByHand;
        let authority = Authority {
            chain: chain(),
            key: key(8),
            delegation,
            ledgers,
            parameter_servers,
            approval,
            operators: vec![],
            time_servers: vec![],
        };
        let signed = |by: u8, of: u8, issued| {
            let (mac, node) = (mac(of).to_string(), key(1).public());
            Signed::sign(&chain(), Approval { mac, node, issued }, &key(by))
        };
        let judged = |signed: &Signed<Approval>| approved(&authority, mac(1), signed, 1_000);
        assert_eq!(judged(&signed(7, 1, 900)), Ok(key(1).public()));
        assert_eq!(judged(&signed(8, 1, 1_100)), Ok(key(1).public()));
        assert!(matches!(judged(&signed(6, 1, 1_000)), Err(ApprovalError::NotTheOwner(_))));
        assert!(matches!(judged(&signed(7, 2, 1_000)), Err(ApprovalError::OtherMachine(_))));
        assert_eq!(judged(&signed(7, 1, 600)), Err(ApprovalError::Old(600)));
    }
}
