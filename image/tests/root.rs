//! A small root by the real tools: read back, verified, and altered.
//!
//! Given by the environment: ALIA_CACHE, with packages or where they can be fetched into.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use image::{
    Packages,
    cpio::{Node, Tree},
    packages::Options,
    recipe,
    root::Builder,
};
use protocol::boot::VERITY_BLOCK;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

const SETTINGS: recipe::Root = recipe::Root { level: 9, cluster: 65536 };
const UNIX_TIME: u64 = 1_700_000_000;

fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.put("/proc", Node::Folder).unwrap();
    tree.file("/init", vec![7; 300_000], true).unwrap();
    let text: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
    tree.file("/lib/modules/6/nic.ko", text, false).unwrap();
    tree
}

fn packages(cache: &Path) -> Packages {
    Packages::open(Options::new(cache, "trixie"), Arc::new(|text| println!("{text}"))).unwrap()
}

#[test]
fn a_root_is_read_back_whole_and_no_flipped_byte_of_it_goes_unseen() {
    let Some(cache) = std::env::var_os("ALIA_CACHE") else {
        println!("skipped: ALIA_CACHE is not set");
        return;
    };
    let packages = packages(Path::new(&cache));
    let roots = Builder::new(&packages, &SETTINGS).unwrap_or_else(|error| panic!("{error}"));
    let root = roots.build(&tree(), UNIX_TIME).unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.erofs");
    fs::write(&path, &root.bytes).unwrap();
    roots.verify(&path, &root.verity).unwrap_or_else(|error| panic!("{error}"));

    let data = usize::try_from(root.verity.data_blocks * VERITY_BLOCK).unwrap();
    assert!(data < root.bytes.len() && root.bytes.len().is_multiple_of(4096));
    for flipped in [0, 1024, data - 1, data, root.bytes.len() - 4096] {
        let mut bytes = root.bytes.clone();
        bytes[flipped] ^= 1;
        let altered = folder.path().join("altered");
        fs::write(&altered, bytes).unwrap();
        let error = roots.verify(&altered, &root.verity);
        assert!(error.is_err(), "byte {flipped} of {data} is another, and nobody says so");
    }

    let files = folder.path().join("files");
    roots.unpack(&path, &files).unwrap_or_else(|error| panic!("{error}"));
    for (name, node) in tree().iter() {
        let found = fs::metadata(files.join(name)).unwrap();
        let mode = found.permissions().mode() & 0o7777;
        match node {
            Node::File { bytes, executable } => {
                assert!(fs::read(files.join(name)).unwrap() == *bytes, "{name}");
                assert_eq!(mode, if *executable { 0o755 } else { 0o644 }, "{name}");
                let wanted = UNIX_EPOCH + Duration::from_secs(UNIX_TIME);
                assert_eq!(found.modified().unwrap(), wanted, "{name}");
            }
            _ => assert!(found.is_dir() && mode == 0o755, "{name}"),
        }
    }
}

#[test]
fn a_root_built_elsewhere_and_later_is_the_same_to_the_byte() {
    let Some(cache) = std::env::var_os("ALIA_CACHE") else {
        println!("skipped: ALIA_CACHE is not set");
        return;
    };
    let build = || {
        // The same packages, but nothing of what was built with them.
        let folder = tempfile::tempdir().unwrap();
        for name in ["debs", "trees"] {
            symlink(Path::new(&cache).join(name), folder.path().join(name)).unwrap();
        }
        let apt = Path::new(&cache).join("apt");
        let copied = Command::new("cp").arg("-a").arg(apt).arg(folder.path()).status().unwrap();
        assert!(copied.success());
        let packages = packages(folder.path());
        let roots = Builder::new(&packages, &SETTINGS).unwrap();
        roots.build(&tree(), UNIX_TIME).unwrap_or_else(|error| panic!("{error}"))
    };
    let first = build();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(first == build());
}
