use super::*;
use crate::packages::Origin;
use std::os::unix::fs::symlink;

/// An ELF file with one section `.modinfo`, as small as the format allows.
fn module(modinfo: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let data_at = 64u64;
    let names_at = data_at + modinfo.len() as u64;
    let sections_at = (names_at + names.len() as u64).next_multiple_of(8);
    let mut bytes = Vec::new();
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    bytes.extend([1u16, 62].map(u16::to_le_bytes).concat()); // relocatable, x86-64
    bytes.extend(1u32.to_le_bytes());
    bytes.extend([0u64, 0, sections_at].map(u64::to_le_bytes).concat());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend([64u16, 56, 0, 64, 3, 2].map(u16::to_le_bytes).concat());
    bytes.extend(modinfo);
    bytes.extend(names);
    bytes.resize(usize::try_from(sections_at).unwrap(), 0);
    let mut section = |name: u32, kind: u32, offset: u64, size: u64| {
        bytes.extend([name, kind].map(u32::to_le_bytes).concat());
        bytes.extend([0, 0, offset, size].map(u64::to_le_bytes).concat());
        bytes.extend([0u32, 0].map(u32::to_le_bytes).concat());
        bytes.extend([1u64, 0].map(u64::to_le_bytes).concat());
    };
    section(0, 0, 0, 0);
    section(1, 1, data_at, modinfo.len() as u64);
    section(10, 3, names_at, names.len() as u64);
    bytes
}

fn package(root: &Path, name: &str, unix_time: u64) -> Package {
    let root = root.join(name);
    fs::create_dir_all(&root).unwrap();
    Package {
        origin: Origin {
            name: name.into(),
            version: "1".into(),
            sha256: "00".repeat(32),
            source: name.into(),
            filename: format!("pool/{name}.deb"),
            bytes: 1,
            unix_time,
        },
        depends: String::new(),
        deb: root.join("none.deb"),
        root,
    }
}

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Small packages that have what real ones have.
fn parts(folder: &Path) -> Parts {
    let kernel = package(folder, "linux-image-6", 200);
    write(kernel.root.join("boot/vmlinuz-6-test"), b"kernel");
    let modules = kernel.root.join("usr/lib/modules/6-test");
    write(
        modules.join("modules.order"),
        "kernel/net/nic.ko\nkernel/net/phy.ko\nkernel/disk.ko\nkernel/x.ko\n",
    );
    write(modules.join("modules.builtin"), "kernel/pci.ko\n");
    let nic = module(b"depends=phy\0alias=pci:v1*\0firmware=nic/a.fw\0firmware=nic/gone.fw\0");
    let mut packed =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    packed.write_all(&nic).unwrap();
    write(modules.join("kernel/net/nic.ko.xz"), packed.finish().unwrap());
    write(modules.join("kernel/net/phy.ko"), module(b"license=GPL\0"));
    write(modules.join("kernel/disk.ko"), module(b"license=GPL\0firmware=disk.fw\0"));

    let firmware = package(folder, "firmware-nic", 300);
    write(firmware.root.join("usr/lib/firmware/nic/a-1.fw"), b"blob");
    write(firmware.root.join("usr/lib/firmware/disk.fw"), b"disk");
    symlink("a-1.fw", firmware.root.join("usr/lib/firmware/nic/a.fw")).unwrap();

    // The libraries of the machine that tests run on stand in for packages'.
    let libraries = package(folder, "libc6", 100);
    for name in ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2"] {
        let host = Path::new("/lib/x86_64-linux-gnu").join(name);
        write(libraries.root.join("usr/lib/x86_64-linux-gnu").join(name), fs::read(host).unwrap());
    }
    let microcode = package(folder, "amd64-microcode", 150);
    let bin = "usr/lib/firmware/amd-ucode/microcode_amd_fam19h.bin";
    write(microcode.root.join(bin), b"microcode");
    Parts {
        kernel: Kernel::prebuilt(kernel),
        firmware: vec![firmware],
        libraries: vec![libraries],
        loaded: Vec::new(),
        microcode: vec![(Maker::Amd, microcode)],
        nvidia: None,
    }
}

fn recipe() -> Recipe {
    let mut recipe = Recipe::parse(include_str!("../../image.toml")).unwrap();
    recipe.kernel.modules = vec!["nic".into(), "pci".into(), "disk".into()];
    recipe.initramfs.below = vec!["kernel/net/".into()];
    recipe.initramfs.modules = vec!["pci".into()];
    recipe
}

/// A static program as far as its headers tell: a module has neither loader nor libraries.
fn static_program() -> Vec<u8> {
    module(b"x=y\0")
}

fn assemble_in(folder: &Path) -> Result<Content, Error> {
    let compute = std::env::current_exe().unwrap();
    let programs = Programs {
        init: (Path::new("init"), static_program()),
        compute: (Path::new("compute"), fs::read(compute).unwrap()),
        others: Vec::new(),
    };
    assemble(&recipe(), &parts(folder), programs, "1.2.3")
}

