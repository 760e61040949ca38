//! The real image built a second time, elsewhere: the same bytes. And booted from a disk.
//!
//! Given by the environment: ALIA_CACHE, ALIA_IMAGE (an image built there), the programs in it,
//! ALIA_NODE_INIT and ALIA_COMPUTE, and ALIA_BOOTS where machines may be booted.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use image::{Inputs, Packages, Recipe, packages::Options};
use lab::{Accelerator, Service, ServiceSpec, accel::PROBE_LINE, disk};
use protocol::boot::ImageManifest;
use std::{
    fs, os::unix::fs::symlink, path::Path, path::PathBuf, process::Command, sync::Arc,
    time::Duration,
};

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

    let recipe =
        Recipe::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../image/image.toml")));
    let recipe = recipe.unwrap();
    let options = Options::new(&other, recipe.suite.clone());
    let packages = Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap();
    let output = folder.path().join("image");
    let inputs = Inputs {
        recipe: &recipe,
        packages: &packages,
        kernel: image::build::prebuilt(&recipe, &packages).unwrap(),
        init: &init,
        compute: &compute,
        version: &first.version,
        output: &output,
    };
    let second = image::build::build(&inputs).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(second.manifest, first);
    for file in ["vmlinuz", "initramfs.zst", "report.txt"] {
        assert!(
            fs::read(image.join(file)).unwrap() == fs::read(output.join(file)).unwrap(),
            "{file}"
        );
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
