//! The archive that a kernel unpacks as its first root: cpio in the `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel). Pure.
//!
//! Entries are sorted by path, and times, owners and inode numbers fixed: the same tree is the
//! same bytes.

use std::collections::BTreeMap;

/// Something at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Its content.
        bytes: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to this path.
    Link(String),
    /// A character device.
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A tree of files, by path without the leading slash: `usr/bin/compute`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

/// Why something cannot be put in a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is not plain.
    #[error("{0:?} is no path for an image: absolute, without `.`, `..` or empty parts")]
    NotPlain(String),
    /// Something is there already.
    #[error("{0:?} is put there twice")]
    Twice(String),
    /// Larger than the format's 32-bit size field.
    #[error("{0:?} is larger than the archive's format can say (4 GiB)")]
    TooLarge(String),
}

impl Tree {
    /// Puts a node at an absolute path, and the folders above it.
    pub fn put(&mut self, path: &str, node: Node) -> Result<(), PathError> {
        let plain = path.strip_prefix('/').unwrap_or_default();
        let parts: Vec<&str> = plain.split('/').collect();
        if parts.iter().any(|part| ["", ".", ".."].contains(part) || part.contains('\0')) {
            return Err(PathError::NotPlain(path.into()));
        }
        if matches!(&node, Node::File { bytes, .. } if u32::try_from(bytes.len()).is_err()) {
            return Err(PathError::TooLarge(path.into()));
        }
        for end in 1..parts.len() {
            let above = self.0.entry(parts[..end].join("/")).or_insert(Node::Folder);
            if *above != Node::Folder {
                return Err(PathError::NotPlain(path.into()));
            }
        }
        match (self.0.get(plain), &node) {
            (None, _) | (Some(Node::Folder), Node::Folder) => {}
            // A file in a folder's place would leave what is in the folder nowhere.
            _ => return Err(PathError::Twice(path.into())),
        }
        self.0.insert(plain.into(), node);
        Ok(())
    }

    /// Puts a file.
    pub fn file(&mut self, path: &str, bytes: Vec<u8>, executable: bool) -> Result<(), PathError> {
        self.put(path, Node::File { bytes, executable })
    }

    /// Whether something stands at an absolute path.
    pub fn has(&self, path: &str) -> bool {
        path.strip_prefix('/').is_some_and(|plain| self.0.contains_key(plain))
    }

    /// The paths, without leading slash, in order, with what stands there.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Of those, the files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.iter().filter(|(_, node)| matches!(node, Node::File { .. }))
    }

    /// The archive.
    pub fn to_newc(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        // The map's order puts a folder before what is in it, as the kernel wants it.
        for (inode, (path, node)) in (1..).zip(&self.0) {
            entry(&mut archive, inode, path, node);
        }
        header(&mut archive, "TRAILER!!!", &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        archive
    }
}

fn entry(archive: &mut Vec<u8>, inode: u32, path: &str, node: &Node) {
    const FOLDER: u32 = 0o040_755;
    const FILE: u32 = 0o100_644;
    const PROGRAM: u32 = 0o100_755;
    const LINK: u32 = 0o120_777;
    const DEVICE: u32 = 0o020_600;
    let (mode, links, content, major, minor): (_, _, &[u8], _, _) = match node {
        Node::Folder => (FOLDER, 2, &[], 0, 0),
        Node::File { bytes, executable: false } => (FILE, 1, bytes, 0, 0),
        Node::File { bytes, executable: true } => (PROGRAM, 1, bytes, 0, 0),
        Node::Link(target) => (LINK, 1, target.as_bytes(), 0, 0),
        Node::Device { major, minor } => (DEVICE, 1, &[], *major, *minor),
    };
    // `put` refused what does not fit.
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    header(archive, path, &[inode, mode, 0, 0, links, 0, size, 0, 0, major, minor]);
    archive.extend_from_slice(content);
    pad(archive);
}

