//! Stage `root`: the machine's root, fetched by digest into memory, verified block by block from
//! then on, read-only.
//!
//! It lies in a sealed file without a name, which nothing can change any more; over it a loop
//! device, dm-verity with the root hash of the signed release, and EROFS. PID 1 then goes there and
//! what the initramfs held is freed, but for the drivers and firmware that came with it: the root
//! has links to them, so that no machine fetches or keeps them twice.

use crate::{
    http::{self, Base, HttpError},
    kernel::{Kept, Kernel, Mapping},
    stages::{modules, mounts},
};
use protocol::{
    Digest,
    boot::{INITRAMFS_DRIVERS, RootImage, VERITY_BLOCK, Verity},
};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Where the root is mounted before it is the root.
const ON: &str = "/newroot";
/// What stays of the initramfs.
const KEPT: Kept = Kept { folder: "/lib", on: INITRAMFS_DRIVERS };
/// The device's name.
const NAME: &str = "alia-root";
const FILE_SYSTEM: &str = "erofs";
/// Drivers of it all, where the kernel has them as modules. It would ask for digests by a program
/// that there is none of.
pub(crate) const MODULES: [&str; 5] =
    ["sha256_ssse3", "crc32c_generic", "loop", "dm_verity", "erofs"];
/// Sectors of the device mapper.
const SECTOR: u64 = 512;

/// There is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] Box<HttpError>),
    /// No memory.
    #[error("{bytes} bytes of root do not fit into memory: {reason}; give the machine more")]
    Memory {
        /// Its size.
        bytes: u64,
        /// What the kernel said.
        reason: io::Error,
    },
    /// It is another.
    #[error(
        "the root that {server} serves is not the release's: digest {found}, {wanted} is wanted; \
         serve the files of one release"
    )]
    Altered {
        /// Who served it.
        server: String,
        /// Its digest.
        found: Digest,
        /// The release's.
        wanted: Digest,
    },
    /// The release's description makes no sense.
    #[error("the release describes its root wrongly: {0}; build it again")]
    Description(&'static str),
    /// Between two roots.
    #[error(
        "going to the root failed on the way: {0}; the machine restarts; build the image with all of PID 1's mount points"
    )]
    Stranded(io::Error),
    /// The kernel cannot.
    #[error("{step} failed: {reason}; {mend}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        reason: io::Error,
        /// What to do.
        mend: &'static str,
    },
}

/// Fetches the root from `path` below `server` into memory; gives it sealed, and of this digest.
pub async fn fetch(
    kernel: &dyn Kernel,
    server: &Base,
    path: &str,
    root: &RootImage,
) -> Result<File, RootError> {
    let memory = |reason| RootError::Memory { bytes: root.file.bytes, reason };
    let mut file = kernel.memory_file().map_err(memory)?;
    let mut hasher = blake3::Hasher::new();
    let keep = |part: &[u8]| {
        hasher.update(part);
        file.write_all(part)
    };
    http::download(server, path, root.file.bytes, keep).await.map_err(Box::new)?;
    let (found, wanted) = (Digest(*hasher.finalize().as_bytes()), root.file.digest);
    if found != wanted {
        return Err(RootError::Altered { server: server.to_string(), found, wanted });
    }
    kernel.seal(&file).map_err(memory)?;
    Ok(file)
}

/// Mounts the root and goes there.
pub fn enter(kernel: &dyn Kernel, file: &File, root: &RootImage) -> Result<(), RootError> {
    let failed = |step, mend| move |reason| RootError::Kernel { step, reason, mend };
    load_drivers(kernel);
    let image = "the image's kernel needs loop devices, dm-verity and EROFS";
    let table = table(root)?;
    // What an earlier attempt left would stand in the way.
    let _ = kernel.unmap_device(NAME);
    let device = kernel.loop_device(file).map_err(failed("the loop device of the root", image))?;
    let mapping = table(&device.path);
    let mapped = kernel.map_device(&mapping).map_err(failed("dm-verity over the root", image))?;
    let mount = || -> Result<(), RootError> {
        let altered = "its blocks are not what its root hash says, or the kernel lacks EROFS";
        kernel
            .mount_device(&mapped, FILE_SYSTEM, Path::new(ON))
            .map_err(failed("mounting the verified root", altered))
    };
    mount().inspect_err(|_| drop(kernel.unmap_device(NAME)))?;
    let moved: Vec<&str> = mounts::MOUNTS.iter().map(|mount| mount.on).filter(top).collect();
    kernel.switch_root(Path::new(ON), &moved, &KEPT).map_err(RootError::Stranded)
}

/// Whether a mount point lies in the root itself.
fn top(on: &&str) -> bool {
    on.matches('/').count() == 1
}

