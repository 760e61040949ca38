//! The kernel's log, as /dev/kmsg gives it: a record for each read
//! (<https://docs.kernel.org/admin-guide/abi-testing.html>, `dev-kmsg`).

use crate::kernel::KernelLog;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

/// The longest record: `CONSOLE_EXT_LOG_MAX` of the kernel's printk is 8 KiB.
const MAX_RECORD: usize = 8 << 10;

pub(super) struct Log(File);

impl Log {
    /// From its oldest record on.
    pub(super) fn open() -> io::Result<Self> {
        let log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        Ok(Self(log))
    }
}

impl KernelLog for Log {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut record = [0; MAX_RECORD];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(None),
                Ok(read) => return Ok(Some(record[..read].to_vec())),
                // The ring overtook us: it goes on at its oldest record.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
