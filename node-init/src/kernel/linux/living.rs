//! The hardware's watchdog, and the display's text console.

use crate::kernel::{TextScreen, Watchdog};
use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    time::Duration,
};

/// The watchdog's calls: include/uapi/linux/watchdog.h.
mod dog {
    /// `struct watchdog_info`.
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Info {
        pub(super) options: u32,
        pub(super) version: u32,
        pub(super) identity: [u8; 32],
    }
    /// `WDIOF_CARDRESET`: the watchdog was what reset the machine last.
    pub(super) const CARD_RESET: i32 = 0x20;
    nix::ioctl_read!(support, b'W', 0, Info);
    nix::ioctl_read!(boot_status, b'W', 2, i32);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
    nix::ioctl_read!(timeout, b'W', 7, i32);
}

/// The display's calls: include/uapi/asm-generic/ioctls.h.
mod tty {
    nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
}

/// A virtual terminal of our own: kernel messages go to the first, or to the one that is shown.
const SCREEN: &str = "/dev/tty2";

/// The shortest time of a watchdog that is of use, in seconds.
const LEAST_SECONDS: i32 = 10;

pub(super) fn watchdog(device: &Path, timeout: Duration) -> io::Result<Watchdog> {
    // Opening starts it.
    let mut device = File::options().write(true).open(device)?;
    let mut seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
    let (mut status, mut info) = (0, dog::Info::default());
    // SAFETY: each call writes a value of the type that its number stands for (watchdog.h), to
    // which the pointer is valid and exclusive for the call; the device is open.
    unsafe {
        if dog::set_timeout(device.as_raw_fd(), &raw mut seconds).is_err() {
            // It has its own, or none that it tells of.
            seconds = 0;
            let _ = dog::timeout(device.as_raw_fd(), &raw mut seconds);
        }
        // What a driver does not know stays as it is.
        let _ = dog::boot_status(device.as_raw_fd(), &raw mut status);
        let _ = dog::support(device.as_raw_fd(), &raw mut info);
    }
    if seconds < LEAST_SECONDS {
        // Stopped again: nobody would feed it in time.
        device.write_all(b"V")?;
        return Err(io::Error::other(format!("it allows {seconds} s, which is too short")));
    }
    let name = String::from_utf8_lossy(&info.identity);
    Ok(Watchdog {
        device: device.into(),
        timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        reset_us: status & dog::CARD_RESET != 0,
        name: name.trim_end_matches('\0').to_owned(),
    })
}

pub(super) fn text_screen() -> io::Result<TextScreen> {
    let device = File::options().write(true).custom_flags(libc::O_NOCTTY).open(SCREEN)?;
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a `winsize`, to which the pointer is valid and exclusive for the
    // call; the terminal is open.
    unsafe { tty::window_size(device.as_raw_fd(), &raw mut size)? };
    Ok(TextScreen { device: device.into(), columns: size.ws_col, rows: size.ws_row })
}
