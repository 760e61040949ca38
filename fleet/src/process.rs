//! What a process on this host takes, by /proc (proc(5)).

use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;
use std::fs;

/// A process's CPU time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU seconds so far, of all its threads, user and system.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Its share of memory, pages that others have too divided among them, in bytes.
    pub pss: u64,
}

/// What it takes now; none where there is no such process, or it is not ours to look at.
pub fn usage(id: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Some(Usage {
        cpu_seconds: cpu_ticks(&stat)? as f64 / ticks as f64,
        rss: kilobytes(&rollup, "Rss:")?,
        pss: kilobytes(&rollup, "Pss:")?,
    })
}

/// As [`usage`], of a process and its children together: nginx works in children.
pub fn usage_of_all(id: u32) -> Option<Usage> {
    let mut all = usage(id)?;
    // A kernel without such a list: what the children take is not seen.
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        let Some(child) = usage_of_all(child) else { continue };
        all.cpu_seconds += child.cpu_seconds;
        all.rss += child.rss;
        all.pss += child.pss;
    }
    Some(all)
}

/// Fields 14 and 15 of /proc/PID/stat, after the name, which may have anything in it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn kilobytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_no_harm() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss > 100_000 && usage.pss > 0 && usage.pss <= usage.rss);
        assert!(usage_of_all(std::process::id()).unwrap().rss >= usage.pss);
    }
}
