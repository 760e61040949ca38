//! Releases made, signed by several people, and refused.

use super::*;
use crate::{Bundle, ReleaseError, Verified, verify};
use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest, RootImage, Verity},
    release::Manifest,
};
use std::{fs, path::Path};

/// When the releases of these tests are made, seconds since 1970.
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 3_600;
const TWO_OF_THREE: Shape = Shape { threshold: 2, keys: 3 };
const ONE: Shape = Shape { threshold: 1, keys: 1 };
const SHAPES: [Shape; 4] = [TWO_OF_THREE, TWO_OF_THREE, ONE, ONE];

fn keys(folder: &Path) -> Keys {
    Keys::make(folder, &SHAPES, NOW + 1_000 * DAY).unwrap().keys
}

fn manifest(version: u64, floor: u64) -> Manifest {
    let file = |name: &str| ImageFile {
        file: name.into(),
        digest: Digest::of_bytes(name.as_bytes()),
        bytes: 9,
    };
    Manifest {
        version,
        image: ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6.12.0".into(),
            kernel: file("vmlinuz"),
            initramfs: file("initramfs.zst"),
            root: RootImage { file: file("root.erofs"), verity: Verity::default() },
            microcode: Default::default(),
            unix_time: 1_700_000_000,
        },
        floor,
        chain: None,
    }
}

fn unsigned(keys: &Keys, version: u64) -> Repository {
    Repository::new(keys.roots(), manifest(version, 0), NOW + 90 * DAY).unwrap()
}

fn signed(keys: &Keys, version: u64) -> Repository {
    let mut repository = unsigned(keys, version);
    for key in keys.here().unwrap() {
        repository.sign(&key);
    }
    repository
}

fn checked(
    root: &[u8],
    bundle: &Bundle,
    now: Option<u64>,
    floor: u64,
) -> Result<Verified, ReleaseError> {
    let scratch = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(verify(root, bundle, now, floor, scratch.path()));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
    result
}

/// A bundle with one text in it replaced by another.
fn altered(bundle: &Bundle, from: &str, to: &str) -> Bundle {
    let text = String::from_utf8(bundle.to_bytes()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    Bundle::from_bytes(text.replace(from, to).as_bytes()).unwrap()
}

fn key(keys: &Keys, name: &str) -> SigningKey {
    SigningKey::read(&keys.folder().join(format!("{name}.pem"))).unwrap()
}

#[test]
fn a_release_signed_by_all_who_must_says_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = signed(&keys, 7).bundle().unwrap();
    let bundle = Bundle::from_bytes(&bundle.to_bytes()).unwrap();
    let verified = checked(&keys.root_json(), &bundle, Some(NOW), 7).unwrap();
    assert_eq!(verified.manifest, manifest(7, 0));
    assert_eq!(verified.image, manifest(7, 0).image.digest());
    assert_eq!((verified.expires, verified.expiry_checked), (NOW + 90 * DAY, true));
    assert_eq!((verified.root_version, verified.root_json), (1, keys.root_json()));
}

#[test]
fn one_stolen_key_of_a_role_is_not_enough_and_two_people_sign_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let mut repository = unsigned(&keys, 1);
    for name in ["snapshot-1", "timestamp-1", "targets-2"] {
        assert_eq!(repository.sign(&key(&keys, name)).len(), 1);
    }
    // A thief of one key bundles what it has: what a maker would not, a machine must refuse.
    let RepositoryError::Incomplete(missing) = repository.bundle().unwrap_err() else { panic!() };
    let told: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["targets.json has 1 of the 2 signatures that role targets wants; not yet signed: \
             targets-1, targets-3"]
    );
    let thiefs = repository.bundled().unwrap();
    let error = checked(&keys.root_json(), &thiefs, Some(NOW), 0).unwrap_err();
    let ReleaseError::Signatures { role, valid, threshold } = error else { panic!("{error}") };
    assert_eq!((role, valid, threshold), (RoleType::Targets, 1, 2));

    let whole = folder.path().join("whole");
    repository.write(&whole).unwrap();
    let mut elsewhere = Repository::read(&whole).unwrap();
    assert_eq!(elsewhere.sign(&key(&keys, "targets-3")), [RoleType::Targets]);
    assert_eq!(elsewhere.sign(&key(&keys, "targets-3")), []);
    checked(&keys.root_json(), &elsewhere.bundle().unwrap(), Some(NOW), 0).unwrap();
}