/// Inode, mode, uid, gid, links, mtime, size, device's and node's major and minor.
fn header(archive: &mut Vec<u8>, path: &str, fields: &[u32; 11]) {
    archive.extend_from_slice(b"070701");
    let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    for field in fields.iter().chain(&[name_size, 0]) {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.file("/usr/bin/compute", b"12345".to_vec(), true).unwrap();
        tree.put("/dev/console", Node::Device { major: 5, minor: 1 }).unwrap();
        tree.put("/proc", Node::Folder).unwrap();
        tree.file("/etc/alia/build.json", b"{}".to_vec(), false).unwrap();
        tree.put("/etc/resolv.conf", Node::Link("/run/resolv.conf".into())).unwrap();
        tree
    }

    #[test]
    fn the_archive_has_the_layout_that_the_format_fixes() {
        let mut tree = Tree::default();
        tree.file("/a", b"hello".to_vec(), false).unwrap();
        let expected = [
            "070701 00000001 000081A4 00000000 00000000 00000001 00000000 00000005 00000000 00000000 00000000 00000000 00000002 00000000",
            "a\0",
            "hello\0\0\0",
            "070701 00000000 00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 0000000B 00000000",
            "TRAILER!!!\0\0\0\0",
        ];
        let expected = expected.concat().replace(' ', "");
        assert_eq!(String::from_utf8(tree.to_newc()).unwrap(), expected);
    }

    #[test]
    fn the_real_cpio_lists_what_was_put_in_parents_first() {
        let mut cpio = Command::new("cpio")
            .args(["--list", "--quiet", "--verbose", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the package cpio is wanted");
        cpio.stdin.take().unwrap().write_all(&tree().to_newc()).unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<(&str, &str)> =
            text.lines().map(|line| (&line[..10], line.rsplit(' ').next().unwrap())).collect();
        assert_eq!(
            lines,
            [
                ("drwxr-xr-x", "dev"),
                ("crw-------", "dev/console"),
                ("drwxr-xr-x", "etc"),
                ("drwxr-xr-x", "etc/alia"),
                ("-rw-r--r--", "etc/alia/build.json"),
                // Where it points to.
                ("lrwxrwxrwx", "/run/resolv.conf"),
                ("drwxr-xr-x", "proc"),
                ("drwxr-xr-x", "usr"),
                ("drwxr-xr-x", "usr/bin"),
                ("-rwxr-xr-x", "usr/bin/compute"),
            ]
        );
    }

    #[test]
    fn the_order_of_putting_changes_no_byte() {
        let mut other = Tree::default();
        other.file("/etc/alia/build.json", b"{}".to_vec(), false).unwrap();
        other.put("/etc/resolv.conf", Node::Link("/run/resolv.conf".into())).unwrap();
        other.put("/proc", Node::Folder).unwrap();
        other.put("/dev/console", Node::Device { major: 5, minor: 1 }).unwrap();
        other.file("/usr/bin/compute", b"12345".to_vec(), true).unwrap();
        assert_eq!(other.to_newc(), tree().to_newc());
    }

    #[test]
    fn paths_that_lead_elsewhere_or_collide_are_refused() {
        let mut tree = tree();
        for path in ["etc", "/", "/a/../b", "/a//b", "/./a", "/proc/", "/usr/bin/compute/x"] {
            assert!(tree.put(path, Node::Folder).is_err(), "{path}");
        }
        let before = tree.clone();
        for path in ["/usr/bin/compute", "/usr/bin", "/dev/console"] {
            let twice = tree.file(path, Vec::new(), true);
            assert_eq!(twice, Err(PathError::Twice(path.into())));
        }
        assert_eq!(tree.put("/usr/bin/compute", Node::Folder).ok(), None);
        assert_eq!(tree.put("/usr/bin", Node::Folder), Ok(()));
        assert_eq!(tree, before, "what is refused changes nothing");
    }
}
