//! How much of the machine a service may take.

use nix::sys::resource::Resource;
use protocol::sandbox::Sandbox;

/// A limit of the process: soft and hard alike, so that it cannot be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// How much.
    pub most: u64,
}

const MIB: u64 = 1 << 20;
/// A machine of which nothing is known is taken to have this little.
const UNKNOWN_MEMORY: u64 = 1024 * MIB;

/// The limits of a service's process.
pub fn process(sandbox: &Sandbox) -> Vec<Limit> {
    let limit = |resource, most| Limit { resource, most };
    vec![
        // Its memory holds the work key.
        limit(Resource::RLIMIT_CORE, 0),
        limit(Resource::RLIMIT_NOFILE, sandbox.files.into()),
        // Of its user: threads count.
        limit(Resource::RLIMIT_NPROC, sandbox.tasks.into()),
        limit(Resource::RLIMIT_FSIZE, u64::from(sandbox.scratch_mib) * MIB),
        limit(Resource::RLIMIT_MEMLOCK, 0),
        limit(Resource::RLIMIT_MSGQUEUE, 0),
        // Neither more urgent than others nor real-time.
        limit(Resource::RLIMIT_NICE, 0),
        limit(Resource::RLIMIT_RTPRIO, 0),
    ]
}

/// The files of a service's control group and their values.
pub fn group(sandbox: &Sandbox, memory: Option<u64>) -> Vec<(&'static str, String)> {
    let memory = memory.unwrap_or(UNKNOWN_MEMORY);
    // At least half, however small the machine: a node without its service is of no use.
    let left = u64::from(sandbox.memory_left_mib) * MIB;
    let most = memory.saturating_sub(left).max(memory / 2);
    vec![
        ("memory.max", most.to_string()),
        // Where there is any it is a disk of ours, encrypted: memory.max still says what it works in.
        ("memory.swap.max", "max".into()),
        // All of it goes at once: half a service would hang.
        ("memory.oom.group", "1".into()),
        ("pids.max", sandbox.tasks.to_string()),
        ("cpu.weight", sandbox.cpu_weight.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::tests::sandbox;

    #[test]
    fn the_node_keeps_its_share_of_memory_and_the_service_at_least_half() {
        let most = |memory| group(&sandbox(), memory)[0].1.parse::<u64>().unwrap() / MIB;
        assert_eq!(most(Some(1024 * MIB)), 928);
        assert_eq!(most(Some(100 * MIB)), 50);
        assert_eq!(most(None), 928);
    }

    #[test]
    fn no_core_is_written() {
        assert_eq!(process(&sandbox())[0], Limit { resource: Resource::RLIMIT_CORE, most: 0 });
    }
}
