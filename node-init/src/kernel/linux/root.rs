//! Going from the initramfs to the machine's root.

use crate::kernel::Kept;
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

const NONE: Option<&str> = None;

pub(super) fn switch(root: &Path, moved: &[&str], kept: &Kept) -> io::Result<()> {
    // It goes along with the mount that it lies in. Nothing can be written or executed by it.
    fs::create_dir_all(kept.on)?;
    mount(Some(kept.folder), kept.on, NONE, MsFlags::MS_BIND, NONE)?;
    let only_read =
        MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NONE, kept.on, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | only_read, NONE)?;
    for on in moved {
        let to = root.join(on.trim_start_matches('/'));
        mount(Some(*on), &to, NONE, MsFlags::MS_MOVE, NONE)?;
    }
    // Its other files are of no more use, and the memory is. PID 1's own lives on without a name.
    let initramfs = fs::metadata("/")?.dev();
    empty(Path::new("/"), initramfs, Path::new(kept.folder));
    // What can still reach the initramfs can neither write nor execute there.
    let locked = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    mount(NONE, "/", NONE, locked, NONE)?;
    chdir(root)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    // PID 1 shares its root with the kernel's own threads, which load firmware from it.
    chroot(".")?;
    Ok(chdir("/")?)
}

/// Deletes what lies below a folder on this file system but not in `kept`, as far as it goes.
fn empty(folder: &Path, device: u64, kept: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    for path in entries {
        match fs::symlink_metadata(&path) {
            Ok(about) if about.dev() != device || path == kept => {}
            Ok(about) if about.is_dir() => {
                empty(&path, device, kept);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
}