#[test]
fn a_machine_follows_from_its_old_root_to_the_new_one_and_refuses_a_key_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(folder.path());
    let (old_root, before) = (keys.root_json(), signed(&keys, 1).bundle().unwrap());
    let thief = key(&keys, "targets-1");
    let rotation = keys.rotate(RoleType::Targets, &["targets-1".into()], NOW + 999 * DAY).unwrap();
    assert_eq!((rotation.version, rotation.missing), (2, vec![]));
    assert_eq!(rotation.out, ["targets-1"]);
    assert!(rotation.new[0].ends_with("targets-4.pem"));

    // From either root the release of the new keys holds, and the new root is what is kept.
    let after = signed(&keys, 2).bundle().unwrap();
    for root in [&old_root, &keys.root_json()] {
        let verified = checked(root, &after, Some(NOW), 0).unwrap();
        assert_eq!((verified.root_version, verified.root_json), (2, keys.root_json()));
    }
    // The key taken out counts no more, though another of its role signs with it.
    let mut stolen = unsigned(&keys, 3);
    for key in [&thief, &key(&keys, "targets-2")] {
        add_signature(&mut stolen.targets, key);
    }
    for name in ["snapshot-1", "timestamp-1"] {
        stolen.sign(&key(&keys, name));
    }
    assert!(matches!(stolen.bundle(), Err(RepositoryError::Incomplete(_))));
    let stolen = stolen.bundled().unwrap();
    let error = checked(&old_root, &stolen, Some(NOW), 0).unwrap_err();
    let ReleaseError::Signatures { role, valid, .. } = error else { panic!("{error}") };
    assert_eq!((role, valid), (RoleType::Targets, 1));
    // A machine that knows of the rotation refuses what the key signed before it, unless others
    // of the role suffice.
    let mut older = before.clone();
    older.files.roots.clear();
    older.files.roots.extend(after.files.roots.iter().cloned());
    assert!(checked(&keys.root_json(), &older, Some(NOW), 0).is_ok());
}

#[test]
fn a_root_takes_effect_once_the_old_keys_and_the_new_ones_have_signed() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(folder.path());
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["root-2.pem", "root-3.pem"] {
        fs::rename(folder.path().join(name), elsewhere.path().join(name)).unwrap();
    }
    let rotation = keys.rotate(RoleType::Timestamp, &[], NOW + 999 * DAY).unwrap();
    assert_eq!(rotation.missing.len(), 2, "by the old keys, and by the same as new ones");
    assert_eq!(keys.newest().signed.version.get(), 1);
    let error = keys.rotate(RoleType::Timestamp, &[], NOW).err().unwrap().to_string();
    assert!(error.contains("root-2, root-3") && error.contains("release sign"), "{error}");
    let other = SigningKey::read(&elsewhere.path().join("root-3.pem")).unwrap();
    assert_eq!(keys.sign_pending(&other).unwrap(), Some(vec![]));
    let read = Keys::open(folder.path()).unwrap();
    assert_eq!(read.newest().signed.version.get(), 2);
    assert_eq!(read.of_role(RoleType::Timestamp)[0].0, "timestamp-2");
    assert!(!folder.path().join(PENDING).exists());
}

