//! The kernel's settings, as a table: each with its value and the reason for it.
//!
//! They are what the Kernel Self Protection Project and kernel-hardening-checker ask for, and a few
//! more. What these ask for and we do not set stands in [`LEFT`], with why.

use crate::kernel::{Entry, Kernel};
use std::path::Path;

const ROOT: &str = "/proc/sys";
/// The most of a setting's text that is read.
const MOST: usize = 4096;

/// One setting below /proc/sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// The name, as `sysctl` writes it.
    pub name: &'static str,
    /// The value, as the kernel shows it.
    pub value: &'static str,
    /// Why.
    pub why: &'static str,
}

impl Sysctl {
    /// Where it lies below /proc/sys.
    pub fn path(&self) -> String {
        format!("{ROOT}/{}", self.name.replace('.', "/"))
    }
}

const fn set(name: &'static str, value: &'static str, why: &'static str) -> Sysctl {
    Sysctl { name, value, why }
}

/// Every setting, in the order in which they are set.
pub const SYSCTLS: [Sysctl; 50] = [
    // What the kernel tells of itself.
    set("kernel.kptr_restrict", "2", "no address of the kernel in any file, for root neither"),
    set("kernel.dmesg_restrict", "1", "the kernel's log may hold addresses and keys' traces"),
    set("kernel.perf_event_paranoid", "3", "nobody measures; counters leak other processes' work"),
    // What a process may ask of it.
    set("kernel.unprivileged_bpf_disabled", "1", "the service loads no programs into the kernel"),
    set("net.core.bpf_jit_harden", "2", "seccomp's filters: their constants are blinded"),
    set("kernel.io_uring_disabled", "2", "nothing of ours uses it, and much went wrong in it"),
    set("vm.unprivileged_userfaultfd", "0", "it stops the kernel where an attacker wants it to"),
    set("user.max_user_namespaces", "0", "in one of its own the service would be root"),
    set("kernel.unprivileged_userns_clone", "0", "the same, in Debian's own words"),
    set("kernel.yama.ptrace_scope", "3", "nothing looks into another process, until the next boot"),
    set("dev.tty.ldisc_autoload", "0", "a line discipline would be a module loaded on demand"),
    set("dev.tty.legacy_tiocsti", "0", "nobody types on another's terminal"),
    set("kernel.sysrq", "0", "a keyboard, or a serial line, is not the operator"),
    set("vm.memfd_noexec", "2", "no program is run from a file in memory"),
    // Memory.
    set("kernel.randomize_va_space", "2", "addresses differ in every run, the heap's too"),
    set("vm.mmap_rnd_bits", "32", "by as much as the kernel can"),
    set("vm.mmap_rnd_compat_bits", "16", "the same for 32-bit programs, of which there are none"),
    set("vm.mmap_min_addr", "65536", "the kernel's null pointers point to nothing"),
    // A kernel that stumbles is worth less than a fresh boot: the node is soft state.
    set("kernel.panic_on_oops", "1", "after an oops nothing of the kernel's state is sure"),
    set("kernel.oops_limit", "100", "an attacker may need many; where the above is lost"),
    set("kernel.warn_limit", "100", "the same for warnings"),
    // Files.
    set("fs.protected_symlinks", "1", "links in scratch are followed by their owner alone"),
    set("fs.protected_hardlinks", "1", "no link to what one cannot write"),
    set("fs.protected_fifos", "2", "no pipe of another's in shared scratch"),
    set("fs.protected_regular", "2", "no file of another's in shared scratch"),
    set("fs.suid_dumpable", "0", "what changed its user leaves no memory behind"),
    // Network: a host that forwards nothing and is told nothing of routes but by DHCP.
    set("net.ipv4.ip_forward", "0", "a node is no router"),
    set("net.ipv6.conf.all.forwarding", "0", "a node is no router"),
    set("net.ipv4.conf.all.accept_redirects", "0", "anybody on the network could send one"),
    set("net.ipv4.conf.default.accept_redirects", "0", "anybody on the network could send one"),
    set("net.ipv6.conf.all.accept_redirects", "0", "anybody on the network could send one"),
    set("net.ipv6.conf.default.accept_redirects", "0", "anybody on the network could send one"),
    set("net.ipv4.conf.all.secure_redirects", "0", "a gateway's name is soon forged"),
    set("net.ipv4.conf.default.secure_redirects", "0", "a gateway's name is soon forged"),
    set("net.ipv4.conf.all.send_redirects", "0", "a node is no router"),
    set("net.ipv4.conf.default.send_redirects", "0", "a node is no router"),
    set("net.ipv4.conf.all.accept_source_route", "0", "the sender does not choose the way"),
    set("net.ipv4.conf.default.accept_source_route", "0", "the sender does not choose the way"),
    set("net.ipv6.conf.all.accept_source_route", "0", "the sender does not choose the way"),
    set("net.ipv6.conf.default.accept_source_route", "0", "the sender does not choose the way"),
    // Loose: two NICs of one machine may lead to one network.
    set("net.ipv4.conf.all.rp_filter", "2", "no packet from where no answer could go"),
    set("net.ipv4.conf.default.rp_filter", "2", "no packet from where no answer could go"),
    set("net.ipv4.conf.all.arp_ignore", "1", "an address is told of on its own link alone"),
    set("net.ipv4.conf.default.arp_ignore", "1", "an address is told of on its own link alone"),
    set("net.ipv4.tcp_syncookies", "1", "a flood of connections fills no table"),
    set("net.ipv4.tcp_fastopen", "0", "no call connects but connect, which Landlock looks at"),
    set("net.ipv4.tcp_rfc1337", "1", "an old connection's packet ends no new one"),
    set("net.ipv4.icmp_echo_ignore_broadcasts", "1", "no part in somebody's flood"),
    set("net.ipv4.icmp_ignore_bogus_error_responses", "1", "the log is no place for them"),
    set("kernel.ctrl-alt-del", "0", "the keys ask PID 1, which ends the service in order"),
];

