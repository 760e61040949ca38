//! Who runs on the node, and with what might: counted, so that it can be held to what is promised (four
//! processes).

use crate::kernel::{self, Kernel};
use std::fmt;

/// The kernel's own threads carry this flag (PF_KTHREAD, linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;
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

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Without the kernel's own threads.
    pub processes: Vec<Process>,
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
        f.write_str(")")
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
        ]);
        let census = take(&kernel);
        assert_eq!(
            census.to_string(),
            "2 processes (1 init with 3 capabilities, 57 a) (b with no capability)"
        );
    }

    #[test]
    fn capabilities_that_cannot_be_read_are_not_none() {
        assert_eq!(capabilities(""), None);
        assert_eq!(capabilities("CapPrm:\t00\nCapEff:\tx"), None);
        assert_eq!(capabilities("CapPrm:\t0000000000000000\nCapBnd:\t1ff"), Some(9));
    }
}
