//! A network whose keys everybody knows: for tests, of other members too.

use super::{
    Repository, RoleType, SigningKey, add_signature, canonical,
    root::{self, Holders},
};
use protocol::release::Manifest;
use std::num::NonZeroU64;
use tough::schema::{Root, Signed};

/// When its root expires, seconds since 1970: in 2096.
const EXPIRES: u64 = 4_000_000_000;

/// Its keys: three of root, three of targets, one of snapshot, one of timestamp.
fn keys() -> Vec<(RoleType, Vec<SigningKey>)> {
    let known = |seeds: std::ops::RangeInclusive<u8>| seeds.map(SigningKey::known).collect();
    vec![
        (RoleType::Root, known(1..=3)),
        (RoleType::Targets, known(4..=6)),
        (RoleType::Snapshot, known(7..=7)),
        (RoleType::Timestamp, known(8..=8)),
    ]
}

fn trusted() -> Signed<Root> {
    let keys = keys();
    let holders: Vec<Holders<'_>> = keys
        .iter()
        .map(|(role, keys)| Holders {
            role: *role,
            threshold: NonZeroU64::MIN.saturating_add(u64::from(keys.len() > 1)),
            keys: keys.iter().enumerate().map(|(at, key)| (format!("{role}-{at}"), key)).collect(),
        })
        .collect();
    let mut root = root::first(&holders, EXPIRES);
    for (_, key) in keys.iter().filter(|(role, _)| *role == RoleType::Root) {
        for key in key.iter() {
            add_signature(&mut root, key);
        }
    }
    root
}

/// The root that its machines trust.
pub fn root_json() -> Vec<u8> {
    canonical(&trusted())
}

/// A release of it, signed by all; it expires at `expires`, seconds since 1970.
///
/// # Errors
/// Where the manifest is none that can be released.
pub fn released(manifest: Manifest, expires: u64) -> Result<Repository, super::RepositoryError> {
    let mut repository = Repository::new(&[trusted()], manifest, expires)?;
    for key in keys().iter().flat_map(|(_, keys)| keys) {
        repository.sign(key);
    }
    Ok(repository)
}
