//! Between a booting machine and the provisioner: events, enrolment, configuration.
//!
//! HTTP with JSON bodies. `POST /v1/machines/{mac}/events` takes `Vec<BootEvent>`;
//! `POST /v1/machines/{mac}/challenge` is of [`crate::evidence`];
//! `POST /v1/machines/{mac}/crashes` takes a [`CrashReport`];
//! `POST /v1/machines/{mac}/enrol` takes a [`Signed`]`<Enrol>` and answers a
//! [`Signed`]`<NodeConfig>`.

use crate::{
    digest::Digest,
    evidence::{Evidence, Held},
    inventory::Inventory,
    key::PublicKey,
    network::NetworkConfig,
    node::Ownership,
    operator::Operator,
    signed::{ChainId, SignedBody},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::signed::Signed;

/// Kernel command line: the provisioner's base URL, `alia.provisioner=http://10.0.0.1:8080`.
pub const ARG_PROVISIONER: &str = "alia.provisioner";
/// Kernel command line: the provisioner's public key, which first contact pins.
pub const ARG_PROVISIONER_KEY: &str = "alia.key";
/// Kernel command line: the chain's id.
pub const ARG_CHAIN: &str = "alia.chain";
/// Kernel command line: the digest of the image manifest that was booted.
pub const ARG_RELEASE: &str = "alia.release";
/// Kernel command line, in PXELINUX's form: `BOOTIF=01-52-54-00-12-34-56`, the NIC that booted us.
pub const ARG_BOOTIF: &str = "BOOTIF";

/// What the partition of a GPT is called that keeps a node's key, on machines with neither TPM nor
/// UEFI variables.
pub const KEY_PARTITION: &str = "alia-key";

/// Where a machine keeps the drivers and firmware that came in its initramfs, once it is on its root:
/// the root has links to them.
pub const INITRAMFS_DRIVERS: &str = "/run/initramfs/lib";

/// The TCP port of the node API: the only one that a node listens on.
pub const NODE_API_PORT: u16 = 7443;

/// Kernel command line: how the machine joins its network, where that is not DHCP or router
/// advertisements on the NIC that booted it ([`NetworkConfig`]).
pub const ARG_NETWORK: &str = "alia.net";

/// What a boot reports when it stands, be it that the compute service was started, or that the
/// machine stayed up for long enough: boots that failed before it count no longer.
pub const STAGE_STANDS: &str = "stands";
/// What tells that somebody asked the machine to end, which is no failed boot either.
pub const STAGE_POWER: &str = "power";

/// The longest kernel log of a crash in bytes; of a longer one the end is kept.
pub const MAX_CRASH_LEN: usize = 64 << 10;

/// The most events of one report.
pub const MAX_EVENTS: usize = 256;
/// The longest detail of an event in bytes; longer ones are cut.
pub const MAX_DETAIL_LEN: usize = 2_000;

/// Something happened on a booting machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEvent {
    /// Counts up from 0 within a boot, so that a report sent twice counts once.
    pub sequence: u32,
    /// Random, once a boot.
    pub boot_id: Digest,
    /// The stage: `mounts`, `modules`, `network`, …
    pub stage: String,
    /// What became of it.
    pub state: StageState,
    /// Milliseconds since the kernel started.
    pub at_ms: u64,
    /// For people: what, why, what to do.
    pub detail: String,
}

/// What became of a boot stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StageState {
    /// It began.
    Started,
    /// It is done.
    Done,
    /// It failed and will be tried again.
    Retrying,
    /// It failed for good; the machine goes on without, or reboots, as the detail says.
    Failed,
}

/// What a machine's kernel kept of its own death (pstore), found at the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CrashReport {
    /// The boot that found it.
    pub boot_id: Digest,
    /// Its own word for why, one line: `Kernel panic - not syncing: …`.
    pub reason: String,
    /// The end of its log, at most [`MAX_CRASH_LEN`] bytes.
    pub text: String,
}

/// A node asks to be taken in. Signed by its identity key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Enrol {
    /// The MAC address of the NIC that booted it, lower case with colons.
    pub mac: String,
    /// Random, once a boot.
    pub boot_id: Digest,
    /// The image that it booted.
    pub release: Digest,
    /// What it is made of.
    pub inventory: Inventory,
    /// What keeps its key between boots.
    pub held: Held,
    /// What its TPM vouches for, where it has one.
    pub evidence: Option<Evidence>,
}

