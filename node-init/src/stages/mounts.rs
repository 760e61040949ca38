//! Stage `mounts`: the kernel's file systems, and memory to write to.

use crate::kernel::{Kernel, Mount};
use std::io;

/// Every mount, in order. Nothing is executed from what can be written; set-user-id never works.
pub const MOUNTS: [Mount; 6] = [
    plain("proc", "/proc", ""),
    plain("sysfs", "/sys", ""),
    Mount { devices: true, ..plain("devtmpfs", "/dev", "mode=755") },
    // Configuration of services: kilobytes.
    plain("tmpfs", "/run", "mode=755,size=16m,nr_inodes=4096"),
    // A service's scratch; memory spent here is not there to compute with.
    plain("tmpfs", "/tmp", "mode=1777,size=25%,nr_inodes=65536"),
    plain("cgroup2", "/sys/fs/cgroup", ""),
];

const fn plain(kind: &'static str, on: &'static str, options: &'static str) -> Mount {
    Mount { kind, on, devices: false, programs: false, options }
}

/// EBUSY: it is mounted already.
const BUSY: i32 = 16;

/// A file system cannot be mounted. The image's kernel lacks it, or the image its mount point.
#[derive(Debug, thiserror::Error)]
#[error("{kind} cannot be mounted on {on}: {reason}; build the image with a kernel that has it")]
pub struct MountError {
    kind: &'static str,
    on: &'static str,
    reason: io::Error,
}

/// Mounts everything; what is mounted already stays. Control groups alone can be done without:
/// the service is then held by its process group.
pub fn run(kernel: &dyn Kernel) -> Result<String, MountError> {
    let mut without = "";
    for mount in &MOUNTS {
        match kernel.mount(mount) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(BUSY) => {}
            Err(_) if mount.kind == "cgroup2" => without = ", without control groups",
            Err(reason) => return Err(MountError { kind: mount.kind, on: mount.on, reason }),
        }
    }
    Ok(format!("{} file systems{without}", MOUNTS.len() - usize::from(!without.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    const NO_SUCH_DEVICE: i32 = 19;

    #[test]
    fn everything_is_mounted_in_order() {
        let kernel = Fake::new(&[]);
        assert_eq!(run(&kernel).unwrap(), "6 file systems");
        let wanted = ["/proc", "/sys", "/dev", "/run", "/tmp", "/sys/fs/cgroup"];
        assert_eq!(kernel.world().mounts, wanted);
    }

    #[test]
    fn what_is_mounted_already_stays() {
        assert!(run(&Fake::new(&[]).failing("/proc", BUSY)).is_ok());
    }

    #[test]
    fn a_file_system_that_the_kernel_lacks_is_named() {
        let error = run(&Fake::new(&[]).failing("/dev", NO_SUCH_DEVICE)).unwrap_err().to_string();
        assert!(error.starts_with("devtmpfs cannot be mounted on /dev: No such device"), "{error}");
    }

    #[test]
    fn control_groups_can_be_done_without() {
        let kernel = Fake::new(&[]).failing("/sys/fs/cgroup", NO_SUCH_DEVICE);
        assert_eq!(run(&kernel).unwrap(), "5 file systems, without control groups");
    }

    #[test]
    fn only_devtmpfs_has_devices_and_nothing_has_programs() {
        for mount in MOUNTS {
            assert_eq!(mount.devices, mount.kind == "devtmpfs", "{}", mount.on);
            assert!(!mount.programs, "{}", mount.on);
        }
    }
}
