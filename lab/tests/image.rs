//! The real image built a second time, elsewhere: the same bytes. And booted from a disk.
//!
//! Given by the environment: ALIA_CACHE, ALIA_IMAGE (an image built there), the programs in it,
//! ALIA_NODE_INIT and ALIA_COMPUTE, ALIA_COMETBFT, and ALIA_BOOTS where machines may be booted.
//! `cargo xtask test` gives an image of the prebuilt kernel, `--long kernel` one of the source kernel.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use image::{Inputs, Packages, Recipe, golang, packages::Options, root::Builder, sbom::Origins};
use lab::{Accelerator, Service, ServiceSpec, accel::PROBE_LINE, disk, tools::COMETBFT_VERSION};
use protocol::boot::{ImageManifest, RootImage, VERITY_BLOCK};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// Of a mode, as `stat` has it, the kind; and that of a file.
const KIND: u32 = 0o170_000;
const FILE: u32 = 0o100_000;

fn recipe() -> Recipe {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/image.toml");
    Recipe::read(Path::new(path)).unwrap()
}

#[test]
fn two_builds_of_the_real_image_give_identical_bytes() {
    let given = |name: &str| std::env::var_os(name).map(|path| fs::canonicalize(path).unwrap());
    let [Some(cache), Some(image), Some(init), Some(compute)] =
        ["ALIA_CACHE", "ALIA_IMAGE", "ALIA_NODE_INIT", "ALIA_COMPUTE"].map(given)
    else {
        println!("skipped: ALIA_CACHE, ALIA_IMAGE, ALIA_NODE_INIT or ALIA_COMPUTE is not set");
        return;
    };
    let read = |folder: &Path| -> ImageManifest {
        serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
    };
    let first = read(&image);

    // Another cache: the same packages and lists, but nothing of what was built from them.
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("cache");
    fs::create_dir(&other).unwrap();
    for name in ["debs", "trees"] {
        symlink(cache.join(name), other.join(name)).unwrap();
    }
    let copied = Command::new("cp").arg("-a").arg(cache.join("apt")).arg(&other).status().unwrap();
    assert!(copied.success());

    let recipe = recipe();
    let options = Options::new(&other, recipe.suite.clone());
    let packages = Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap();
    let output = folder.path().join("image");
    // What the first was built to trust: its newest root.
    let root = |version: u32| fs::read(image.join(format!("release/metadata/{version}.root.json")));
    let trust = (1..).map_while(|version| root(version).ok()).last().unwrap();
    let inputs = Inputs {
        recipe: &recipe,
        packages: &packages,
        kernel: image::build::prebuilt(&recipe, &packages).unwrap(),
        libraries: None,
        init: &init,
        compute: &compute,
        flavour: "cpu",
        others: &BTreeMap::new(),
        origins: &Origins::default(),
        version: &first.version,
        trust: &trust,
        output: &output,
    };
    let second = image::build::build(&inputs).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(second.manifest, first);
    for file in ["vmlinuz", "initramfs.zst", "root.erofs", "report.txt", "report.svg"] {
        assert!(
            fs::read(image.join(file)).unwrap() == fs::read(output.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn the_real_root_is_what_its_hash_vouches_for_and_one_flipped_byte_is_not() {
    let given = |name: &str| std::env::var_os(name).map(|path| fs::canonicalize(path).unwrap());
    let [Some(cache), Some(image)] = ["ALIA_CACHE", "ALIA_IMAGE"].map(given) else {
        println!("skipped: ALIA_CACHE or ALIA_IMAGE is not set");
        return;
    };
    let manifest: ImageManifest =
        serde_json::from_slice(&fs::read(image.join("manifest.json")).unwrap()).unwrap();
    let recipe = recipe();
    let options = Options::new(&cache, recipe.suite.clone());
    let packages = Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap();
    let roots = Builder::new(&packages, &recipe.root).unwrap();
    let RootImage { file, verity } = manifest.root;
    let root = image.join(&file.file);
    roots.verify(&root, &verity).unwrap_or_else(|error| panic!("{error}"));

    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(&root).unwrap();
    let data = usize::try_from(verity.data_blocks * VERITY_BLOCK).unwrap();
    // In the first block, in the last one, and in the hash tree.
    for flipped in [1024, data - 1, bytes.len() - 1000] {
        let mut bytes = bytes.clone();
        bytes[flipped] ^= 1;
        let path = folder.path().join("flipped");
        fs::write(&path, bytes).unwrap();
        let error = roots.verify(&path, &verity);
        assert!(
            error.is_err(),
            "byte {flipped} of {data} data bytes is another, and nobody says so"
        );
    }

    let files = folder.path().join("files");
    roots.unpack(&root, &files).unwrap_or_else(|error| panic!("{error}"));
    let same = |inside: &str, built: &str| {
        let built = std::env::var_os(built).map(fs::read);
        built.is_none_or(|built| built.unwrap() == fs::read(files.join(inside)).unwrap())
    };
    assert!(same("usr/bin/compute", "ALIA_COMPUTE"));
    let modules = files.join("lib/modules").join(&manifest.kernel_release);
    for (path, executable) in [
        (files.join("usr/bin/compute"), true),
        (files.join("lib64/ld-linux-x86-64.so.2"), true),
        (modules.join("modules.dep"), false),
        (files.join("etc/alia/build.json"), false),
    ] {
        let found = fs::metadata(&path).unwrap();
        let wanted = if executable { 0o755 } else { 0o644 };
        assert_eq!(found.permissions().mode() & 0o7777, wanted, "{}", path.display());
        assert_eq!(found.modified().unwrap(), UNIX_EPOCH + Duration::from_secs(manifest.unix_time));
    }
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        assert_eq!(fs::read_dir(files.join(folder)).unwrap().count(), 0, "{folder} is empty");
    }
}

/// Something in an image.
struct Entry {
    path: String,
    /// With its kind, as `stat` has it.
    mode: u32,
    /// Its content, of a file.
    bytes: Vec<u8>,
}

/// All that lies below a folder.
fn below(top: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let found = fs::symlink_metadata(&path).unwrap();
            let bytes = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let name = path.strip_prefix(top).unwrap().display().to_string();
            entries.push(Entry { path: name, mode: found.mode(), bytes });
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    entries
}

/// All that an initramfs has: archives of cpio's format `newc`, one after the other.
fn archived(initramfs: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < initramfs.len() {
        let header = str::from_utf8(&initramfs[at..at + 110]).unwrap();
        assert!(header.starts_with("070701"), "{header}");
        let field = |number: usize| {
            let from = 6 + 8 * number;
            u32::from_str_radix(&header[from..from + 8], 16).unwrap()
        };
        let (mode, size, name) = (field(1), field(6) as usize, field(11) as usize);
        // The name ends with a zero.
        let path = String::from_utf8(initramfs[at + 110..at + 109 + name].to_vec()).unwrap();
        let content = (at + 110 + name).next_multiple_of(4);
        let bytes = initramfs[content..content + size].to_vec();
        entries.push(Entry { path, mode, bytes });
        at = (content + size).next_multiple_of(4);
    }
    entries
}

/// The folder of the image given, and what its initramfs and its root have; none where none is given.
fn unpacked() -> Option<(PathBuf, Vec<Entry>, Vec<Entry>)> {
    let given = |name: &str| std::env::var_os(name).map(|path| fs::canonicalize(path).unwrap());
    let [Some(cache), Some(image)] = ["ALIA_CACHE", "ALIA_IMAGE"].map(given) else {
        println!("skipped: ALIA_CACHE or ALIA_IMAGE is not set");
        return None;
    };
    let recipe = recipe();
    let options = Options::new(&cache, recipe.suite.clone());
    let packages = Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap();
    let roots = Builder::new(&packages, &recipe.root).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    roots.unpack(&image.join("root.erofs"), &files).unwrap_or_else(|error| panic!("{error}"));
    let packed = fs::read(image.join("initramfs.zst")).unwrap();
    let initramfs = archived(&zstd::decode_all(packed.as_slice()).unwrap());
    Some((image, initramfs, below(&files)))
}

#[test]
fn of_the_real_image_our_programs_alone_can_be_executed_and_none_as_another_user() {
    const AS_ANOTHER: u32 = 0o6_000;
    let Some((_, initramfs, root)) = unpacked() else { return };
    // No shell, then, and nothing else that interprets.
    let trees: [(Vec<Entry>, &[&str]); 2] =
        [(root, &["lib64/ld-linux-x86-64.so.2", "usr/bin/compute"]), (initramfs, &["init"])];
    for (entries, wanted) in trees {
        let mut executable = Vec::new();
        for Entry { path, mode, bytes } in &entries {
            assert_eq!(mode & AS_ANOTHER, 0, "{path} has mode {mode:o}");
            if mode & KIND == FILE {
                assert!(!bytes.starts_with(b"#!"), "{path} is a script");
                executable.extend((mode & 0o111 != 0).then_some(path.as_str()));
            }
        }
        executable.sort_unstable();
        assert_eq!(executable, wanted, "of {} entries", entries.len());
    }
}

#[test]
fn every_file_of_the_real_image_has_its_origin_in_the_bill_of_materials() {
    let Some((image, initramfs, root)) = unpacked() else { return };
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(image.join(name)).unwrap()).unwrap()
    };
    let bill = json("sbom.json");
    let tools = bill["metadata"]["tools"]["components"].as_array().unwrap();
    let parts: BTreeMap<&str, &Value> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .chain(tools)
        .filter_map(|part| Some((part["bom-ref"].as_str()?, part)))
        .collect();
    // What a file is of, and how many bytes it has.
    let told = |file: &str| {
        let part = parts.get(format!("file:{file}").as_str());
        let part = part.unwrap_or_else(|| panic!("the bill does not tell of {file}"));
        let properties = part["properties"].as_array().unwrap();
        let value = |name: &str| {
            let found = properties.iter().find(|property| property["name"] == name);
            found.and_then(|property| property["value"].as_str()).unwrap_or("none")
        };
        let origin = parts.get(value("alia:origin"));
        let origin = origin.unwrap_or_else(|| panic!("{file} is of {:?}", value("alia:from")));
        (*origin, value("alia:bytes").to_owned())
    };
    let manifest: ImageManifest = serde_json::from_value(json("manifest.json")).unwrap();
    for file in manifest.files() {
        let (origin, bytes) = told(&file.file);
        assert_eq!(bytes, file.bytes.to_string(), "{}", file.file);
        let is_made = [&manifest.initramfs, &manifest.root.file].contains(&file);
        let (name, hash) = (origin["bom-ref"].as_str().unwrap(), &origin["hashes"][0]["content"]);
        match is_made {
            true => assert_eq!(name, "builder", "{}", file.file),
            // A package, by its digest in the archive's signed index.
            false => assert!(name.starts_with("deb:") && hash.is_string(), "{}", file.file),
        }
    }
    for (place, entries) in [("initramfs", &initramfs), ("root", &root)] {
        let files = entries.iter().filter(|entry| entry.mode & KIND == FILE);
        let mut count = 0;
        for Entry { path, bytes, .. } in files {
            assert_eq!(told(&format!("{place}:/{path}")).1, bytes.len().to_string(), "{path}");
            count += 1;
        }
        let prefix = format!("file:{place}:");
        let listed = parts.keys().filter(|name| name.starts_with(&prefix)).count();
        assert_eq!(listed, count, "the bill names files that the {place} does not have");
    }
}

#[test]
fn the_real_cometbft_names_the_modules_that_it_is_made_of() {
    let Some(program) = std::env::var_os("ALIA_COMETBFT") else {
        println!("skipped: ALIA_COMETBFT is not set");
        return;
    };
    let build = golang::build(&fs::read(program).unwrap()).unwrap();
    assert!(build.go.starts_with("go1."), "{}", build.go);
    let own = &build.modules[0];
    let named = (own.path.as_str(), own.version.strip_prefix('v'));
    assert_eq!(named, ("github.com/cometbft/cometbft", Some(COMETBFT_VERSION)));
    assert!(build.modules.len() > 10, "{:?}", build.modules);
    for module in &build.modules {
        assert!(module.sum.starts_with("h1:"), "{module:?}");
    }
}

/// By the CycloneDX project's own schema.
#[test]
fn the_real_bill_of_materials_is_what_cyclonedx_says_one_is() {
    let given = ["ALIA_IMAGE", "ALIA_CYCLONEDX_PYTHON"].map(std::env::var_os);
    let [Some(image), Some(python)] = given else {
        println!("skipped: ALIA_IMAGE or ALIA_CYCLONEDX_PYTHON is not set");
        return;
    };
    const VALIDATE: &str = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())\n\
        sys.exit(repr(error) if error else 0)";
    let bill = Path::new(&image).join("sbom.json");
    let output = Command::new(python).args(["-c", VALIDATE]).arg(&bill).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(bill).unwrap();
    for wanted in ["pkg:deb/debian/libc6@", "pkg:cargo/blake3@", "\"/usr/bin/compute\""] {
        assert!(text.contains(wanted), "{wanted}");
    }
}

/// By SeaBIOS, in QEMU: the campaign that needs such disks boots them by another BIOS.
#[test]
fn a_bios_boots_the_real_image_from_a_disk() {
    let (Some(image), Some(_)) = (std::env::var_os("ALIA_IMAGE"), std::env::var_os("ALIA_BOOTS"))
    else {
        println!("skipped: ALIA_IMAGE or ALIA_BOOTS is not set");
        return;
    };
    let read = |name: &str| fs::read(PathBuf::from(&image).join(name)).unwrap();
    let (kernel, initramfs) = (read("vmlinuz"), read("initramfs.zst"));
    let command_line = "console=ttyS0 quiet panic=-1 alia.probe";
    let disk = disk::build(&kernel, &initramfs, command_line).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), disk).unwrap();
    let qemu = ServiceSpec::new("machine", "qemu-system-x86_64", folder.path())
        .args(Accelerator::Tcg.arguments().iter().copied())
        .args(["-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-drive", "file=disk,format=raw,if=ide"]);
    let mut machine = Service::start(qemu).unwrap();
    let line = machine.wait_line(0, PROBE_LINE, Duration::from_secs(300));
    line.unwrap_or_else(|error| panic!("{error}"));
}
