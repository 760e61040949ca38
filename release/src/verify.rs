//! Whether a release holds.

use crate::{
    bundle::{Bundle, MAX_ROOTS},
    error::ReleaseError,
    memory::Memory,
};
use protocol::{
    Digest,
    release::{MANIFEST_FILE, MAX_BUNDLE_LEN, Manifest},
};
use serde_json::value::RawValue;
use std::path::Path;
use tough::{
    ExpirationEnforcement, IntoVec, Limits, Repository, RepositoryLoader, TargetName,
    schema::{Role, RoleType, Root, Signed},
};
use url::Url;

/// Where [`tough`] believes that it fetches from.
const BASE: &str = "memory://bundle/";

/// A release that holds.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it says.
    pub manifest: Manifest,
    /// The image's digest: what receipts name as the release.
    pub image: Digest,
    /// BLAKE3 of `release.json` as it was signed.
    pub manifest_digest: Digest,
    /// When the first of its metadata expires, seconds since 1970.
    pub expires: u64,
    /// Whether that was held against a time.
    pub expiry_checked: bool,
    /// The version of the newest root.
    pub root_version: u64,
    /// The newest root. Machines do not keep it: each boot begins with the one in its initramfs,
    /// and a bundle without this one leads no further than that.
    pub root_json: Vec<u8>,
}

/// Checks a release: that its roots grow out of `trusted_root` (a TUF `root.json`, any version),
/// that the roles' keys have signed it in the numbers wanted, that nothing in it expired before
/// `now` (seconds since 1970; none leaves that unchecked), and that its version is not below
/// `floor`.
///
/// `scratch` is a folder in which a temporary one can be made: [`tough`] keeps copies of what it
/// checks in files while it does so. Nothing else is read or written, no clock asked.
///
/// # Errors
/// [`ReleaseError`]: which of that does not hold.
pub async fn verify(
    trusted_root: &[u8],
    bundle: &Bundle,
    now: Option<u64>,
    floor: u64,
    scratch: &Path,
) -> Result<Verified, ReleaseError> {
    let ours: Signed<Root> = serde_json::from_slice(trusted_root)
        .map_err(|error| ReleaseError::TrustedRoot(error.to_string()))?;
    let version = ours.signed.version.get();
    let roots = chained(&ours, &bundle.files.roots)?;

    let datastore = tempfile::tempdir_in(scratch)
        .map_err(|source| ReleaseError::Scratch { path: scratch.into(), source })?;
    let base = |folder: &str| {
        Url::parse(&format!("{BASE}{folder}/")).map_err(|error| ReleaseError::altered("URL", error))
    };
    // No part is longer than the whole.
    let most = MAX_BUNDLE_LEN as u64;
    let limits = Limits {
        max_root_size: most,
        max_targets_size: most,
        max_timestamp_size: most,
        max_snapshot_size: most,
        // One more than can be there: tough refuses once it has made as many.
        max_root_updates: MAX_ROOTS as u64 + 1,
    };
    let tuf = |error| ReleaseError::of(error, version, scratch);
    let repository = RepositoryLoader::new(&trusted_root, base("metadata")?, base("targets")?)
        .transport(Memory::new(bundle, &roots))
        .limits(limits)
        .datastore(datastore.path())
        // Against `now` below: tough would ask the machine's clock, which nobody vouches for.
        .expiration_enforcement(ExpirationEnforcement::Unsafe)
        .load()
        .await
        .map_err(tuf)?;
    let delegated = repository.targets().signed.delegations.as_ref();
    if delegated.is_some_and(|to| !to.roles.is_empty()) {
        // Its threshold would be whatever the other's is.
        let why = "it hands its trust on to other keys, which no release does".into();
        return Err(ReleaseError::NotUnderstood { what: "targets.json", why });
    }
    let name = TargetName::new(MANIFEST_FILE).map_err(tuf)?;
    let missing = || ReleaseError::NotUnderstood {
        what: "targets.json",
        why: format!("it names no {MANIFEST_FILE}"),
    };
    let stream = repository.read_target(&name).await.map_err(tuf)?.ok_or_else(missing)?;
    let json = stream.into_vec().await.map_err(tuf)?;
    let manifest: Manifest = serde_json::from_slice(&json).map_err(|error| {
        ReleaseError::NotUnderstood { what: MANIFEST_FILE, why: error.to_string() }
    })?;

    if manifest.version < floor {
        return Err(ReleaseError::BelowFloor { version: manifest.version, floor });
    }
    let (role, expires) = first_to_expire(&repository);
    if let Some(now) = now.filter(|&now| now >= expires) {
        return Err(ReleaseError::Expired { role, expired: expires, now });
    }
    let root_version = repository.root().signed.version.get();
    let newest = roots.iter().position(|&version| version == root_version);
    let root_json = newest.map(|at| bundle.files.roots[at].get().as_bytes());
    Ok(Verified {
        image: manifest.image.digest(),
        manifest_digest: Digest::of_bytes(&json),
        manifest,
        expires,
        expiry_checked: now.is_some(),
        root_version,
        root_json: root_json.unwrap_or(trusted_root).to_vec(),
    })
}

/// The versions of the bundle's roots, where they are such that ours can lead to the newest.
/// Whether it does, signature by signature, is [`tough`]'s to say.
fn chained(ours: &Signed<Root>, roots: &[Box<RawValue>]) -> Result<Vec<u64>, ReleaseError> {
    let version = ours.signed.version.get();
    let mut versions: Vec<u64> = Vec::new();
    for raw in roots {
        let root: Signed<Root> = serde_json::from_str(raw.get()).map_err(|error| {
            ReleaseError::NotUnderstood { what: "root.json", why: error.to_string() }
        })?;
        let next = root.signed.version.get();
        if let Some(&last) = versions.last().filter(|&&last| last.checked_add(1) != Some(next)) {
            let why = format!("its version {next} stands after version {last}");
            return Err(ReleaseError::NotChained { why });
        }
        if next == version && root.signed != ours.signed {
            let why = format!("its version {version} is not the version {version} trusted here");
            return Err(ReleaseError::NotChained { why });
        }
        versions.push(next);
    }
    match versions.first() {
        Some(&oldest) if oldest.saturating_sub(1) > version => Err(ReleaseError::NotChained {
            why: format!(
                "its oldest version is {oldest}, and nothing leads there from version {version}, \
                 ours"
            ),
        }),
        _ => Ok(versions),
    }
}

fn first_to_expire(repository: &Repository) -> (RoleType, u64) {
    fn of<T: Role>(signed: &Signed<T>) -> (RoleType, u64) {
        // Before 1970 is as good as 1970.
        (T::TYPE, u64::try_from(signed.signed.expires().as_second()).unwrap_or_default())
    }
    let all = [
        of(repository.root()),
        of(repository.targets()),
        of(repository.snapshot()),
        of(repository.timestamp()),
    ];
    let mut first = all[0];
    for other in all {
        if other.1 < first.1 {
            first = other;
        }
    }
    first
}
