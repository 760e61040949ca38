//! What PID 1 keeps of root's might, as a table with reasons; the rest it lets go for good.
//!
//! Two sets are meant. The *bounding* set, beyond which no program that is ever executed can come,
//! is emptied: no service of ours needs a capability, so none shall be had by any trick. PID 1's own
//! set keeps what stands in [`KEPT`]: loading modules among it, since hot-plugged hardware needs its
//! driver long after the boot. Two things are kept for what nothing does yet: starting the next
//! release by kexec, for which nothing signs a kernel either, and unloading NVIDIA's modules before
//! that. What a module or a kernel is allowed to be is not left to PID 1: the source kernel takes none
//! without the release's signature, and lockdown holds the prebuilt one to its own.
//!
//! Capabilities are a thread's, so this is done before there is a second one; and the bounding set
//! of PID 1 itself would weaken a second exec of it, so it is done by the last.

use caps::{CapSet, Capability, errors::CapsError};
use std::collections::HashSet;

/// A capability that PID 1 keeps, and what for.
pub type Kept = (Capability, &'static str);

/// Everything that PID 1 keeps.
pub const KEPT: [Kept; 16] = [
    (Capability::CAP_SYS_ADMIN, "mounts, and the services' name spaces"),
    (Capability::CAP_SYS_MODULE, "drivers of hot-plugged hardware; kept for unloading them, too"),
    (Capability::CAP_SYS_BOOT, "restarting; kept for kexec_file_load of a signed kernel"),
    (Capability::CAP_NET_ADMIN, "links, addresses, routes, the packet filter"),
    (Capability::CAP_NET_RAW, "DHCP's packet socket"),
    (Capability::CAP_NET_BIND_SERVICE, "DHCP's own port, to renew a lease"),
    (Capability::CAP_SYS_TIME, "the wall clock"),
    (Capability::CAP_SETUID, "a service's user"),
    (Capability::CAP_SETGID, "a service's group"),
    (Capability::CAP_SETPCAP, "emptying a service's bounding set"),
    (Capability::CAP_SYS_CHROOT, "a service's root"),
    (Capability::CAP_CHOWN, "a service's settings, which it alone reads"),
    (Capability::CAP_MKNOD, "NVIDIA's device files, which its driver does not make"),
    (Capability::CAP_KILL, "ending a service, which has another user"),
    (Capability::CAP_SYSLOG, "the kernel's log, for the node API"),
    (Capability::CAP_LINUX_IMMUTABLE, "UEFI variables, which the kernel marks so"),
];

/// Empties the bounding set of the calling thread and lets go what is not in [`KEPT`].
pub fn drop_others() -> Result<(), CapsError> {
    // While CAP_SETPCAP is still there.
    for capability in caps::read(None, CapSet::Bounding)? {
        caps::drop(None, CapSet::Bounding, capability)?;
    }
    let had = caps::read(None, CapSet::Permitted)?;
    let kept: HashSet<Capability> =
        KEPT.iter().map(|(capability, _)| *capability).filter(|each| had.contains(each)).collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_is_kept_once_and_for_a_reason() {
        let names: HashSet<Capability> = KEPT.iter().map(|(capability, _)| *capability).collect();
        assert_eq!(names.len(), KEPT.len());
        assert!(KEPT.iter().all(|(_, why)| !why.is_empty()));
    }

    #[test]
    fn what_reads_others_memory_or_loads_programs_into_the_kernel_is_not_kept() {
        let never = [
            Capability::CAP_SYS_PTRACE,
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            Capability::CAP_SYS_RAWIO,
            Capability::CAP_DAC_OVERRIDE,
            Capability::CAP_DAC_READ_SEARCH,
        ];
        assert!(KEPT.iter().all(|(capability, _)| !never.contains(capability)));
    }
}
