//! An image as far as the provisioner looks at it.

use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest, Microcode, RootImage, Verity},
};
use std::{fs, path::Path};

/// Makes the folder and its files; gives the manifest.
pub(crate) fn write(folder: &Path) -> ImageManifest {
    fs::create_dir(folder).unwrap();
    let file = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        let digest = Digest::of_bytes(content);
        ImageFile { file: name.into(), digest, bytes: content.len() as u64 }
    };
    let manifest = ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12.0-test".into(),
        kernel: file("vmlinuz", &[7; 3_000]),
        initramfs: file("initramfs.zst", &[9; 2_000]),
        root: RootImage { file: file("root.erofs", &[8; 1_000]), verity: Verity::default() },
        microcode: Microcode { amd: None, intel: None },
        unix_time: 1_700_000_000,
    };
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    manifest
}
