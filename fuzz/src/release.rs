//! The one release that the network of known keys has signed.

use protocol::{
    Digest,
    boot::{ImageFile, ImageManifest, RootImage, Verity},
    release::Manifest,
};

/// When it expires, seconds since 1970.
pub const EXPIRES: u64 = 1_900_000_000;

/// What it says.
pub fn manifest() -> Manifest {
    let file =
        |name: &str| ImageFile { file: name.into(), digest: Digest([4; 32]), bytes: 1_000_000 };
    Manifest {
        version: 7,
        image: ImageManifest {
            version: "0.1.0".into(),
            kernel_release: "6.12.0".into(),
            kernel: file("vmlinuz"),
            initramfs: file("initramfs.zst"),
            root: RootImage { file: file("root.erofs"), verity: Verity::default() },
            microcode: Default::default(),
            unix_time: 1_700_000_000,
        },
        floor: 3,
        chain: None,
    }
}