#[test]
fn an_image_holds_what_its_recipe_asks_for_and_the_report_says_whence() {
    let folder = tempfile::tempdir().unwrap();
    let content = assemble_in(folder.path()).unwrap();
    assert!(content.base.has("/dev/console") && !content.root.has("/dev/console"));
    let before = [
        "/proc",
        "/lib/modules/6-test/kernel/net/nic.ko",
        "/lib/modules/6-test/kernel/net/phy.ko",
        "/lib/modules/6-test/modules.dep",
        "/lib/modules/6-test/modules.alias",
        "/lib/firmware/nic/a.fw",
    ];
    for path in before {
        assert!(content.base.has(path) && content.root.has(path), "{path}");
    }
    // Nobody fetches them twice: the root has links to where PID 1 keeps the initramfs's.
    for path in ["modules/6-test/kernel/net/nic.ko", "firmware/nic/a.fw"] {
        let node = content.root.iter().find(|(at, _)| *at == format!("lib/{path}")).unwrap().1;
        assert_eq!(*node, Node::Link(format!("/run/initramfs/lib/{path}")));
    }
    for path in [
        "/lib/modules/6-test/kernel/disk.ko",
        "/lib/firmware/disk.fw",
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/bin/compute",
    ] {
        let early = content.base.has(path) || content.ours.has(path);
        assert!(!early && content.root.has(path), "{path} belongs to the root alone");
    }
    assert!(!content.root.has("/lib/modules/6-test/kernel/x.ko"), "nobody asked for it");
    assert!(content.ours.has("/init") && !content.root.has("/init"));
    assert_eq!(content.kernel_release, "6-test");
    assert_eq!(content.unix_time, 300, "the newest package's");
    assert_eq!(content.report.firmware_absent, ["nic/gone.fw"]);
    let firmware = content.report.components["firmware"];
    assert_eq!((firmware.files, firmware.bytes), (2, 8));
    let from = |path: &str| {
        let file = content.report.files.iter().find(|file| file.path == path).unwrap();
        file.from.as_str()
    };
    assert_eq!(from("lib/firmware/nic/a.fw"), "firmware-nic");
    assert_eq!(from("lib/modules/6-test/kernel/disk.ko"), "linux-image-6");
    assert_eq!(from("usr/lib/x86_64-linux-gnu/libc.so.6"), "libc6");
    assert_eq!((from("init"), from("usr/bin/compute")), ("node-init", "compute"));
    // Both have indices of their own, and the kernel's list of what is built in.
    for place in [Place::Initramfs, Place::Root] {
        for (index, wanted) in [("dep", MADE), ("alias", MADE), ("builtin", "linux-image-6")] {
            let path = format!("lib/modules/6-test/modules.{index}");
            let its = |file: &&report::File| file.place == place && file.path == path;
            let file = content.report.files.iter().find(its).unwrap();
            assert_eq!(file.from, wanted, "{path} of the {}", place.name());
        }
    }
    let trees = [
        (Place::Initramfs, &content.base),
        (Place::Initramfs, &content.ours),
        (Place::Root, &content.root),
    ];
    let mut files = BTreeSet::new();
    for (place, tree) in trees {
        files.extend(tree.files().map(|(path, _)| (place, path)));
    }
    let reported = content.report.files.iter().map(|file| (file.place, file.path.as_str()));
    assert_eq!(files, reported.collect::<BTreeSet<_>>());
    assert_eq!(files.len(), content.report.files.len(), "each once");
    let beside = content.report.beside.iter().map(|(file, from)| (file.as_str(), from.as_str()));
    assert_eq!(
        beside.collect::<Vec<_>>(),
        [
            ("initramfs.zst", MADE),
            ("microcode-amd.cpio", "amd64-microcode"),
            ("root.erofs", MADE),
            ("vmlinuz", "linux-image-6"),
        ]
    );
    let build = content.ours.iter().find(|(path, _)| *path == "etc/alia/build.json").unwrap().1;
    let Node::File { bytes, .. } = build else { panic!("a file is wanted") };
    let build: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let wanted =
        serde_json::json!({"version": "1.2.3", "kernel_release": "6-test", "unix_time": 300});
    assert_eq!(build, wanted);
}

#[test]
fn the_programs_and_their_loader_alone_can_be_executed_and_nothing_is_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let Content { base, ours, root, .. } = assemble_in(folder.path()).unwrap();
    let trees: [(Tree, &[&str]); 3] = [
        (base, &[]),
        (ours, &["init"]),
        (root, &["lib64/ld-linux-x86-64.so.2", "usr/bin/compute"]),
    ];
    for (tree, wanted) in trees {
        let mut executed = Vec::new();
        for (path, node) in tree.iter() {
            let Node::File { bytes, executable } = node else { continue };
            assert!(!bytes.starts_with(b"#!"), "{path} is a script");
            executed.extend(executable.then_some(path));
        }
        assert_eq!(executed, wanted);
    }
}