/// Settings that kernel-hardening-checker would have, and why they are not set.
pub const LEFT: [(&str, &str); 4] = [
    (
        "kernel.kexec_load_disabled",
        "it would forbid kexec_file_load too, by which a release starts the next; the source kernel \
         takes signed kernels alone, and lockdown holds the prebuilt one to the same",
    ),
    (
        "kernel.modules_disabled",
        "hot-plugged hardware needs its driver, and NVIDIA's are unloaded before a kexec; signed \
         modules alone are taken, and PID 1 alone may load them",
    ),
    ("net.ipv6.conf.all.accept_ra", "a network of IPv6 alone tells its routers by nothing else"),
    (
        "net.ipv6.conf.default.accept_ra",
        "a network of IPv6 alone tells its routers by nothing else",
    ),
];

/// Every setting that can be read, `NAME = VALUE` as `sysctl -a` prints it: for what judges them.
pub fn dump(kernel: &dyn Kernel) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for Entry { name, directory } in list(kernel, &folder) {
            let name = format!("{folder}{name}");
            if directory {
                folders.push(format!("{name}/"));
            } else if let Ok(value) = kernel.read(&Path::new(ROOT).join(&name), MOST) {
                let value = String::from_utf8_lossy(&value);
                let name = name.replace('/', ".");
                lines.extend(value.lines().map(|line| format!("{name} = {line}")));
            }
        }
    }
    lines.sort();
    lines
}

fn list(kernel: &dyn Kernel, folder: &str) -> Vec<Entry> {
    kernel.list(&Path::new(ROOT).join(folder)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use std::collections::BTreeSet;

    #[test]
    fn a_dump_has_a_line_for_each_line_of_each_setting() {
        let kernel = Fake::new(&[
            ("/proc/sys/kernel/sysrq", "0\n"),
            ("/proc/sys/net/ipv4/ip_forward", "1\n"),
            ("/proc/sys/dev/cdrom/info", "a\n\nb\n"),
        ]);
        let wanted = [
            "dev.cdrom.info = ",
            "dev.cdrom.info = a",
            "dev.cdrom.info = b",
            "kernel.sysrq = 0",
            "net.ipv4.ip_forward = 1",
        ];
        assert_eq!(dump(&kernel), wanted);
    }

    #[test]
    fn every_setting_stands_once_with_its_reason() {
        let names: BTreeSet<&str> = SYSCTLS.iter().map(|each| each.name).collect();
        assert_eq!(names.len(), SYSCTLS.len());
        assert!(SYSCTLS.iter().all(|each| !each.why.is_empty()));
        assert!(LEFT.iter().all(|(name, why)| !names.contains(name) && !why.is_empty()));
    }

    #[test]
    fn a_name_is_a_path_below_proc_sys() {
        let path = set("net.ipv4.conf.all.rp_filter", "2", "").path();
        assert_eq!(path, "/proc/sys/net/ipv4/conf/all/rp_filter");
    }
}
