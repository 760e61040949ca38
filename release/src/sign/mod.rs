//! Making releases: keys, the roots that name them, and the repository that they sign.

mod key;
mod keys;
mod repository;
mod root;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use key::{KeyError, SigningKey};
pub use keys::{Keys, KeysError, Made, PENDING, ROLES, Rotation, Shape};
pub use repository::{METADATA, Repository, RepositoryError, TARGETS};
pub use root::Missing;
pub use tough::schema::RoleType;

use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use tough::schema::{Role, Root, Signature, Signed};

/// The version of TUF's specification that the metadata follows.
const SPECIFICATION: &str = "1.0.0";

/// Canonical JSON: the same bytes for the same value.
fn canonical(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
    match value.serialize(&mut serializer) {
        Ok(()) => bytes,
        Err(error) => unreachable!("TUF's metadata is text, integers and lists of them: {error}"),
    }
}

/// Seconds since 1970 as TUF's metadata has it.
fn time(seconds: u64) -> jiff::Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

/// The keys of `root`'s role that have signed, and rightly.
fn signers<T: Role + Clone>(root: &Root, signed: &Signed<T>) -> Vec<String> {
    // tough counts signatures and does not name them: asked about one at a time, it does.
    let mut one = root.clone();
    for role in one.roles.values_mut() {
        role.threshold = std::num::NonZeroU64::MIN;
    }
    let alone = |signature: &Signature| Signed {
        signed: signed.signed.clone(),
        signatures: vec![signature.clone()],
    };
    let right = signed.signatures.iter().filter(|it| one.verify_role(&alone(it)).is_ok());
    right.map(|signature| hex::encode(&signature.keyid)).collect()
}

/// Adds a key's signature, in the place that it has whoever signs first. False where it is there
/// already.
fn add_signature<T: Role>(signed: &mut Signed<T>, key: &SigningKey) -> bool {
    let signature = key.sign(&canonical(&signed.signed));
    if signed.signatures.contains(&signature) {
        return false;
    }
    signed.signatures.retain(|other| other.keyid != signature.keyid);
    signed.signatures.push(signature);
    signed.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    true
}

#[cfg(test)]
mod tests;
