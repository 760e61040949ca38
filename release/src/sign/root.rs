//! Root metadata: which keys each role has, and how many of them must sign.

use super::{SPECIFICATION, SigningKey, keys::ROLES, signers, time};
use std::{collections::HashMap, fmt, num::NonZeroU64};
use tough::schema::{Role, RoleKeys, RoleType, Root, Signed};

/// Names of keys for people, by key id. Signed with the rest, and believed by nobody for more than
/// naming: TUF's clients ignore it.
const NAMES: &str = "x-alia-names";

/// Who has yet to sign what.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// The file.
    pub file: String,
    /// The role whose keys must sign it.
    pub role: RoleType,
    /// How many have.
    pub have: u64,
    /// How many must.
    pub threshold: u64,
    /// The names of those that have not.
    pub from: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, role, have, threshold, from } = self;
        let from = from.join(", ");
        write!(
            f,
            "{file} has {have} of the {threshold} signatures that role {role} wants; not yet \
             signed: {from}"
        )
    }
}

/// A role's keys as they are to be.
pub(super) struct Holders<'a> {
    pub(super) role: RoleType,
    pub(super) threshold: NonZeroU64,
    pub(super) keys: Vec<(String, &'a SigningKey)>,
}

/// The first root of a network, unsigned.
pub(super) fn first(holders: &[Holders<'_>], expires: u64) -> Signed<Root> {
    let mut root = Root {
        spec_version: SPECIFICATION.into(),
        // One release a repository: names need no version.
        consistent_snapshot: false,
        version: NonZeroU64::MIN,
        expires: time(expires),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for holder in holders {
        put(&mut root, holder);
    }
    Signed { signed: root, signatures: Vec::new() }
}

/// Adds keys to a role, and sets its threshold.
pub(super) fn put(root: &mut Root, holders: &Holders<'_>) {
    let mut named = names(root);
    let role = root.roles.entry(holders.role).or_insert_with(|| RoleKeys {
        keyids: Vec::new(),
        threshold: holders.threshold,
        _extra: HashMap::new(),
    });
    role.threshold = holders.threshold;
    for (name, key) in &holders.keys {
        let Ok(id) = hex::decode(key.id()) else { continue };
        role.keyids.push(id.clone().into());
        root.keys.insert(id.into(), key.public());
        named.insert(key.id(), name.clone());
    }
    keep_names(root, named);
}

/// Takes a key out of a role.
pub(super) fn take_out(root: &mut Root, role: RoleType, id: &str) {
    let is = |other: &[u8]| hex::encode(other) == id;
    if let Some(role) = root.roles.get_mut(&role) {
        role.keyids.retain(|other| !is(other));
    }
    let roles = &root.roles;
    root.keys.retain(|other, _| roles.values().any(|role| role.keyids.contains(other)));
    let mut named = names(root);
    named.retain(|id, _| root.keys.keys().any(|key| hex::encode(key) == *id));
    keep_names(root, named);
}

fn keep_names(root: &mut Root, names: HashMap<String, String>) {
    let names = names.into_iter().map(|(id, name)| (id, name.into()));
    root._extra.insert(NAMES.into(), serde_json::Value::Object(names.collect()));
}

/// Keys' names by id.
pub(super) fn names(root: &Root) -> HashMap<String, String> {
    let all = root._extra.get(NAMES).and_then(serde_json::Value::as_object);
    let named = all.into_iter().flatten();
    named.filter_map(|(id, name)| Some((id.clone(), name.as_str()?.to_string()))).collect()
}

/// The ids of a role's keys, in the root's order.
pub(super) fn ids(root: &Root, role: RoleType) -> Vec<String> {
    root.roles
        .get(&role)
        .map_or_else(Vec::new, |role| role.keyids.iter().map(hex::encode).collect())
}

/// The roles that a key has, in the order of [`ROLES`].
pub(super) fn roles_of(root: &Root, id: &str) -> Vec<RoleType> {
    ROLES.into_iter().filter(|&role| ids(root, role).iter().any(|other| other == id)).collect()
}

/// What `signed` lacks by the keys that `root` names; none where it is complete.
pub(super) fn missing<T: Role + Clone>(
    root: &Root,
    signed: &Signed<T>,
    file: &str,
) -> Option<Missing> {
    if root.verify_role(signed).is_ok() {
        return None;
    }
    let have = signers(root, signed);
    let names = names(root);
    let left = ids(root, T::TYPE).into_iter().filter(|id| !have.contains(id));
    Some(Missing {
        file: file.into(),
        role: T::TYPE,
        have: have.len() as u64,
        threshold: root.roles.get(&T::TYPE).map_or(1, |role| role.threshold.get()),
        from: left.map(|id| names.get(&id).cloned().unwrap_or(id)).collect(),
    })
}