#[test]
fn a_root_that_too_few_of_the_old_keys_signed_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let ours = keys.root_json();
    // A thief of one root key makes a root of its own keys.
    let others = tempfile::tempdir().unwrap();
    let thiefs = Keys::make(others.path(), &SHAPES, NOW + DAY).unwrap().keys;
    let mut next = thiefs.newest().clone();
    next.signed.version = 2.try_into().unwrap();
    next.signatures.clear();
    for name in ["root-1", "root-2"] {
        add_signature(&mut next, &key(&thiefs, name));
    }
    add_signature(&mut next, &key(&keys, "root-1"));
    let mut repository =
        Repository::new(&[keys.newest().clone(), next], manifest(1, 0), NOW + DAY).unwrap();
    for key in thiefs.here().unwrap() {
        repository.sign(&key);
    }
    let bundle = repository.bundle().unwrap();
    let error = checked(&ours, &bundle, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::NotChained { .. }), "{error}");
}

#[test]
fn another_networks_release_is_called_that() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (keys(a.path()), keys(b.path()));
    let bundle = signed(&theirs, 1).bundle().unwrap();
    let error = checked(&ours.root_json(), &bundle, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::NotChained { .. }), "{error}");
    assert!(error.to_string().contains("another network's"), "{error}");
}

#[test]
fn each_part_that_was_tampered_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let root = keys.root_json();
    let bundle = signed(&keys, 5).bundle().unwrap();
    let refused = |from: &str, to: &str| {
        checked(&root, &altered(&bundle, from, to), Some(NOW), 0).unwrap_err()
    };
    let error = refused("vmlinuz", "vmlinux");
    assert!(matches!(error, ReleaseError::Altered { what: "release.json", .. }), "{error}");
    // Its length too.
    let error = refused("vmlinuz", "vmlinuz-of-another");
    assert!(matches!(error, ReleaseError::Altered { what: "release.json", .. }), "{error}");
    let expires = super::time(NOW + 90 * DAY).to_string();
    let later = super::time(NOW + 900 * DAY).to_string();
    let error = refused(&expires, &later);
    assert!(matches!(error, ReleaseError::Signatures { role: RoleType::Timestamp, valid: 0, .. }));
    // A signature of each role.
    for (role, name) in [
        (RoleType::Targets, "targets-1"),
        (RoleType::Snapshot, "snapshot-1"),
        (RoleType::Timestamp, "timestamp-1"),
    ] {
        let mut part = bundle.clone();
        let id = key(&keys, name).id();
        let files = &mut part.files;
        for raw in [&mut files.targets, &mut files.snapshot, &mut files.timestamp] {
            let text = raw.get().replace(&format!("\"keyid\":\"{id}\",\"sig\":\""), "@");
            if let Some((head, tail)) = text.split_once('@') {
                let flipped = if tail.starts_with('0') { "1" } else { "0" };
                let text = format!("{head}\"keyid\":\"{id}\",\"sig\":\"{flipped}{}", &tail[1..]);
                *raw = serde_json::from_str(&text).unwrap();
            }
        }
        let result = checked(&root, &part, Some(NOW), 0);
        if role == RoleType::Targets {
            // Two of the three are right still: that is what a threshold is.
            result.unwrap();
            continue;
        }
        let error = result.unwrap_err();
        assert!(
            matches!(error, ReleaseError::Signatures { role: r, valid: 0, .. } if r == role),
            "{error}"
        );
    }
}

#[test]
fn parts_of_two_releases_do_not_make_a_third() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let (old, new) = (signed(&keys, 1).bundle().unwrap(), signed(&keys, 2).bundle().unwrap());
    let mut mixed = new.clone();
    mixed.files.targets = old.files.targets.clone();
    mixed.files.release = old.files.release.clone();
    let error = checked(&keys.root_json(), &mixed, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::Altered { what: "targets.json", .. }), "{error}");
    let mut mixed = new;
    mixed.files.timestamp = old.files.timestamp;
    let error = checked(&keys.root_json(), &mixed, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::Altered { what: "snapshot.json", .. }), "{error}");
}

