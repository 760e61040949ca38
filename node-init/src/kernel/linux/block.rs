//! Files in memory, loop devices over them, and the device mapper (linux/loop.h,
//! linux/dm-ioctl.h).

use crate::kernel::{LoopDevice, Mapping};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

const LOOP_CONTROL: &str = "/dev/loop-control";
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
/// `struct loop_config`: descriptor, block size, `struct loop_info64` (232 bytes), 64 reserved.
const LOOP_CONFIG_LEN: usize = 4 + 4 + 232 + 64;
/// `info.lo_flags` in it.
const LO_FLAGS_AT: usize = 8 + 52;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

const MAPPER: &str = "/dev/mapper/control";
/// `struct dm_ioctl`.
const DM_LEN: usize = 312;
const DM_NAME_AT: usize = 48;
const DM_NAME_LEN: usize = 128;
const DM_DEV_AT: usize = 40;
const DM_FLAGS_AT: usize = 28;
/// `struct dm_target_spec`.
const DM_TARGET_LEN: usize = 40;
const DM_DEV_CREATE: u8 = 3;
const DM_DEV_REMOVE: u8 = 4;
const DM_DEV_SUSPEND: u8 = 6;
const DM_TABLE_LOAD: u8 = 9;
const DM_READONLY_FLAG: u32 = 1;

pub(super) fn memory_file() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(memfd_create(c"root", flags)?.into())
}

pub(super) fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

pub(super) fn loop_device(file: &File) -> io::Result<LoopDevice> {
    let control = File::options().read(true).write(true).open(LOOP_CONTROL)?;
    // SAFETY: this request takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    let number = Errno::result(number)?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::open(&path)?;
    let mut config = [0u8; LOOP_CONFIG_LEN];
    config[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
    let flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    config[LO_FLAGS_AT..LO_FLAGS_AT + 4].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the kernel reads `struct loop_config`, whose length `config` has, and both
    // descriptors are open for the whole call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, config.as_ptr()) };
    Errno::result(done)?;
    Ok(LoopDevice { path, held: OwnedFd::from(device) })
}

pub(super) fn map_device(mapping: &Mapping) -> io::Result<PathBuf> {
    let control = File::options().read(true).write(true).open(MAPPER)?;
    let flags = if mapping.writable { 0 } else { DM_READONLY_FLAG };
    let mut created = header(mapping.name, flags, 0)?;
    request(&control, DM_DEV_CREATE, &mut created)?;
    let load = || -> io::Result<()> {
        let mut table = header(mapping.name, flags, 1)?;
        table.extend(target(mapping)?);
        request(&control, DM_TABLE_LOAD, &mut table)?;
        // Without the suspend flag this resumes: the table becomes the live one.
        request(&control, DM_DEV_SUSPEND, &mut header(mapping.name, flags, 0)?)
    };
    if let Err(error) = load() {
        let _ = unmap_device(mapping.name);
        return Err(error);
    }
    let device = created[DM_DEV_AT..DM_DEV_AT + 8].try_into().map_or(0, u64::from_ne_bytes);
    // new_encode_dev: minor numbers stand in the lowest 8 and above the lowest 20 bits.
    let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
    Ok(PathBuf::from(format!("/dev/dm-{minor}")))
}

pub(super) fn unmap_device(name: &str) -> io::Result<()> {
    let control = File::options().read(true).write(true).open(MAPPER)?;
    request(&control, DM_DEV_REMOVE, &mut header(name, 0, 0)?)
}

/// `struct dm_ioctl`, version 4.0.0; what follows it begins right behind.
fn header(name: &str, flags: u32, targets: u32) -> io::Result<Vec<u8>> {
    if name.is_empty() || name.len() >= DM_NAME_LEN || name.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name for a mapped device"));
    }
    let mut bytes = vec![0; DM_LEN];
    bytes[..4].copy_from_slice(&4u32.to_ne_bytes());
    bytes[16..20].copy_from_slice(&(DM_LEN as u32).to_ne_bytes());
    bytes[20..24].copy_from_slice(&targets.to_ne_bytes());
    bytes[DM_FLAGS_AT..DM_FLAGS_AT + 4].copy_from_slice(&flags.to_ne_bytes());
    bytes[DM_NAME_AT..DM_NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

/// `struct dm_target_spec` and its parameters, ended by a zero and padded to eight bytes.
fn target(mapping: &Mapping) -> io::Result<Vec<u8>> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    if mapping.target.len() >= 16 {
        return Err(invalid("the target's name is too long"));
    }
    if mapping.parameters.contains('\0') {
        return Err(invalid("the target's parameters hold a zero"));
    }
    let mut bytes = vec![0; DM_TARGET_LEN];
    bytes[8..16].copy_from_slice(&mapping.sectors.to_ne_bytes());
    bytes[24..24 + mapping.target.len()].copy_from_slice(mapping.target.as_bytes());
    bytes.extend(mapping.parameters.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let next = u32::try_from(bytes.len()).map_err(|_| invalid("the parameters are too long"))?;
    bytes[20..24].copy_from_slice(&next.to_ne_bytes());
    Ok(bytes)
}

/// One request to the device mapper: `_IOWR(0xfd, number, struct dm_ioctl)`.
fn request(control: &File, number: u8, bytes: &mut [u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    bytes[12..16].copy_from_slice(&length.to_ne_bytes());
    let code = nix::request_code_readwrite!(0xfd, number, DM_LEN);
    // SAFETY: `data_size` (bytes 12 to 16) says how long `bytes` is, at least `struct dm_ioctl`;
    // the kernel reads and writes no further.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), code, bytes.as_mut_ptr()) };
    Errno::result(done)?;
    Ok(())
}
