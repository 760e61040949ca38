//! A kernel that has nothing but files, for node-init's stages.

use node_init::{
    firewall::Firewall,
    kernel::{
        End, Entry, Exit, Kept, Kernel, KernelLog, LoopDevice, Mapping, Mount, Pid, Pixels, Probe,
        Program, Started, Stop, TextScreen, Uevents, Watchdog,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

/// Files by path; every link has one name.
#[derive(Default)]
pub struct Files {
    /// What stands in them.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// What every link leads to.
    pub link: String,
}

fn none<T>() -> io::Result<T> {
    Err(ErrorKind::Unsupported.into())
}

impl Kernel for Files {
    fn since_start(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn unix_time(&self) -> u64 {
        1_700_000_000
    }

    fn set_unix_time(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn step_clock(&self, _: i64) -> io::Result<()> {
        Ok(())
    }

    fn slew_clock(&self, _: i64) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> io::Result<[u8; 32]> {
        Ok([1; 32])
    }

    /// What is mounted is among the files.
    fn mount(&self, _: &Mount) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let content = self.files.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(content.iter().copied().take(most).collect())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = BTreeSet::new();
        for file in self.files.keys() {
            let Ok(rest) = file.strip_prefix(path) else { continue };
            let mut parts = rest.components();
            let Some(first) = parts.next() else { continue };
            let name = first.as_os_str().to_string_lossy().into_owned();
            entries.insert(Entry { name, directory: parts.next().is_some() });
        }
        if entries.is_empty() {
            Err(ErrorKind::NotFound.into())
        } else {
            Ok(entries.into_iter().collect())
        }
    }

    fn link_name(&self, _: &Path) -> io::Result<String> {
        Ok(self.link.clone())
    }

    fn write(&self, _: &Path, _: &[u8], _: Option<u32>) -> io::Result<()> {
        none()
    }

    fn kernel_log(&self, _: usize) -> io::Result<Vec<Vec<u8>>> {
        none()
    }

    fn open_kernel_log(&self) -> io::Result<Box<dyn KernelLog>> {
        none()
    }

    fn open_device(&self, _: &Path) -> io::Result<OwnedFd> {
        none()
    }

    fn read_at(&self, _: &Path, _: u64, _: usize) -> io::Result<Vec<u8>> {
        none()
    }

    fn write_at(&self, _: &Path, _: u64, _: &[u8]) -> io::Result<()> {
        none()
    }

    fn swap_on(&self, _: &Path) -> io::Result<()> {
        none()
    }

    fn resize(&self, _: &Path, _: u64) -> io::Result<()> {
        none()
    }

    fn write_variable(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        none()
    }

    fn tpm(&self) -> io::Result<tpm::Tpm> {
        none()
    }

    fn set(&self, _: &Path, _: &str) -> io::Result<()> {
        none()
    }

    fn make_device(&self, _: &Path, _: (u32, u32), _: u32) -> io::Result<()> {
        Ok(())
    }

    fn memory_file(&self) -> io::Result<File> {
        none()
    }

    fn seal(&self, _: &File) -> io::Result<()> {
        none()
    }

    fn loop_device(&self, _: &File) -> io::Result<LoopDevice> {
        none()
    }

    fn map_device(&self, _: &Mapping) -> io::Result<PathBuf> {
        none()
    }

    fn unmap_device(&self, _: &str) -> io::Result<()> {
        none()
    }

    fn mount_device(&self, _: &Path, _: &str, _: &Path) -> io::Result<()> {
        none()
    }

    fn switch_root(&self, _: &Path, _: &[&str], _: &Kept) -> io::Result<()> {
        none()
    }

    fn firewall(&self, _: &Firewall) -> io::Result<()> {
        none()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        assert!(self.files.contains_key(path), "{path:?}");
        Ok(())
    }

    fn text_screen(&self) -> io::Result<TextScreen> {
        none()
    }

    fn pixel_screen(&self) -> io::Result<Box<dyn Pixels>> {
        none()
    }

    fn watchdog(&self, _: &Path, _: Duration) -> io::Result<Watchdog> {
        none()
    }

    fn uevents(&self) -> io::Result<Box<dyn Uevents>> {
        none()
    }

    fn load_module(&self, path: &Path, _probe: Probe) -> io::Result<()> {
        assert!(path.starts_with("/lib/modules"), "{path:?}");
        Ok(())
    }

    fn spawn(&self, _: &Program) -> io::Result<Started> {
        none()
    }

    fn stop(&self, _: &Program, _: Pid, _: Stop) -> io::Result<()> {
        none()
    }

    fn reap(&self) -> Option<(Pid, Exit)> {
        None
    }

    fn take_ctrl_alt_del(&self) -> io::Result<()> {
        none()
    }

    fn end(&self, _: End) -> io::Error {
        ErrorKind::Unsupported.into()
    }
}