#[test]
fn expiry_is_judged_by_the_time_given_and_by_no_clock() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let (root, bundle) = (keys.root_json(), signed(&keys, 1).bundle().unwrap());
    // This machine's own clock is neither: 1970, a second before the end, never asked.
    for now in [Some(0), Some(NOW + 90 * DAY - 1), None] {
        let verified = checked(&root, &bundle, now, 0).unwrap();
        assert_eq!(verified.expiry_checked, now.is_some());
    }
    let error = checked(&root, &bundle, Some(NOW + 90 * DAY), 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the release's targets metadata expired at 2027-04-15 08:00 UTC, and it is 2027-04-15 \
         08:00 UTC now; sign a release anew by `cargo xtask release`, or mend the clock of whoever \
         tells the time"
    );
    let error = checked(&root, &bundle, Some(u64::MAX), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::Expired { now: u64::MAX, .. }), "{error}");
}

#[test]
fn a_release_below_the_floor_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = signed(&keys, 4).bundle().unwrap();
    checked(&keys.root_json(), &bundle, Some(NOW), 4).unwrap();
    let error = checked(&keys.root_json(), &bundle, Some(NOW), 5).unwrap_err();
    assert!(matches!(error, ReleaseError::BelowFloor { version: 4, floor: 5 }), "{error}");
    let unbootable = Repository::new(keys.roots(), manifest(4, 5), NOW);
    assert!(matches!(unbootable, Err(RepositoryError::Terms(_))));
}

#[test]
fn a_root_with_a_role_that_tuf_does_not_know_is_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let bundle = signed(&keys, 1).bundle().unwrap();
    let odd =
        altered(&bundle, "\"roles\":{", "\"roles\":{\"emperor\":{\"keyids\":[],\"threshold\":1},");
    let error = checked(&keys.root_json(), &odd, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::NotUnderstood { what: "root.json", .. }), "{error}");
    // Nor may the targets role hand its trust on: nothing of ours does.
    let mut repository = unsigned(&keys, 1);
    let delegations = serde_json::json!({ "keys": {}, "roles": [{
        "name": "deputy", "keyids": [], "threshold": 1, "paths": ["*"], "terminating": true,
    }]});
    repository.targets.signed.delegations = serde_json::from_value(delegations).unwrap();
    for key in keys.here().unwrap() {
        repository.sign(&key);
    }
    let bundle = repository.bundle().unwrap();
    let error = checked(&keys.root_json(), &bundle, Some(NOW), 0).unwrap_err();
    assert!(matches!(error, ReleaseError::NotUnderstood { what: "targets.json", .. }), "{error}");
}

#[test]
fn a_bundle_cut_off_too_long_or_of_something_else_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = signed(&keys(folder.path()), 1).bundle().unwrap().to_bytes();
    for length in 0..bytes.len() {
        assert!(Bundle::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    let long = [bytes.as_slice(), &vec![b' '; protocol::release::MAX_BUNDLE_LEN]].concat();
    assert!(matches!(Bundle::from_bytes(&long), Err(crate::NotABundle::TooLong { .. })));
    for text in ["", "{}", "<html>", "null", "[]"] {
        assert!(matches!(Bundle::from_bytes(text.as_bytes()), Err(crate::NotABundle::Json(_))));
    }
    let other = String::from_utf8(bytes.clone())
        .unwrap()
        .replace("\"version\":1,\"roots\"", "\"version\":2,\"roots\"");
    let error = Bundle::from_bytes(other.as_bytes()).unwrap_err();
    assert!(matches!(error, crate::NotABundle::Format { version: 2, .. }), "{error}");
    let roots = vec![b"{}".to_vec(); crate::MAX_ROOTS + 1];
    let many = Bundle::new(&roots, b"{}", b"{}", b"{}", b"{}").unwrap_err();
    assert!(matches!(many, crate::NotABundle::Roots(33)), "{many}");
}

#[test]
fn the_same_keys_inputs_and_times_give_the_same_bytes_whoever_signs_first() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let made = |order: [&str; 5]| {
        let mut repository = unsigned(&keys, 9);
        for name in order {
            repository.sign(&key(&keys, name));
        }
        repository.bundle().unwrap().to_bytes()
    };
    assert_eq!(
        made(["targets-1", "targets-3", "snapshot-1", "timestamp-1", "root-1"]),
        made(["timestamp-1", "snapshot-1", "targets-3", "targets-1", "root-2"])
    );
}

