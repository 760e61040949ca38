//! What PID 1 asks of the kernel, as one table of functions.
//!
//! Beside it stand, since tests need no kernel of their own for them: TCP, UDP and the files of a
//! release's check (tokio's, of 127.0.0.1 and a folder in tests), the clock of [`crate::ring`], and what
//! PID 1 gives up of its own capabilities ([`crate::capabilities`]).
//!
//! Stages take `&dyn Kernel`, so that each of them is tested without a kernel. [`Linux`] is the
//! real one, and its folder the only one with `unsafe`. Network links and DHCP, which are asynchronous, have
//! their own table in [`crate::net`].

mod linux;

#[cfg(test)]
pub(crate) mod fake;

pub use linux::Linux;

use crate::{firewall::Firewall, sandbox::Cage};
use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

/// Numbers a process.
pub type Pid = i32;

/// A file system to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's type, which names its source too.
    pub kind: &'static str,
    /// Where.
    pub on: &'static str,
    /// Whether device files work there; set-user-id files never do.
    pub devices: bool,
    /// Whether programs may be executed there.
    pub programs: bool,
    /// The file system's own options.
    pub options: &'static str,
}

/// A block device with a file behind it; it goes once nothing holds it.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loop0`.
    pub path: PathBuf,
    /// Holds it.
    pub held: OwnedFd,
}

/// A folder of the initramfs that stays, to be read alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The folder.
    pub folder: &'static str,
    /// Where it is found from then on, below a mount that is moved.
    pub on: &'static str,
}

/// A device of the device mapper: one target from its first sector to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its name.
    pub name: &'static str,
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// The target: `verity`, `crypt`.
    pub target: &'static str,
    /// What the target is told.
    pub parameters: String,
    /// Whether it can be written.
    pub writable: bool,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Whether it is a directory itself (a link to one is not).
    pub directory: bool,
}

/// A program to start as a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// What follows the name.
    pub arguments: Vec<String>,
    /// What it is locked into.
    pub cage: Cage,
    /// The name of its control group, which holds all that it forks.
    pub group: &'static str,
}

/// A process that was started.
#[derive(Debug)]
pub struct Started {
    /// Its number.
    pub pid: Pid,
    /// The reading end of its standard output and error.
    pub output: OwnedFd,
}

/// A watchdog that counts down.
#[derive(Debug)]
pub struct Watchdog {
    /// What it is fed by: one byte is a meal.
    pub device: OwnedFd,
    /// What it took of the time that it was given.
    pub timeout: Duration,
    /// Whether it was what started the machine anew.
    pub reset_us: bool,
    /// What it calls itself.
    pub name: String,
}

/// A display that shows text.
#[derive(Debug)]
pub struct TextScreen {
    /// Takes text and a terminal's control sequences.
    pub device: OwnedFd,
    /// Characters a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What the kernel tells of devices (NETLINK_KOBJECT_UEVENT), all of it since it was opened.
pub trait Uevents: Send {
    /// The next datagram; `ENOBUFS` where some were lost.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + Send + '_>>;
}

/// The kernel's log, record by record.
pub trait KernelLog: Send {
    /// The next record; none where there is none yet. Never waits.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>>;
}

/// A display of pixels; it shows what it is given for as long as it is there.
pub trait Pixels {
    /// Width and height.
    fn size(&self) -> (u32, u32);
    /// Shows width times height pixels, XRGB8888, line by line.
    fn show(&mut self, pixels: &[u32]) -> io::Result<()>;
}

/// Whether loading a module waits until it looked at its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// And until all those before it did, too.
    Waited,
    /// They come when they come: disks take seconds until they turn.
    Aside,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By a signal of this number.
    Signal(i32),
    /// By the kernel, as it used more than so many bytes of memory.
    OutOfMemory(u64),
}

/// A signal to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM to the process: end in order.
    Ask,
    /// SIGKILL to the process and to all that it forked.
    Kill,
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power off.
    PowerOff,
    /// Start again from firmware.
    Restart,
}

/// The kernel, as PID 1 uses it.
pub trait Kernel: Send + Sync {
    /// Time since the kernel started, sleep included.
    fn since_start(&self) -> Duration;
    /// The wall clock, seconds since 1970; 0 where it is before that.
    fn unix_time(&self) -> u64;
    /// Sets the wall clock.
    fn set_unix_time(&self, seconds: u64) -> io::Result<()>;
    /// Sets the wall clock forward by so many nanoseconds, or back.
    fn step_clock(&self, nanoseconds: i64) -> io::Result<()>;
    /// Has the wall clock run a little faster or slower until it has made up so much.
    fn slew_clock(&self, nanoseconds: i64) -> io::Result<()>;
    /// Fills a seed; waits until the kernel has collected randomness.
    fn random(&self) -> io::Result<[u8; 32]>;

