//! The root file system: EROFS, and behind it the hash tree of dm-verity, in one file.
//!
//! Nothing of it is chosen at random or taken from the clock: salt and UUID come from the
//! content's own digest.

use crate::{
    cpio::{Node, Tree},
    error::{At, Error},
    packages::Packages,
    recipe,
    tools::Tools,
};
use protocol::{
    Digest,
    boot::{VERITY_BLOCK, Verity},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// What makes and reads it.
pub const PACKAGES: [&str; 2] = ["erofs-utils", "cryptsetup-bin"];
/// Of their tree.
const MKFS: &str = "usr/bin/mkfs.erofs";
const VERITYSETUP: &str = "usr/sbin/veritysetup";
/// Changes when a tree becomes other bytes by other arguments than before.
const MADE_BY: &str = "aliaOS root v1";

/// Makes root file systems.
pub struct Builder<'a> {
    tools: Tools,
    settings: &'a recipe::Root,
    cache: PathBuf,
}

/// A root file system's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// EROFS, and the hash tree.
    pub bytes: Vec<u8>,
    /// What it is verified by.
    pub verity: Verity,
}

impl<'a> Builder<'a> {
    /// Fetches the tools.
    ///
    /// # Errors
    /// As [`Tools::fetch`].
    pub fn new(packages: &Packages, settings: &'a recipe::Root) -> Result<Self, Error> {
        let tools = Tools::fetch(packages, &PACKAGES)?;
        tools.has(MKFS)?;
        tools.has(VERITYSETUP)?;
        Ok(Self { tools, settings, cache: packages.cache().into() })
    }

    /// The root with the files of `tree`, all of one time (seconds since 1970) and owned by root.
    ///
    /// # Errors
    /// The tools', the disk's, and a tree with a device in it.
    pub fn build(&self, tree: &Tree, unix_time: u64) -> Result<Root, Error> {
        let settings = format!("{:?}", self.settings);
        let tools = self.tools.tree().file_name().map(|name| name.to_string_lossy().into_owned());
        let key = (Digest::of_bytes(&tree.to_newc()), settings, tools, unix_time);
        let key = Digest::of(MADE_BY, &key);
        let folder = self.cache.join("roots");
        fs::create_dir_all(&folder).at(&folder)?;
        let salt = Digest::of("aliaOS root salt v1", &key);
        let kept = folder.join(format!("{key}.erofs"));
        if let Ok(root) = fs::read(&kept)
            && let Ok(hash) = fs::read_to_string(kept.with_extension("hash"))
            && let Some(root) = parsed(root, &hash, salt)
        {
            return Ok(root);
        }
        let work = folder.join(format!("{key}.partial.{}", std::process::id()));
        let made = self.make(tree, unix_time, &key, salt, &work);
        let cleared = fs::remove_dir_all(&work).at(&work);
        let (root, hash) = made?;
        cleared?;
        let put = |path: &Path, bytes: &[u8]| {
            let partial = path.with_extension(format!("partial.{}", std::process::id()));
            fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).at(path)
        };
        put(&kept, &root.bytes)?;
        put(&kept.with_extension("hash"), hash.as_bytes())?;
        Ok(root)
    }

    fn make(
        &self,
        tree: &Tree,
        unix_time: u64,
        key: &Digest,
        salt: Digest,
        work: &Path,
    ) -> Result<(Root, String), Error> {
        let (files, image) = (work.join("files"), work.join("root.erofs"));
        stage(tree, &files)?;
        let recipe::Root { level, cluster, .. } = self.settings;
        let mut mkfs = vec![
            "--quiet".to_string(),
            format!("-b{VERITY_BLOCK}"),
            format!("-zzstd,level={level}"),
            format!("-C{cluster}"),
            format!("-U{}", uuid(key)),
            format!("-T{unix_time}"),
            // Neither attributes nor owners of whoever builds.
            "-x-1".into(),
            "--all-root".into(),
        ];
        mkfs.extend([&image, &files].map(|path| path.display().to_string()));
        self.tools.run("mkfs.erofs", MKFS, mkfs)?;
        let bytes = fs::metadata(&image).at(&image)?.len();
        let data_blocks = bytes.div_ceil(VERITY_BLOCK);
        let file = fs::OpenOptions::new().write(true).open(&image).at(&image)?;
        file.set_len(data_blocks * VERITY_BLOCK).at(&image)?;
        drop(file);
        let mut format = vec!["format".to_string()];
        format.extend(verity_arguments(&salt, data_blocks));
        format.extend([&image, &image].map(|path| path.display().to_string()));
        let said = self.tools.run("veritysetup", VERITYSETUP, format)?;
        let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
        let hash = hash.unwrap_or_default().to_string();
        let bytes = fs::read(&image).at(&image)?;
        let text = format!("{hash} {data_blocks}");
        let root = parsed(bytes, &text, salt).ok_or_else(|| Error::Tool {
            tool: "veritysetup",
            detail: format!("it gave no root hash: {said}"),
        })?;
        Ok((root, text))
    }

    /// Holds a root in a file against what it is verified by: every block of it.
    ///
    /// # Errors
    /// What veritysetup said, where they do not agree.
    pub fn verify(&self, file: &Path, verity: &Verity) -> Result<(), Error> {
        let mut arguments = vec!["verify".to_string()];
        arguments.extend(verity_arguments(&verity.salt, verity.data_blocks));
        arguments.extend([file, file].map(|path| path.display().to_string()));
        arguments.push(verity.root_hash.to_string());
        self.tools.run("veritysetup", VERITYSETUP, arguments).map(drop)
    }

    /// Unpacks a root's files into a folder, each of them checked on the way.
    ///
    /// # Errors
    /// What fsck.erofs said.
    pub fn unpack(&self, file: &Path, folder: &Path) -> Result<(), Error> {
        let arguments = [format!("--extract={}", folder.display()), file.display().to_string()];
        self.tools.run("fsck.erofs", "usr/bin/fsck.erofs", arguments).map(drop)
    }
}

