use super::*;
use proptest::prelude::*;
use protocol::{
    SecretKey,
    boot::{Microcode, RootImage, Verity},
};

/// A PE file with the headers and sections that matter here, laid out as systemd's stub.
pub(crate) fn stub(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x600];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664u16.to_le_bytes());
    put(0x86, &(sections.len() as u16).to_le_bytes());
    // Size of the optional header: 112 bytes and 16 directories.
    put(0x94, &240u16.to_le_bytes());
    put(0x98, &0x20bu16.to_le_bytes());
    put(0x98 + 32, &4096u32.to_le_bytes());
    put(0x98 + 36, &512u32.to_le_bytes());
    put(0x98 + 60, &0x600u32.to_le_bytes());
    // NX_COMPAT and DYNAMIC_BASE.
    put(0x98 + 70, &0x140u16.to_le_bytes());
    put(0x98 + 108, &16u32.to_le_bytes());
    let mut address = 4096u32;
    for (place, (name, content)) in sections.iter().enumerate() {
        let at = bytes.len();
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&address.to_le_bytes());
        header[16..20].copy_from_slice(&512u32.to_le_bytes());
        header[20..24].copy_from_slice(&(at as u32).to_le_bytes());
        bytes[0x188 + 40 * place..][..40].copy_from_slice(&header);
        bytes.extend_from_slice(content);
        bytes.resize(at + 512, 0);
        address += 4096;
    }
    bytes
}

fn parts<'a>(stub: &'a [u8], kernel: &'a [u8]) -> Parts<'a> {
    Parts {
        stub,
        os_release: "ID=aliaos\n",
        command_line: "console=ttyS0 panic=10",
        kernel_release: "6.12.0",
        kernel,
        initramfs: b"initramfs",
        microcode: b"microcode",
    }
}

fn content<'a>(uki: &'a [u8], name: &str) -> &'a [u8] {
    let sections = sections(uki).unwrap();
    &uki[sections.into_iter().find(|section| section.name == name).unwrap().content]
}

#[test]
fn every_part_is_a_section_that_overlaps_no_other() {
    let stub = stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
    let uki = build(&parts(&stub, &[7; 5_000])).unwrap();
    let found = sections(&uki).unwrap();
    let names: Vec<&str> = found.iter().map(|section| section.name.as_str()).collect();
    let wanted = [".text", ".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".ucode"];
    assert_eq!(names, wanted);
    assert_eq!(content(&uki, ".cmdline"), b"console=ttyS0 panic=10");
    assert_eq!(content(&uki, ".linux"), [7; 5_000]);
    assert_eq!(content(&uki, ".initrd"), b"initramfs");
    assert_eq!(content(&uki, ".ucode"), b"microcode");
    assert_eq!(content(&uki, ".sbat"), format!("sbat,1\n{SBAT}").as_bytes());
    for pair in found.windows(2) {
        assert!(pair[0].content.end <= pair[1].content.start, "{pair:?}");
        assert_eq!(pair[1].address % 4096, 0);
        let length = pair[0].content.len() as u32;
        assert!(pair[0].address + length <= pair[1].address, "{pair:?}");
    }
    assert_eq!(uki.len() % 512, 0);
    let begins = |name| found.iter().find(|section| section.name == name).unwrap().content.start;
    assert_eq!((begins(".linux") % 2_048, begins(".initrd") % 2_048), (0, 0));
    assert_eq!(build(&parts(&stub, &[7; 5_000])).unwrap(), uki);
}

#[test]
fn a_kernel_that_does_not_run_where_data_is_not_executable_takes_the_flag_from_the_whole() {
    let with = stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
    let flags = |uki: &[u8]| u16::from_le_bytes([uki[0x98 + 70], uki[0x98 + 71]]);
    assert_eq!(flags(&build(&parts(&with, &with)).unwrap()), 0x140);
    let mut without = with.clone();
    without[0x98 + 71] = 0;
    assert_eq!(flags(&build(&parts(&with, &without)).unwrap()), 0x40);
}

#[test]
fn what_is_no_stub_or_has_no_room_is_refused() {
    let good = stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
    let refused = |stub: &[u8]| build(&parts(stub, b"kernel")).unwrap_err();
    assert!(matches!(refused(b"MZ"), UkiError::NotEfi(_)));
    assert!(matches!(refused(&stub(&[(".text", b"code")])), UkiError::NotEfi(_)));
    assert_eq!(refused(&stub(&[(".sbat", &[b'x'; 500])])), UkiError::NoRoom(".sbat"));
    let mut signed = good.clone();
    signed[0x98 + 112 + 4 * 8 + 4] = 1;
    assert_eq!(refused(&signed), UkiError::Signed);
    let mut small = good.clone();
    small[0x98 + 60..][..4].copy_from_slice(&0x220u32.to_le_bytes());
    assert!(matches!(refused(&small), UkiError::NoRoom(_)));
    let mut bad = parts(&good, b"kernel");
    bad.command_line = "two\nlines";
    assert_eq!(build(&bad), Err(UkiError::CommandLine));
    let long = "x".repeat(2_048);
    bad.command_line = &long;
    assert_eq!(build(&bad), Err(UkiError::CommandLine));
}

/// An image's folder, and a stub beside it.
fn image() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        fs::write(folder.path().join(name), name).unwrap();
        let digest = Digest::of_bytes(name.as_bytes());
        ImageFile { file: name.into(), digest, bytes: name.len() as u64 }
    };
    let manifest = ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12.0".into(),
        kernel: file("vmlinuz"),
        initramfs: file("initramfs.zst"),
        root: RootImage { file: file("root.erofs"), verity: Verity::default() },
        microcode: Microcode { amd: Some(file("microcode-amd.cpio")), intel: None },
        unix_time: 1_700_000_000,
    };
    let json = serde_json::to_vec(&manifest).unwrap();
    fs::write(folder.path().join("manifest.json"), json).unwrap();
    let stub = stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
    fs::write(folder.path().join("stub"), stub).unwrap();
    folder
}

fn site(manifest: &ImageManifest) -> Site {
    Site {
        provisioner: "http://10.0.0.1:8080".into(),
        key: SecretKey::from_seed([1; 32]).public(),
        chain: "alia-test".parse().unwrap(),
        release: manifest.digest(),
        consoles: vec!["ttyS0".into()],
        arguments: vec![],
    }
}

#[test]
fn an_image_is_taken_as_its_manifest_names_it_and_in_no_other_way() {
    let folder = image();
    let path = |name: &str| folder.path().join(name);
    let of = |microcode| of_image(folder.path(), &path("stub"), microcode, site);
    let uki = of(true).unwrap().bytes;
    assert_eq!(content(&uki, ".linux"), b"vmlinuz");
    assert_eq!(content(&uki, ".ucode"), b"microcode-amd.cpio");
    for name in ["vmlinuz", "initramfs.zst", "microcode-amd.cpio"] {
        fs::write(path(name), "of somebody else").unwrap();
        let error = of(true).unwrap_err();
        assert!(matches!(error, Error::Altered { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("build the image again"), "{text}");
        fs::write(path(name), name).unwrap();
    }
    // What is not put in is not looked at.
    fs::write(path("microcode-amd.cpio"), "of somebody else").unwrap();
    assert!(of(false).is_ok());
}

proptest! {
    #[test]
    fn no_stub_makes_it_panic(at in 0usize..0x230, byte: u8, length in 0usize..0xa00) {
        let mut stub = stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
        stub[at] = byte;
        stub.truncate(length);
        let _ = build(&parts(&stub, &stub));
        let _ = sections(&stub);
    }
}
