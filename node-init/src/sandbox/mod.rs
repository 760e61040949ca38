//! The sandbox of a service: from what the image declares to what the kernel is told, as values.
//!
//! `image.toml` declares ([`protocol::sandbox::Sandbox`]); [`cage`] makes of it, for this machine and
//! these servers, a [`Cage`]: a root of its own ([`root`]), limits ([`limits`]), the system calls
//! ([`filter`]), and the files and ports that Landlock lets through. All of it is made before the
//! service's process is: between fork and exec there is nothing left to decide.
//! [`crate::kernel::Linux`] carries it out; `docs/hardening.md` says what holds what.

pub mod filter;
pub mod limits;
pub mod root;

use crate::kernel::{self, Kernel};
use limits::Limit;
use protocol::sandbox::{SANDBOXES, Sandbox, Sandboxes};
use root::Place;
use seccompiler::BpfProgram;
use std::path::PathBuf;

/// Where roots of services are put together.
const ROOTS: &str = "/run/alia/roots";
/// The most servers that a service is let through to: a provisioner's settings name a few.
pub const MAX_SERVERS: usize = 256;

/// What a service is locked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cage {
    /// User and group.
    pub user: u32,
    /// Where its root is put together, in PID 1's own name space.
    pub root: PathBuf,
    /// What is in it.
    pub places: Vec<Place>,
    /// Files that it may execute.
    pub execute: Vec<String>,
    /// Limits of the process.
    pub limits: Vec<Limit>,
    /// Limits of its control group: file and value.
    pub group: Vec<(&'static str, String)>,
    /// The compiled seccomp filter.
    pub filter: BpfProgram,
    /// TCP ports that it may connect to.
    pub ports: Vec<u16>,
}

/// A service cannot be locked in, and so is not started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The image does not say how.
    #[error(
        "the image does not say what {0} may do ({SANDBOXES}); rebuild it: [sandboxes.{0}] of image.toml"
    )]
    Undeclared(&'static str),
    /// The image says nonsense.
    #[error("{SANDBOXES} cannot be read: {0}; rebuild the image with this node-init")]
    Unreadable(#[from] serde_json::Error),
    /// It would be as good as none.
    #[error("the sandbox of {0} has user 0; give it one of its own in image.toml")]
    Root(&'static str),
    /// No filter can be made of the system calls.
    #[error("the system calls of {0} make no filter: {1}; mend image.toml")]
    Filter(&'static str, seccompiler::Error),
}

/// What the image declares for a service.
pub fn declared(kernel: &dyn Kernel, service: &'static str) -> Result<Sandbox, SandboxError> {
    let text = kernel::text(kernel, SANDBOXES).ok_or(SandboxError::Undeclared(service))?;
    let mut all: Sandboxes = serde_json::from_str(&text)?;
    let sandbox = all.remove(service).ok_or(SandboxError::Undeclared(service))?;
    if sandbox.user == 0 {
        return Err(SandboxError::Root(service));
    }
    Ok(sandbox)
}

/// Makes a service's cage. `settings` is a file that it reads besides; `memory` is the machine's,
/// in bytes, where it is known.
pub fn cage(
    service: &'static str,
    sandbox: &Sandbox,
    settings: &str,
    memory: Option<u64>,
    ports: &[u16],
) -> Result<Cage, SandboxError> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports.truncate(MAX_SERVERS);
    Ok(Cage {
        user: sandbox.user,
        root: PathBuf::from(ROOTS).join(service),
        places: root::places(sandbox, settings),
        execute: sandbox.execute.clone(),
        limits: limits::process(sandbox),
        group: limits::group(sandbox, memory),
        filter: filter::compile(sandbox.system_calls.iter().chain(sandbox.rare_calls.keys()))
            .map_err(|error| SandboxError::Filter(service, error))?,
        ports,
    })
}

/// The machine's memory in bytes, as /proc/meminfo says.
pub fn memory(kernel: &dyn Kernel) -> Option<u64> {
    let text = kernel::text(kernel, "/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    /// What the image declares, as its builder writes it.
    pub(crate) fn sandbox() -> Sandbox {
        Sandbox {
            user: 900,
            read: vec!["/usr/bin/compute".into(), "/usr/lib/x86_64-linux-gnu".into()],
            execute: vec!["/usr/bin/compute".into()],
            devices: vec!["/dev/null".into()],
            cards: Vec::new(),
            scratch_mib: 64,
            memory_left_mib: 96,
            tasks: 1024,
            files: 256,
            cpu_weight: 20,
            system_calls: vec!["read".into(), "clone".into(), "mmap".into()],
            rare_calls: [("mremap".into(), "a buffer grows".into())].into(),
        }
    }

    pub(crate) fn declaration() -> String {
        serde_json::to_string(&Sandboxes::from([("compute".into(), sandbox())])).unwrap()
    }

    #[test]
    fn a_service_that_the_image_says_nothing_of_is_not_started() {
        let error = declared(&Fake::new(&[]), "compute").unwrap_err().to_string();
        assert!(error.contains("[sandboxes.compute] of image.toml"), "{error}");
        let kernel = Fake::new(&[(SANDBOXES, &declaration())]);
        assert!(declared(&kernel, "storage").is_err());
        assert_eq!(declared(&kernel, "compute").unwrap(), sandbox());
    }

    #[test]
    fn a_sandbox_of_root_is_none() {
        let sandboxes = Sandboxes::from([("compute".into(), Sandbox { user: 0, ..sandbox() })]);
        let kernel = Fake::new(&[(SANDBOXES, &serde_json::to_string(&sandboxes).unwrap())]);
        assert!(matches!(declared(&kernel, "compute"), Err(SandboxError::Root(_))));
    }

    #[test]
    fn an_unknown_system_call_is_refused_by_name() {
        let wrong = Sandbox { system_calls: vec!["conpute".into()], ..sandbox() };
        let error = cage("compute", &wrong, "/s", None, &[]).unwrap_err().to_string();
        assert!(error.contains("conpute"), "{error}");
    }

    #[test]
    fn ports_stand_once() {
        let cage = cage("compute", &sandbox(), "/s", None, &[80, 7000, 80]).unwrap();
        assert_eq!(cage.ports, [80, 7000]);
    }

    #[test]
    fn the_machines_memory_is_read_in_bytes() {
        let kernel = Fake::new(&[("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 7 kB\n")]);
        assert_eq!(memory(&kernel), Some(1_024_000));
        assert_eq!(memory(&Fake::new(&[])), None);
    }
}