    /// Mounts a file system; its mount point is made where it is missing.
    fn mount(&self, mount: &Mount) -> io::Result<()>;
    /// A file's content, at most `most` bytes of it.
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>>;
    /// What a directory holds, by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// The last part of where a link points to.
    fn link_name(&self, path: &Path) -> io::Result<String>;
    /// Part of a device's content: at most `most` bytes from `at` on.
    fn read_at(&self, path: &Path, at: u64, most: usize) -> io::Result<Vec<u8>>;
    /// Writes to a device, and waits until it is there.
    fn write_at(&self, path: &Path, at: u64, content: &[u8]) -> io::Result<()>;
    /// Has the kernel swap to a device.
    fn swap_on(&self, path: &Path) -> io::Result<()>;
    /// Changes how much a tmpfs may hold.
    fn resize(&self, on: &Path, bytes: u64) -> io::Result<()>;
    /// Replaces a file. With an owner (user and group alike) it is readable by that alone.
    fn write(&self, path: &Path, content: &[u8], owner: Option<u32>) -> io::Result<()>;
    /// Writes a UEFI variable: a file of efivarfs, its attributes first, all in one call.
    fn write_variable(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Opens the machine's TPM 2.0 by the kernel's resource manager; `NotFound` where there is
    /// none.
    fn tpm(&self) -> io::Result<tpm::Tpm>;
    /// The records of the kernel's log (/dev/kmsg), oldest first: the newest, at most `most` bytes.
    fn kernel_log(&self, most: usize) -> io::Result<Vec<Vec<u8>>>;
    /// The kernel's log to be read on, from its oldest record.
    fn open_kernel_log(&self) -> io::Result<Box<dyn KernelLog>>;
    /// Writes a value to a file of /proc or /sys that is there.
    fn set(&self, path: &Path, value: &str) -> io::Result<()>;
    /// Opens a device file for reading.
    fn open_device(&self, path: &Path) -> io::Result<OwnedFd>;

    /// Makes the device file of a character device (major and minor number), which its owner and
    /// root's group alone may read and write.
    fn make_device(&self, path: &Path, number: (u32, u32), owner: u32) -> io::Result<()>;

    /// An empty file in memory that has no name.
    fn memory_file(&self) -> io::Result<File>;
    /// Makes a file in memory unchangeable, for good.
    fn seal(&self, file: &File) -> io::Result<()>;
    /// A read-only block device over a file.
    fn loop_device(&self, file: &File) -> io::Result<LoopDevice>;
    /// Makes a device of the device mapper; gives its path.
    fn map_device(&self, mapping: &Mapping) -> io::Result<PathBuf>;
    /// Takes a device of the device mapper away.
    fn unmap_device(&self, name: &str) -> io::Result<()>;
    /// Mounts a block device's file system, to be read and executed from; the mount point is made
    /// where it is missing.
    fn mount_device(&self, device: &Path, kind: &str, on: &Path) -> io::Result<()>;
    /// Makes what is mounted on `root` the machine's root: moves these mounts into it, deletes what
    /// the initramfs holds but for what is kept, which frees its memory, and goes there.
    fn switch_root(&self, root: &Path, moved: &[&str], kept: &Kept) -> io::Result<()>;
    /// Replaces the packet filter's rules by these, all at once.
    fn firewall(&self, firewall: &Firewall) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Opens the display, where there is one that shows text.
    fn text_screen(&self) -> io::Result<TextScreen>;
    /// Opens the display where there is no text, as pixels.
    fn pixel_screen(&self) -> io::Result<Box<dyn Pixels>>;
    /// Starts a watchdog, which resets the machine `timeout` after its last meal; whole seconds.
    fn watchdog(&self, device: &Path, timeout: Duration) -> io::Result<Watchdog>;

    /// Loads a module; one that is loaded already is no error.
    fn load_module(&self, path: &Path, probe: Probe) -> io::Result<()>;

    /// Listens to what the kernel tells of devices.
    fn uevents(&self) -> io::Result<Box<dyn Uevents>>;

    /// Starts a service in its cage: no capability, no new privileges, a session and a control group
    /// of its own, nothing open but its output, working directory `/`, an empty environment.
    fn spawn(&self, program: &Program) -> io::Result<Started>;
    /// Signals a service.
    fn stop(&self, program: &Program, pid: Pid, how: Stop) -> io::Result<()>;
    /// Collects one ended process, whoever's it was; never waits.
    fn reap(&self) -> Option<(Pid, Exit)>;

    /// Has Ctrl-Alt-Del send SIGINT to PID 1 rather than restart the machine at once.
    fn take_ctrl_alt_del(&self) -> io::Result<()>;
    /// Writes back what is not written yet and ends the machine; returns only when that failed.
    fn end(&self, how: End) -> io::Error;
}

/// The largest text file of /proc, /sys or /lib that is read: Debian's whole `modules.alias` has
/// 1.5 MB.
pub const MAX_TEXT: usize = 8 << 20;

/// A text file without the white space around it; none where it cannot be read.
pub fn text(kernel: &dyn Kernel, path: impl AsRef<Path>) -> Option<String> {
    let bytes = kernel.read(path.as_ref(), MAX_TEXT).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::OutOfMemory(bytes) => {
                write!(f, "was killed because it used more than {} MB of memory", bytes / 1_000_000)
            }
        }
    }
}
