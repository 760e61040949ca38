//! Going from the initramfs to the machine's root.

use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

pub(super) fn mount_device(device: &Path, kind: &str, on: &Path) -> io::Result<()> {
    fs::create_dir_all(on)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some(device), on, Some(kind), flags, None::<&str>)?)
}

pub(super) fn switch(root: &Path, moved: &[&str]) -> io::Result<()> {
    const NONE: Option<&str> = None;
    for on in moved {
        let to = root.join(on.trim_start_matches('/'));
        mount(Some(*on), &to, NONE, MsFlags::MS_MOVE, NONE)?;
    }
    // Its files are of no more use, and the memory is. PID 1's own lives on without a name.
    let initramfs = fs::metadata("/")?.dev();
    empty(Path::new("/"), initramfs);
    // What can still reach the initramfs can neither write nor execute there.
    let locked = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    let _ = mount(NONE, "/", NONE, locked, NONE);
    chdir(root)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    // PID 1 shares its root with the kernel's own threads, which load firmware from it.
    chroot(".")?;
    Ok(chdir("/")?)
}

/// Deletes what lies below a folder on this file system, as far as it goes.
fn empty(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for path in entries {
        match fs::symlink_metadata(&path) {
            Ok(about) if about.dev() != device => {}
            Ok(about) if about.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
}