impl SignedBody for Enrol {
    const DOMAIN: &'static str = "aliaOS enrol";
    const VERSION: u16 = 2;
}

/// A machine's settings. Signed by the provisioner's key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeConfig {
    /// The node that it is for.
    pub node: PublicKey,
    /// The boot that asked for it: a node's key outlives its boots, and settings that somebody
    /// recorded shall not.
    pub boot_id: Digest,
    /// The machine's name for people.
    pub name: String,
    /// The chain.
    pub chain: ChainId,
    /// CometBFT RPC addresses, `http://10.0.0.1:26657`; the first that answers is used.
    pub ledgers: Vec<String>,
    /// Parameter servers to take work from.
    pub parameter_servers: Vec<String>,
    /// How the node belongs to its owner.
    pub ownership: Ownership,
    /// The provisioner's clock, seconds since 1970: floors the node's.
    pub unix_time: u64,
    /// Who may speak to the node's API besides its owner, who always may; at most
    /// [`MAX_OPERATORS`](crate::operator::MAX_OPERATORS).
    pub operators: Vec<Operator>,
    /// How the machine joins its network from then on; none for as it did.
    pub network: Option<NetworkConfig>,
    /// NTP servers, names or addresses; at most [`MAX_TIME_SERVERS`]. Empty for those that DHCP
    /// names.
    pub time_servers: Vec<String>,
    /// Room for what does not fit in memory.
    pub scratch: Scratch,
}

/// The most NTP servers of a node's settings.
pub const MAX_TIME_SERVERS: usize = 8;

/// Where a node puts what does not fit in memory. Nothing there outlives the boot.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scratch {
    /// Nowhere: no disk is touched.
    #[default]
    Memory,
    /// On disks that are empty: no partition table, no file system, nothing at the beginning.
    Disk,
    /// On the disk of this id (as in /dev/disk/by-id), whatever is on it: it is lost.
    Erase(String),
}

impl SignedBody for NodeConfig {
    const DOMAIN: &'static str = "aliaOS node config";
    const VERSION: u16 = 3;
}

/// What PID 1 hands the compute service: `/run/alia/compute.json`, readable by its user alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeConfig {
    /// The chain.
    pub chain: ChainId,
    /// The machine's name for people.
    pub name: String,
    /// Seed of this boot's work key, hex.
    pub work_key: String,
    /// What lets it sign for the node.
    pub certificate: crate::signed::Signed<crate::receipt::WorkKeyCertificate>,
    /// As in [`NodeConfig`].
    pub ledgers: Vec<String>,
    /// As in [`NodeConfig`].
    pub parameter_servers: Vec<String>,
    /// As in [`Enrol`].
    pub release: Digest,
}

/// An image that a machine boots, as `image/…/manifest.json` says and the provisioner serves it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageManifest {
    /// The image's version: the workspace's.
    pub version: String,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel_release: String,
    /// The kernel.
    pub kernel: ImageFile,
    /// The initramfs.
    pub initramfs: ImageFile,
    /// The root that it verifies and mounts.
    pub root: RootImage,
    /// Microcode, which the kernel takes before anything else.
    pub microcode: Microcode,
    /// The build's timestamp (of the newest input), seconds since 1970: floors a node's clock.
    pub unix_time: u64,
}

impl ImageManifest {
    /// What receipts and registrations name as the release.
    pub fn digest(&self) -> Digest {
        Digest::of("aliaOS image manifest v3", self)
    }

    /// Every file that a machine may ask for.
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        let microcode = [&self.microcode.amd, &self.microcode.intel].into_iter().flatten();
        [&self.kernel, &self.initramfs, &self.root.file].into_iter().chain(microcode)
    }

    /// What every machine downloads: kernel, initramfs and root, in bytes.
    pub fn bytes(&self) -> u64 {
        self.kernel.bytes + self.initramfs.bytes + self.root.file.bytes
    }
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageFile {
    /// Its name beside the manifest.
    pub file: String,
    /// Its content.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Microcode for processors, by their maker: archives (cpio, not compressed) that stand before the
/// initramfs (<https://docs.kernel.org/arch/x86/microcode.html>). A processor takes what its maker
/// signed for it, and nothing else.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Microcode {
    /// AMD's.
    pub amd: Option<ImageFile>,
    /// Intel's.
    pub intel: Option<ImageFile>,
}