#[test]
fn two_builds_in_two_folders_give_identical_bytes() {
    let build = || {
        let folder = tempfile::tempdir().unwrap();
        let content = assemble_in(folder.path()).unwrap();
        // Each with a cache of its own: nothing is taken from the other build.
        let cold = compressed(&content.base.to_newc(), 19, folder.path()).unwrap();
        let kept = compressed(&content.base.to_newc(), 19, folder.path()).unwrap();
        assert_eq!(cold, kept);
        (cold, content.ours.to_newc())
    };
    let first = build();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(first == build());
}

#[test]
fn an_initramfs_that_asks_for_a_module_that_is_nowhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(folder.path());
    let compute = fs::read(std::env::current_exe().unwrap()).unwrap();
    let programs = Programs {
        init: (Path::new("init"), static_program()),
        compute: (Path::new("compute"), compute),
        others: Vec::new(),
    };
    let mut wrong = recipe();
    wrong.initramfs.modules.push("loop-typo".into());
    let error = assemble(&wrong, &parts, programs, "1").err().unwrap().to_string();
    assert!(error.contains("loop_typo") && error.contains("initramfs.modules"), "{error}");
}

#[test]
fn a_dynamic_init_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dynamic = fs::read(std::env::current_exe().unwrap()).unwrap();
    let programs = Programs {
        init: (Path::new("init"), dynamic.clone()),
        compute: (Path::new("compute"), dynamic),
        others: Vec::new(),
    };
    let error = assemble(&recipe(), &parts(folder.path()), programs, "1").err().unwrap();
    assert!(error.to_string().contains("crt-static"), "{error}");
}

#[test]
fn what_no_package_holds_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(folder.path());
    fs::remove_file(parts.libraries[0].root.join("usr/lib/x86_64-linux-gnu/libc.so.6")).unwrap();
    let compute = fs::read(std::env::current_exe().unwrap()).unwrap();
    let programs = || Programs {
        init: (Path::new("init"), static_program()),
        compute: (Path::new("compute"), compute.clone()),
        others: Vec::new(),
    };
    let error = assemble(&recipe(), &parts, programs(), "1").err().unwrap().to_string();
    assert!(error.contains("libc.so.6") && error.contains("libraries.packages"), "{error}");

    let mut recipe = recipe();
    recipe.kernel.modules.push("virtio_typo".into());
    let error = assemble(&recipe, &parts, programs(), "1").err().unwrap().to_string();
    assert!(error.contains("virtio_typo") && error.contains("kernel.modules"), "{error}");
}

#[test]
fn a_drivers_modules_libraries_and_cards_are_in_the_root_alone_with_their_origins() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = parts(folder.path());
    let source = package(folder.path(), "nvidia-open-kernel-dkms", 50);
    let firmware = package(folder.path(), "firmware-nvidia-gsp", 60);
    write(firmware.root.join("usr/lib/firmware/nvidia/1/gsp.bin"), b"gsp");
    let libcuda = package(folder.path(), "libcuda1", 70);
    let inside = "usr/lib/x86_64-linux-gnu/nvidia/current";
    let host = fs::read("/lib/x86_64-linux-gnu/libm.so.6").unwrap();
    write(libcuda.root.join(inside).join("libcuda.so.1"), host);
    parts.firmware.push(firmware);
    parts.libraries.push(libcuda);
    parts.loaded = vec!["libcuda.so.1".into()];
    let ko = module(b"depends=disk\0firmware=nvidia/1/gsp.bin\0");
    parts.nvidia = Some(nvidia::Parts {
        modules: [("nvidia".to_string(), ko)].into(),
        driver: protocol::nvidia::Driver { version: "1.2".into(), ..Default::default() },
        packages: vec![source],
    });
    let programs = || Programs {
        init: (Path::new("init"), static_program()),
        compute: (Path::new("compute"), fs::read(std::env::current_exe().unwrap()).unwrap()),
        others: Vec::new(),
    };
    let content = assemble(&recipe(), &parts, programs(), "1").unwrap();
    for (path, origin) in [
        ("lib/modules/6-test/extra/nvidia.ko", "nvidia-open-kernel-dkms"),
        ("lib/firmware/nvidia/1/gsp.bin", "firmware-nvidia-gsp"),
        ("usr/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda1"),
        ("etc/alia/nvidia.json", MADE),
    ] {
        let slashed = format!("/{path}");
        assert!(content.root.has(&slashed) && !content.base.has(&slashed), "{path}");
        let file = content.report.files.iter().find(|file| file.path == path).unwrap();
        assert_eq!(file.from, origin, "{path}");
    }
    // A module whose needs the kernel does not have would not load.
    let ko = module(b"depends=drm\0");
    parts.nvidia.as_mut().unwrap().modules.insert("nvidia".into(), ko);
    let error = assemble(&recipe(), &parts, programs(), "1").err().unwrap().to_string();
    assert!(error.contains("extra/nvidia.ko") && error.contains("drm"), "{error}");
}