#[test]
fn keys_are_made_once_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let made = Keys::make(folder.path(), &SHAPES, NOW).unwrap();
    assert_eq!(made.files.len(), 8);
    for path in &made.files {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let before = fs::read(&made.files[0]).unwrap();
    assert!(matches!(Keys::make(folder.path(), &SHAPES, NOW), Err(KeysError::Made(_))));
    // Nor where the secrets have been taken elsewhere, or the root has.
    for path in &made.files[1..] {
        fs::remove_file(path).unwrap();
    }
    fs::remove_file(folder.path().join("1.root.json")).unwrap();
    assert!(matches!(Keys::make(folder.path(), &SHAPES, NOW), Err(KeysError::Made(_))));
    assert_eq!(fs::read(&made.files[0]).unwrap(), before);
    fs::set_permissions(&made.files[0], fs::Permissions::from_mode(0o644)).unwrap();
    let error = SigningKey::read(&made.files[0]).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_key_of_openssl_is_one_and_other_keys_are_not() {
    let folder = tempfile::tempdir().unwrap();
    // As `openssl genpkey -algorithm ed25519` writes it.
    let ed = "-----BEGIN PRIVATE KEY-----\n\
              MC4CAQAwBQYDK2VwBCIEIBERERERERERERERERERERERERERERERERERERERERER\n\
              -----END PRIVATE KEY-----\n";
    let write = |text: &str| {
        let path = folder.path().join("key.pem");
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        SigningKey::read(&path)
    };
    assert_eq!(write(ed).unwrap().id(), SigningKey::known(0x11).id());
    assert!(matches!(write(&ed.replace("MC4", "MC8")), Err(KeyError::Content { .. })));
    assert!(matches!(write(&ed.replace("PRIVATE", "PUBLIC")), Err(KeyError::Content { .. })));
    assert!(matches!(write("hello"), Err(KeyError::Content { .. })));
}

#[test]
fn a_bundle_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = keys(folder.path());
    let first = signed(&keys, NOW).bundle().unwrap().to_bytes().len();
    keys.rotate(RoleType::Targets, &["targets-1".into()], NOW + 999 * DAY).unwrap();
    let second = signed(&keys, NOW).bundle().unwrap().to_bytes().len();
    println!("a bundle has {first} bytes, after a rotation {second}");
    assert!(first < 8_000 && second < 12_000, "{first} {second}");
}

#[test]
fn a_threshold_is_read_as_people_say_it() {
    assert_eq!("2/3".parse(), Ok(TWO_OF_THREE));
    for text in ["", "2", "0/3", "4/3", "2/99", "a/b", "2/3/4"] {
        assert!(text.parse::<Shape>().is_err(), "{text}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_of_a_bundle_can_be_changed_so_that_another_release_is_believed(
        at in 0.0..1.0f64, byte: u8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let mut bytes = signed(&keys, 3).bundle().unwrap().to_bytes();
        let at = (at * bytes.len() as f64) as usize;
        bytes[at] = byte;
        if let Ok(bundle) = Bundle::from_bytes(&bytes)
            && let Ok(verified) = checked(&keys.root_json(), &bundle, Some(NOW), 0)
        {
            proptest::prop_assert_eq!(verified.manifest, manifest(3, 0));
            proptest::prop_assert_eq!(verified.expires, NOW + 90 * DAY);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(bundle) = Bundle::from_bytes(&bytes) {
            Bundle::from_bytes(&bundle.to_bytes()).unwrap();
        }
    }
}
