//! The seccomp filter: which system calls a service may make, and some in certain ways alone.
//!
//! The list is the image's, measured by `cargo xtask test --long syscalls`. Everything else gets
//! ENOSYS, as on a kernel that does not have the call, and not a signal: nothing is gained by
//! killing a process whose call was not made, and libraries that try a newer call first fall back
//! from ENOSYS alone, so that an update of libc stops no node. So clone3, whose flags lie in memory
//! where no filter sees them, becomes clone, whose flags are seen.

use seccompiler::{BpfProgram, Error, TargetArch, compile_from_json};
use serde_json::{Value, json};

/// What a call's argument must be: argument, mask, and the value under that mask.
type Condition = (u8, u64, u64);

const ANY: u64 = u64::MAX;
const EXECUTE: u64 = libc::PROT_EXEC as u64;
const WRITE: u64 = libc::PROT_WRITE as u64;
const ANONYMOUS: u64 = libc::MAP_ANONYMOUS as u64;
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
/// Every kind of name space (linux/sched.h).
const NAMESPACES: u64 = 0x7e02_0000;
const FAST_OPEN: u64 = libc::MSG_FASTOPEN as u64;
/// The bits of socket(2)'s type that say which; the others say how.
const SOCKET_KIND: u64 = 0xf;
/// TCP, and not what else the kernel may have for a stream: Landlock knows none of it (MPTCP).
const TCP: [Condition; 2] = [(1, SOCKET_KIND, libc::SOCK_STREAM as u64), (2, !6, 0)];
const OF_IPV4: Condition = (0, ANY, libc::AF_INET as u64);
const OF_IPV6: Condition = (0, ANY, libc::AF_INET6 as u64);

/// Calls that may be made in certain ways alone: in any one of those that stand here.
const WAYS: &[(&str, &[&[Condition]])] = &[
    // A thread of the same program, never a process: there is nothing to fork.
    ("clone", &[&[(0, THREAD | NAMESPACES, THREAD)]]),
    // Memory is written or executed, never both, and code comes from files; those that can be
    // written lie where nothing may be executed.
    ("mmap", &[&[(2, EXECUTE, 0)], &[(2, WRITE | EXECUTE, EXECUTE), (3, ANONYMOUS, 0)]]),
    ("mprotect", &[&[(2, EXECUTE, 0)]]),
    // TCP alone, protocol 0 or 6 (and 2 and 4, which are no streams). Landlock and the firewall say
    // where to.
    ("socket", &[&[OF_IPV4, TCP[0], TCP[1]], &[OF_IPV6, TCP[0], TCP[1]]]),
    // To whom connect(2) said, and Landlock saw; no call connects on its way (TCP Fast Open).
    ("sendto", &[&[(3, FAST_OPEN, 0), (4, ANY, 0)]]),
    // The runtime's own wake-ups.
    (
        "socketpair",
        &[&[(0, ANY, libc::AF_UNIX as u64), (1, SOCKET_KIND, libc::SOCK_STREAM as u64)]],
    ),
    // A thread's name.
    ("prctl", &[&[(0, ANY, libc::PR_SET_NAME as u64)]]),
    // Limits are read, not set.
    ("prlimit64", &[&[(2, ANY, 0)]]),
];

/// A filter of these calls.
pub fn compile<'a>(calls: impl IntoIterator<Item = &'a String>) -> Result<BpfProgram, Error> {
    let text = description(calls).to_string();
    let mut compiled = compile_from_json(text.as_bytes(), TargetArch::x86_64)?;
    compiled.remove("service").filter(|program| !program.is_empty()).ok_or(Error::EmptyFilter)
}

/// The filter as seccompiler reads it.
fn description<'a>(calls: impl IntoIterator<Item = &'a String>) -> Value {
    let mut rules = Vec::new();
    for call in calls {
        match WAYS.iter().find(|(name, _)| name == call) {
            None => rules.push(json!({ "syscall": call })),
            Some((_, ways)) => rules.extend(ways.iter().map(|way| {
                let args: Vec<Value> = way.iter().map(condition).collect();
                json!({ "syscall": call, "args": args })
            })),
        }
    }
    json!({ "service": {
        "mismatch_action": { "errno": libc::ENOSYS },
        "match_action": "allow",
        "filter": rules,
    }})
}

fn condition((index, mask, value): &Condition) -> Value {
    let op = if *mask == ANY { json!("eq") } else { json!({ "masked_eq": mask }) };
    // The kernel looks at the lower half of an int, whatever stands in the upper; of a pointer, which
    // is to be null wherever one is asked about, at all of it.
    let width = if (*mask, *value) == (ANY, 0) { "qword" } else { "dword" };
    json!({ "index": index, "type": width, "op": op, "val": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_of_names() {
        let calls = ["read", "write", "clone", "mmap", "socket"].map(str::to_owned);
        let program = compile(&calls).unwrap();
        assert!(program.len() > calls.len(), "{program:?}");
        assert!(compile(&["no_such_call".to_owned()]).is_err());
    }

    #[test]
    fn every_conditional_call_is_one_that_exists() {
        let names: Vec<String> = WAYS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert!(compile(&names).is_ok());
    }

    #[test]
    fn code_is_never_mapped_from_memory_that_can_be_written() {
        let text = description(&["mmap".to_owned()]).to_string();
        let rules: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(rules["service"]["filter"].as_array().unwrap().len(), 2);
        assert_eq!(rules["service"]["filter"][0]["args"][0]["op"]["masked_eq"], EXECUTE);
    }
}
