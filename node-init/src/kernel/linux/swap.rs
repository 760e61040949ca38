//! Swapping to a device (swapon(2)).

use nix::errno::Errno;
use std::{ffi::CString, io, os::unix::ffi::OsStrExt, path::Path};

pub(super) fn on(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a string that ends in a zero byte and lives through the call.
    Errno::result(unsafe { libc::swapon(path.as_ptr(), 0) })?;
    Ok(())
}
