//! The processes of the machine and what they listen at, from /proc.

use crate::{
    kernel::{Kernel, text},
    sockets,
};
use protocol::node_api::{NodeProcess, NodeProcesses};
use std::path::Path;

/// The most processes that are looked at.
const MAX_PROCESSES: usize = 4_096;
/// `PF_KTHREAD` of linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Ticks a second of /proc's times: `USER_HZ`, 100 on every machine that we run on.
const TICK_MS: u64 = 10;
/// A page of x86-64 memory.
const PAGE: u64 = 4_096;
/// The longest control group's name that is shown.
const MAX_GROUP: usize = 200;

/// Lists them. One that ends meanwhile is left out.
pub fn list(kernel: &dyn Kernel) -> NodeProcesses {
    let mut found = NodeProcesses { listening: sockets::listening(kernel), ..Default::default() };
    let entries = kernel.list(Path::new("/proc")).unwrap_or_default();
    let mut numbers: Vec<i32> =
        entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    numbers.sort_unstable();
    for pid in numbers.into_iter().take(MAX_PROCESSES) {
        let folder = Path::new("/proc").join(pid.to_string());
        let Some(stat) = text(kernel, folder.join("stat")).and_then(|stat| read(&stat)) else {
            continue;
        };
        if stat.flags & KERNEL_THREAD != 0 {
            found.kernel_threads += 1;
            continue;
        }
        found.processes.push(NodeProcess {
            pid,
            parent: stat.parent,
            name: stat.name,
            user: user(&text(kernel, folder.join("status")).unwrap_or_default()),
            threads: stat.threads,
            resident: stat.pages.saturating_mul(PAGE),
            cpu_ms: stat.ticks.saturating_mul(TICK_MS),
            group: group(&text(kernel, folder.join("cgroup")).unwrap_or_default()),
        });
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: i32,
    flags: u64,
    ticks: u64,
    threads: u32,
    pages: u64,
}

/// /proc/PID/stat (proc_pid_stat(5)). The name stands in brackets and may hold any byte, brackets
/// among them: what follows the last one is numbers.
fn read(stat: &str) -> Option<Stat> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The state is field 3, and the first here.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    Some(Stat {
        name: name.chars().map(printable).take(64).collect(),
        parent: field(4)?.parse().ok()?,
        flags: number(9)?,
        ticks: number(14)?.saturating_add(number(15)?),
        threads: u32::try_from(number(20)?).unwrap_or(u32::MAX),
        pages: number(24)?,
    })
}

/// The effective user of /proc/PID/status: the second number.
fn user(status: &str) -> u32 {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(u32::MAX)
}

/// The control group of version 2 in /proc/PID/cgroup: `0::/compute`.
fn group(text: &str) -> String {
    let group = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    group.chars().map(printable).take(MAX_GROUP).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    pub(crate) const STAT: &str = "71 (com) pute) S 1 71 71 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 \
        3 0 120 900000 2048 18446744073709551615 0 0";

    #[test]
    fn processes_are_listed_and_kernel_threads_counted() {
        let kernel = Fake::new(&[
            ("/proc/71/stat", STAT),
            ("/proc/71/status", "Name:\tcompute\nUid:\t900\t901\t900\t900\n"),
            ("/proc/71/cgroup", "0::/compute\n"),
            ("/proc/2/stat", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 0"),
            ("/proc/9/stat", "ended"),
            ("/proc/version", "Linux"),
        ]);
        let found = list(&kernel);
        assert_eq!(found.kernel_threads, 1);
        let wanted = NodeProcess {
            pid: 71,
            parent: 1,
            name: "com) pute".into(),
            user: 901,
            threads: 3,
            resident: 2_048 * 4_096,
            cpu_ms: 3_000,
            group: "/compute".into(),
        };
        assert_eq!(found.processes, [wanted]);
    }

    proptest! {
        #[test]
        fn no_text_of_the_kernel_panics(foreign in "([0-9]{0,22}|[() :]|Uid:|0::|\\PC|\n){0,60}") {
            read(&foreign);
            user(&foreign);
            prop_assert!(group(&foreign).chars().count() <= MAX_GROUP);
        }
    }
}