/// A root file system: EROFS, and behind it the hash tree of dm-verity (version 1, SHA-256, without
/// a superblock), both in one file.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RootImage {
    /// The file.
    pub file: ImageFile,
    /// What it is verified by, block by block.
    pub verity: Verity,
}

/// What dm-verity is told
/// (<https://docs.kernel.org/admin-guide/device-mapper/verity.html>).
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
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verity {
    /// Vouches for every block: SHA-256.
    pub root_hash: Digest,
    /// Hashed before each block's content.
    pub salt: Digest,
    /// Blocks of data, [`VERITY_BLOCK`] bytes each; the hash tree begins after them.
    pub data_blocks: u64,
}

/// Size of dm-verity's blocks, of data and of hashes, in bytes.
pub const VERITY_BLOCK: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::SecretKey,
        node::{Delegation, Endorsement},
        operator::OperatorRole,
        signed::{Signed, signing_bytes},
    };

    fn manifest() -> ImageManifest {
        let file = |name: &str, byte| ImageFile {
            file: name.into(),
            digest: Digest([byte; 32]),
            bytes: u64::from(byte),
        };
        ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6.12.1".into(),
            kernel: file("vmlinuz", 1),
            initramfs: file("initramfs.zst", 2),
            root: RootImage {
                file: file("root.erofs", 3),
                verity: Verity {
                    root_hash: Digest([4; 32]),
                    salt: Digest([5; 32]),
                    data_blocks: 6,
                },
            },
            microcode: Microcode { amd: Some(file("microcode-amd.cpio", 8)), intel: None },
            unix_time: 7,
        }
    }

    #[test]
    fn the_release_of_a_manifest_is_fixed() {
        let wanted = "975b88771911f9418d131f4fee495800e3d152edeced8786c37c9dfb763d9916";
        assert_eq!(manifest().digest().to_string(), wanted);
    }

    #[test]
    fn a_manifest_survives_json_and_every_part_of_its_root_counts() {
        let json = serde_json::to_string(&manifest()).unwrap();
        assert_eq!(serde_json::from_str::<ImageManifest>(&json).unwrap(), manifest());
        let mut other = manifest();
        other.root.verity.data_blocks += 1;
        assert_ne!(other.digest(), manifest().digest());
        let mut other = manifest();
        std::mem::swap(&mut other.microcode.amd, &mut other.microcode.intel);
        assert_ne!(other.digest(), manifest().digest());
        let names: Vec<_> = manifest().files().map(|file| file.file.clone()).collect();
        assert_eq!(names, ["vmlinuz", "initramfs.zst", "root.erofs", "microcode-amd.cpio"]);
    }

    /// A digest of the signed bytes stands for them: what changes them changes the version.
    #[test]
    fn the_signed_bytes_of_a_nodes_settings_are_fixed() {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]);
        let chain: ChainId = "alia-test".parse().unwrap();
        let delegation = Signed::sign(&chain, Delegation { delegate: key(2).public() }, &key(1));
        let endorsement = Signed::sign(&chain, Endorsement { node: key(3).public() }, &key(2));
        let config = NodeConfig {
            node: key(3).public(),
            boot_id: Digest([6; 32]),
            name: "bear".into(),
            chain: chain.clone(),
            ledgers: vec!["http://10.0.0.1:26657".into()],
            parameter_servers: vec!["http://10.0.0.1:7000".into()],
            ownership: Ownership { delegation, endorsement: Some(endorsement) },
            unix_time: 1_700_000_000,
            operators: vec![
                Operator { key: key(4).public(), role: OperatorRole::Reader },
                Operator { key: key(5).public(), role: OperatorRole::Operator },
            ],
            network: None,
            time_servers: vec!["10.0.0.1".into()],
            scratch: Scratch::Disk,
        };
        let bytes = signing_bytes(&chain, &config);
        assert!(bytes.ends_with(b"\x01\x00\x00\x00\x08\x00\x00\x0010.0.0.1\x01"));
        assert_eq!((NodeConfig::VERSION, bytes.len()), (3, 562));
        let digest = "99913360b60bdbf82817b3b689161e4b047fcc91db3b5bbaa2f1e7351ff4c16f";
        assert_eq!(Digest::of_bytes(&bytes).to_string(), digest);
    }
}
