//! Who runs on the node, with what might, and who could be spoken to from outside: counted, so that it can be held
//! to what is promised (four processes, and no port but the API's).

use crate::kernel::{self, Kernel};
use std::{fmt, net::IpAddr};

/// The kernel's own threads carry this flag (PF_KTHREAD, linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// TCP's state of a socket that waits for connections.
const LISTENS: &str = "0A";
/// The files that sockets stand in, the protocol's name, and whether only those count that listen:
/// a UDP socket without a peer hears everybody.
const SOCKETS: [(&str, &str); 4] = [
    ("/proc/net/tcp", "tcp"),
    ("/proc/net/tcp6", "tcp6"),
    ("/proc/net/udp", "udp"),
    ("/proc/net/udp6", "udp6"),
];

/// A process with a program of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The program's name, 15 bytes of it.
    pub name: String,
    /// How many capabilities it has or could come to have by a program that it executes; none
    /// where that cannot be read.
    pub capabilities: Option<u32>,
}

/// A socket that hears from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub protocol: &'static str,
    /// The port.
    pub port: u16,
    /// Whether it hears this machine alone.
    pub local: bool,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Without the kernel's own threads.
    pub processes: Vec<Process>,
    /// Every socket that hears others.
    pub listeners: Vec<Listener>,
}

/// Counts.
pub fn take(kernel: &dyn Kernel) -> Census {
    let mut census = Census::default();
    for entry in kernel.list("/proc".as_ref()).unwrap_or_default() {
        let Ok(pid) = entry.name.parse() else { continue };
        // One that ended meanwhile has no file any more.
        let stat = kernel::text(kernel, format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some((name, flags)) = read_stat(&stat)
            && flags & KERNEL_THREAD == 0
        {
            let status = kernel::text(kernel, format!("/proc/{pid}/status")).unwrap_or_default();
            let capabilities = capabilities(&status);
            census.processes.push(Process { pid, name: name.into(), capabilities });
        }
    }
    census.processes.sort_by_key(|process| process.pid);
    for (file, protocol) in SOCKETS {
        let table = kernel::text(kernel, file).unwrap_or_default();
        census.listeners.extend(table.lines().filter_map(|line| listener(protocol, line)));
    }
    census
}

/// `pid (name) state ppid pgrp session tty tpgid flags …`; a name may hold anything.
fn read_stat(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    Some((name, rest.split_whitespace().nth(6)?.parse().ok()?))
}

/// The capabilities that stand in any set of a process's: `CapPrm:\t00000000000000c0` and others.
fn capabilities(status: &str) -> Option<u32> {
    let sets = status.lines().filter_map(|line| line.strip_prefix("Cap")?.split_once(':'));
    let sets = sets.map(|(_, mask)| u64::from_str_radix(mask.trim(), 16).ok());
    let all = sets.reduce(|all, mask| Some(all? | mask?))??;
    Some(all.count_ones())
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: number, local, remote, state; addresses are hexadecimal,
/// in words of the host's order.
fn listener(protocol: &'static str, line: &str) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let hears = match protocol {
        "tcp" | "tcp6" => state == LISTENS,
        _ => remote.ends_with(":0000"),
    };
    let local = is_loopback(address);
    hears.then_some(Listener { protocol, port, local })
}

fn is_loopback(address: &str) -> bool {
    let words = (0..address.len() / 8).map(|at| address.get(8 * at..8 * at + 8));
    let words: Option<Vec<u32>> =
        words.map(|word| u32::from_str_radix(word?, 16).ok().map(u32::from_le)).collect();
    let bytes: Vec<u8> = words.unwrap_or_default().into_iter().flat_map(u32::to_le_bytes).collect();
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).map(IpAddr::from),
    };
    address.is_ok_and(|address| address.is_loopback())
}

/// For people.
impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} processes (", self.processes.len())?;
        for (at, Process { pid, name, capabilities }) in self.processes.iter().enumerate() {
            write!(f, "{}{pid} {name} with ", if at == 0 { "" } else { ", " })?;
            match capabilities {
                Some(0) => f.write_str("no capability")?,
                Some(count) => write!(f, "{count} capabilities")?,
                None => f.write_str("unknown capabilities")?,
            }
        }
        f.write_str("); listening: ")?;
        let mut said = false;
        for Listener { protocol, port, local } in &self.listeners {
            let whose = if *local { " for itself" } else { "" };
            write!(f, "{}{protocol} {port}{whose}", if said { ", " } else { "" })?;
            said = true;
        }
        if said { Ok(()) } else { f.write_str("nothing") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn processes_are_counted_and_the_kernels_threads_are_not() {
        let kernel = Fake::new(&[
            ("/proc/1/stat", "1 (init) S 0 1 1 0 -1 4194560 100 0 0"),
            ("/proc/2/stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0"),
            ("/proc/57/stat", "57 (a) (b) R 1 57 57 0 -1 4194304 100 0 0"),
            ("/proc/1/status", "Name:\tinit\nCapInh:\t00\nCapPrm:\t0c\nCapEff:\t0c\nCapBnd:\t10\n"),
            ("/proc/57/status", "Name:\ta\nCapPrm:\t0000\nCapBnd:\t0000\nCpus_allowed:\t3\n"),
            ("/proc/cmdline", ""),
            (
                "/proc/net/tcp",
                "  sl  local_address rem_address   st\n   0: 00000000:1D13 00000000:0000 0A 00\n \
                   1: 0F02000A:9C40 0102000A:1F90 01 00\n   2: 0100007F:0050 00000000:0000 0A 00",
            ),
            (
                "/proc/net/udp",
                "sl\n 9: 00000000:0044 00000000:0000 07\n 8: 0F02000A:0044 0102000A:0043 01",
            ),
        ]);
        let census = take(&kernel);
        assert_eq!(
            census.to_string(),
            "2 processes (1 init with 3 capabilities, 57 a) (b with no capability); \
             listening: tcp 7443, tcp 80 for itself, udp 68"
        );
    }

    #[test]
    fn capabilities_that_cannot_be_read_are_not_none() {
        assert_eq!(capabilities(""), None);
        assert_eq!(capabilities("CapPrm:\t00\nCapEff:\tx"), None);
        assert_eq!(capabilities("CapPrm:\t0000000000000000\nCapBnd:\t1ff"), Some(9));
    }

    #[test]
    fn nobody_listens_where_nothing_is_said() {
        assert_eq!(take(&Fake::new(&[])).to_string(), "0 processes (); listening: nothing");
        assert!(listener("tcp", "0: 0:zz 0:0 0A").is_none());
        assert!(is_loopback("00000000000000000000000001000000") && is_loopback("0100007F"));
        assert!(!is_loopback("é00007F") && !is_loopback(""));
    }
}
