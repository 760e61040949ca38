//! UEFI variables: files of efivarfs, which are written whole and at once, and which the kernel
//! marks immutable so that nobody removes firmware's by accident
//! (<https://docs.kernel.org/filesystems/efivarfs.html>).

use nix::errno::Errno;
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    path::Path,
};

/// linux/fs.h: inode flags of a file.
const FS_IOC_GETFLAGS: libc::Ioctl = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::Ioctl = 0x4008_6602;
const FS_IMMUTABLE_FL: libc::c_int = 0x10;

pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => make_mutable(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // One write is one SetVariable.
    let written = File::options().write(true).create(true).truncate(false).open(path)?;
    match (&written).write(content)? {
        all if all == content.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn make_mutable(file: &File) -> io::Result<()> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel writes an int, whatever the request's number says of a long, into one
    // that lives as long as the call; the descriptor is open.
    let got = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(got)?;
    if flags & FS_IMMUTABLE_FL != 0 {
        flags &= !FS_IMMUTABLE_FL;
        // SAFETY: as before, but that the kernel reads.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &raw const flags) };
        Errno::result(set)?;
    }
    Ok(())
}