/// What veritysetup is told, to make a tree as to verify by it.
fn verity_arguments(salt: &Digest, data_blocks: u64) -> [String; 8] {
    [
        "--no-superblock".into(),
        "--format=1".into(),
        "--hash=sha256".into(),
        format!("--data-block-size={VERITY_BLOCK}"),
        format!("--hash-block-size={VERITY_BLOCK}"),
        format!("--salt={salt}"),
        format!("--data-blocks={data_blocks}"),
        format!("--hash-offset={}", data_blocks * VERITY_BLOCK),
    ]
}

/// A root from its bytes, and a line with its root hash and how many of its blocks are data.
fn parsed(bytes: Vec<u8>, line: &str, salt: Digest) -> Option<Root> {
    let (hash, data_blocks) = line.split_once(' ')?;
    let (root_hash, data_blocks) = (hash.parse().ok()?, data_blocks.parse().ok()?);
    Some(Root { bytes, verity: Verity { root_hash, salt, data_blocks } })
}

/// A UUID of free form (RFC 9562, version 8).
pub(crate) fn uuid(from: &Digest) -> String {
    let hex = from.to_string();
    let variant = ["8", "9", "a", "b"][usize::from(from.0[8] >> 6)];
    format!(
        "{}-{}-8{}-{variant}{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// Writes a tree's files into a folder.
fn stage(tree: &Tree, folder: &Path) -> Result<(), Error> {
    let mode = |path: &Path, mode: u32| {
        // Whatever the umask is.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).at(path)
    };
    fs::create_dir_all(folder).at(folder)?;
    mode(folder, 0o755)?;
    for (path, node) in tree.iter() {
        let path = folder.join(path);
        match node {
            Node::Folder => {
                fs::create_dir(&path).at(&path)?;
                mode(&path, 0o755)?;
            }
            Node::File { bytes, executable } => {
                fs::write(&path, bytes).at(&path)?;
                mode(&path, if *executable { 0o755 } else { 0o644 })?;
            }
            Node::Link(target) => symlink(target, &path).at(&path)?,
            Node::Device { .. } => {
                return Err(Error::bad_file(path, "a root holds no devices: devtmpfs makes them"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_made_of_a_digest_and_says_its_version() {
        let text = uuid(&Digest([0xff; 32]));
        assert_eq!(text, "ffffffff-ffff-8fff-bfff-ffffffffffff");
        assert_eq!(uuid(&Digest([0x12; 32])), "12121212-1212-8212-8212-121212121212");
    }

    #[test]
    fn a_tree_is_staged_with_its_modes_and_a_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.put("/proc", Node::Folder).unwrap();
        tree.file("/usr/bin/compute", b"x".to_vec(), true).unwrap();
        let to = folder.path().join("files");
        stage(&tree, &to).unwrap();
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("proc"), mode("usr/bin/compute")), (0o755, 0o755));
        tree.put("/dev/null", Node::Device { major: 1, minor: 3 }).unwrap();
        let error = stage(&tree, &folder.path().join("again")).unwrap_err().to_string();
        assert!(error.contains("devtmpfs"), "{error}");
    }
}
