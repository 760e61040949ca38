//! This host's own facts, read from /proc, /sys and /run.

use std::{fs, path::PathBuf, str::FromStr};

/// The longest file that is read: a table of some ten thousand sockets.
const MAX_FILE: u64 = 4 << 20;

/// Where the host's files are: `/`, or a folder made for a test.
#[derive(Clone, Debug)]
pub(super) struct Host(PathBuf);

impl Host {
    /// The real one.
    pub(super) fn this() -> Self {
        Self("/".into())
    }

    #[cfg(test)]
    pub(super) fn at(root: &std::path::Path) -> Self {
        Self(root.into())
    }

    /// A path on it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A file's text, trimmed; none where it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        use std::io::Read;
        let mut text = Vec::new();
        fs::File::open(self.path(path)).ok()?.take(MAX_FILE).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_string())
    }

    /// A number that a file holds.
    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; none where there is no folder.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether there is such a file or folder.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The interfaces that an interface stands on: a VLAN's parent, a bond's members.
    pub(super) fn below(&self, interface: &str) -> Vec<String> {
        let names = self.names(&format!("sys/class/net/{interface}"));
        names.iter().filter_map(|name| name.strip_prefix("lower_")).map(String::from).collect()
    }

    /// A bridge's ports.
    pub(super) fn ports(&self, interface: &str) -> Vec<String> {
        self.names(&format!("sys/class/net/{interface}/brif"))
    }

    /// The bridge that an interface is a port of.
    pub(super) fn bridge_of(&self, interface: &str) -> Option<String> {
        let link = fs::read_link(self.path(&format!("sys/class/net/{interface}/master"))).ok()?;
        let name = link.file_name()?.to_str()?.to_string();
        self.has(&format!("sys/class/net/{name}/bridge")).then_some(name)
    }

    /// An interface's MTU.
    pub(super) fn mtu(&self, interface: &str) -> Option<u32> {
        self.number(&format!("sys/class/net/{interface}/mtu"))
    }
}