/// The device mapper's table for a root on a device
/// (<https://docs.kernel.org/admin-guide/device-mapper/verity.html>): version 1, the tree behind
/// the data on the same device.
fn table(root: &RootImage) -> Result<impl Fn(&Path) -> Mapping, RootError> {
    let Verity { root_hash, salt, data_blocks } = root.verity;
    let bytes = data_blocks.checked_mul(VERITY_BLOCK);
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0 && *bytes < root.file.bytes) else {
        return Err(RootError::Description("its blocks of data do not lie within its file"));
    };
    Ok(move |device: &Path| {
        let device = device.display();
        let parameters = format!(
            "1 {device} {device} {VERITY_BLOCK} {VERITY_BLOCK} {data_blocks} {data_blocks} \
             sha256 {root_hash} {salt}"
        );
        let sectors = bytes / SECTOR;
        Mapping { name: NAME, sectors, target: "verity", parameters, writable: false }
    })
}

/// What the kernel has built in is in no table, and what fails shows in the next step.
fn load_drivers(kernel: &dyn Kernel) {
    let _ = modules::load(kernel, &MODULES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use protocol::boot::ImageFile;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn root(content: &[u8], data_blocks: u64) -> RootImage {
        let (digest, bytes) = (Digest::of_bytes(content), content.len() as u64);
        RootImage {
            file: ImageFile { file: "root.erofs".into(), digest, bytes },
            verity: Verity { root_hash: Digest([1; 32]), salt: Digest([2; 32]), data_blocks },
        }
    }

    async fn served(content: Vec<u8>) -> Base {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", content.len());
            let _ = stream.write_all(&[head.into_bytes(), content].concat()).await;
        });
        base
    }

    #[tokio::test]
    async fn a_root_is_verified_mounted_and_gone_to_with_the_kernels_mounts() {
        let kernel = Fake::new(&[
            ("/proc/sys/kernel/osrelease", "6.12"),
            ("/lib/modules/6.12/modules.alias", ""),
            ("/lib/modules/6.12/modules.dep", "fs/erofs/erofs.ko:\ndrivers/block/loop.ko:"),
        ]);
        let content = vec![7; 3 * 4096];
        let root = root(&content, 2);
        let server = served(content.clone()).await;
        let file = fetch(&kernel, &server, "/x", &root).await.unwrap();
        enter(&kernel, &file, &root).unwrap();
        let world = kernel.world();
        assert_eq!(world.looped, content);
        assert_eq!(world.modules, ["loop.ko", "erofs.ko"]);
        let wanted = format!(
            "1 /dev/loop0 /dev/loop0 4096 4096 2 2 sha256 {} {}",
            "01".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(world.mappings[0].parameters, wanted);
        assert_eq!((world.mappings[0].sectors, world.mappings[0].writable), (16, false));
        assert_eq!(world.devices, [("/dev/dm-0".into(), "erofs".into(), ON.into())]);
        let moved = ["/proc", "/sys", "/dev", "/run", "/tmp"].map(str::to_owned).to_vec();
        assert_eq!(world.root, Some((ON.into(), moved)));
    }

    #[tokio::test]
    async fn a_root_that_is_not_the_releases_is_refused_and_never_mounted() {
        let kernel = Fake::new(&[]);
        let root = root(&[7; 8192], 1);
        let server = served(vec![8; 8192]).await;
        let error = fetch(&kernel, &server, "/x", &root).await.unwrap_err();
        assert!(matches!(error, RootError::Altered { .. }));
        assert!(error.to_string().contains("is not the release's"), "{error}");
    }

    #[test]
    fn each_step_that_fails_is_named_and_a_mapping_does_not_stay_behind() {
        let file = Fake::new(&[]).memory_file().unwrap();
        let root = root(&[7; 8192], 1);
        for (at, step) in [
            ("/dev/loop0", "loop device"),
            (NAME, "dm-verity"),
            (ON, "mounting the verified root failed"),
            ("switch", "going to the root"),
        ] {
            let kernel = Fake::new(&[]).failing(at, 22);
            let error = enter(&kernel, &file, &root).unwrap_err().to_string();
            assert!(error.contains(step), "{error}");
            assert!(kernel.world().mappings.is_empty() || at == "switch", "{at}");
        }
    }

    #[test]
    fn a_tree_that_lies_outside_the_file_is_refused() {
        let file = Fake::new(&[]).memory_file().unwrap();
        for blocks in [0, 2, u64::MAX] {
            let kernel = Fake::new(&[]);
            let error = enter(&kernel, &file, &root(&[7; 8192], blocks)).unwrap_err();
            assert!(matches!(error, RootError::Description(_)), "{blocks}");
            assert!(kernel.world().mappings.is_empty());
        }
    }
}
