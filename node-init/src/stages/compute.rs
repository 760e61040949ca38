//! Stage `compute`: what the compute service is given, and how it is started.

use crate::{
    firewall::{self, Firewall},
    kernel::{self, Kernel, Program},
    sandbox::{self, MAX_SERVERS, SandboxError},
    stages::{self, identity::Identity},
};
use protocol::{
    Digest,
    boot::{ComputeConfig, NODE_API_PORT, NodeConfig},
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where the service's configuration lies.
pub const CONFIG: &str = "/run/alia/compute.json";
/// The service's name, and its control group's.
pub const SERVICE: &str = "compute";

/// Why the service waits where the kernel is not as hard as it is to be.
pub(crate) const UNHARDENED: &str = "the service is not started: the kernel is not locked down, or refused a \
     setting (the stage \"hardening\" says which); boot the image's own kernel";

/// The controllers of control groups that the kernel has.
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";
/// Its program.
pub(crate) const PROGRAM: &str = "/usr/bin/compute";

/// The service cannot be given its configuration.
#[derive(Debug, thiserror::Error)]
#[error("{CONFIG} cannot be written: {0}; the machine's memory may be full")]
pub struct ComputeError(#[from] io::Error);

/// The service's way to its servers is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum LetThroughError {
    /// The packet filter is as before.
    #[error("the service's servers are not in the packet filter: {0}")]
    Refused(io::Error),
    /// The provisioner's settings are of no use.
    #[error("the service asks no name server; give these by address: {0}")]
    Unnumbered(String),
}

/// Nothing would hold the service.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service is not started: this kernel's control groups lack {0}, so nothing would limit it; build the image with a kernel that has them"
)]
pub struct UnlimitedError(String);

/// Whether the kernel can limit the service.
pub fn limits(kernel: &dyn Kernel) -> Result<(), UnlimitedError> {
    let there = kernel::text(kernel, CONTROLLERS).unwrap_or_default();
    let lacks = |name: &&str| !there.split_whitespace().any(|each| each == *name);
    let lacking: Vec<&str> = ["memory", "pids", "cpu"].into_iter().filter(lacks).collect();
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(UnlimitedError(lacking.join(", "))),
    }
}

/// Whose the device files of cards are.
pub fn user(kernel: &dyn Kernel) -> Result<u32, SandboxError> {
    Ok(sandbox::declared(kernel, SERVICE)?.user)
}

/// The service's program, in the cage that the image declares for it. `cards` are the device files
/// that this machine has.
pub fn program(
    kernel: &dyn Kernel,
    config: &NodeConfig,
    cards: &[String],
) -> Result<Program, SandboxError> {
    let mut sandbox = sandbox::declared(kernel, SERVICE)?;
    sandbox.cards.retain(|card| cards.contains(card));
    let (servers, _) = servers(config);
    let ports: Vec<u16> = servers.iter().map(SocketAddr::port).collect();
    let cage = sandbox::cage(SERVICE, &sandbox, CONFIG, sandbox::memory(kernel), &ports)?;
    Ok(Program {
        path: PROGRAM.into(),
        arguments: ["serve", "--config", CONFIG].map(str::to_owned).to_vec(),
        cage,
        group: SERVICE,
    })
}

/// Lets the service's packets through to its servers, and to nobody else.
pub fn let_through(
    kernel: &dyn Kernel,
    config: &NodeConfig,
    user: u32,
) -> Result<(), LetThroughError> {
    let (servers, others) = servers(config);
    let service = Some(firewall::Service { user, servers });
    kernel.firewall(&Firewall { api: NODE_API_PORT, service }).map_err(LetThroughError::Refused)?;
    match others.is_empty() {
        true => Ok(()),
        false => Err(LetThroughError::Unnumbered(others.join(", "))),
    }
}

fn servers(config: &NodeConfig) -> (Vec<SocketAddr>, Vec<&str>) {
    let (mut servers, others) =
        stages::firewall::servers(config.parameter_servers.iter().chain(&config.ledgers));
    servers.truncate(MAX_SERVERS);
    (servers, others)
}

/// How often the kernel killed in the service's group for want of memory.
pub fn memory_kills(kernel: &dyn Kernel) -> u64 {
    let events = kernel::text(kernel, group_file("memory.events")).unwrap_or_default();
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    events.lines().find_map(count).unwrap_or(0)
}

/// The most memory that the service may use, in bytes: its group's limit, or all that there is.
pub fn memory_limit(kernel: &dyn Kernel) -> Option<u64> {
    let limit = kernel::text(kernel, group_file("memory.max"))?.parse().ok();
    limit.or_else(|| {
        let all = kernel::text(kernel, "/proc/meminfo")?;
        let line = all.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    })
}

fn group_file(name: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(SERVICE).join(name)
}

/// Writes the service's configuration, for its user alone: the work key is in it, the node's own
/// key is not.
pub fn prepare(
    kernel: &dyn Kernel,
    config: &NodeConfig,
    identity: &Identity,
    release: Digest,
    user: u32,
) -> Result<(), ComputeError> {
    let config = ComputeConfig {
        chain: config.chain.clone(),
        name: config.name.clone(),
        work_key: identity.work.to_hex(),
        certificate: identity.certificate(&config.chain),
        ledgers: config.ledgers.clone(),
        parameter_servers: config.parameter_servers.clone(),
        release,
    };
    let text = serde_json::to_vec_pretty(&config).map_err(io::Error::from)?;
    Ok(kernel.write(Path::new(CONFIG), &text, Some(user))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        sandbox::{root::Place, tests::declaration},
        stages::{enrolment::tests::config, identity},
    };
    use protocol::sandbox::{SANDBOXES, Sandbox, Sandboxes};

    #[test]
    fn the_service_gets_its_work_key_and_not_the_nodes() {
        let kernel = Fake::new(&[]);
        let identity = identity::run(&kernel, Digest([5; 32]), true).unwrap();
        let settings = config(identity.node.public());
        prepare(&kernel, &settings, &identity, Digest([3; 32]), 900).unwrap();
        let text = kernel.read(Path::new(CONFIG), 1 << 20).unwrap();
        let read: ComputeConfig = serde_json::from_slice(&text).unwrap();
        assert_eq!(read.work_key, identity.work.to_hex());
        assert!(read.certificate.verify(&settings.chain).is_ok());
        assert_eq!(read.certificate.signer, identity.node.public());
        assert_eq!(read.release, Digest([3; 32]));
        assert_eq!(read.parameter_servers, settings.parameter_servers);
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(&identity.node.to_hex()));
        assert_eq!(kernel.world().owners.get(Path::new(CONFIG)), Some(&900));
    }

    #[test]
    fn the_service_is_let_through_to_its_servers_alone() {
        let kernel = Fake::new(&[(SANDBOXES, &declaration())]);
        let identity = identity::run(&kernel, Digest([5; 32]), true).unwrap();
        let mut settings = config(identity.node.public());
        settings.ledgers = vec!["http://10.0.0.1:26657".into()];
        settings.parameter_servers = vec!["http://10.0.0.2:8070".into(), "http://name:1".into()];
        let program = program(&kernel, &settings, &[]).unwrap();
        assert_eq!((program.cage.user, program.cage.ports), (900, vec![8070, 26657]));
        let error = let_through(&kernel, &settings, 900).unwrap_err().to_string();
        assert!(error.ends_with("by address: http://name:1"), "{error}");
        let servers = ["10.0.0.2:8070", "10.0.0.1:26657"].map(|text| text.parse().unwrap());
        let service = Some(firewall::Service { user: 900, servers: servers.into() });
        assert_eq!(kernel.world().firewalls, [Firewall { api: NODE_API_PORT, service }]);
    }

    #[test]
    fn a_kernel_that_limits_nothing_gets_no_service() {
        let error = limits(&Fake::new(&[(CONTROLLERS, "cpu io\n")])).unwrap_err().to_string();
        assert!(error.contains("lack memory, pids,"), "{error}");
        assert!(limits(&Fake::new(&[(CONTROLLERS, "cpuset cpu io memory pids\n")])).is_ok());
    }

    #[test]
    fn the_kernels_words_on_memory_are_read() {
        let kernel = Fake::new(&[]);
        assert_eq!((memory_kills(&kernel), memory_limit(&kernel)), (0, None));
        let kernel = Fake::new(&[
            (
                "/sys/fs/cgroup/compute/memory.events",
                "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n",
            ),
            ("/sys/fs/cgroup/compute/memory.max", "536870912\n"),
        ]);
        assert_eq!((memory_kills(&kernel), memory_limit(&kernel)), (2, Some(512 << 20)));
        let kernel = Fake::new(&[
            ("/sys/fs/cgroup/compute/memory.max", "max\n"),
            ("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\n"),
        ]);
        assert_eq!(memory_limit(&kernel), Some(1_024_000));
    }

    #[test]
    fn of_the_cards_that_the_image_names_the_service_sees_those_that_are_there() {
        let cards = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"].map(str::to_owned);
        let sandbox = Sandbox { cards: cards.to_vec(), ..sandbox::tests::sandbox() };
        let sandboxes = Sandboxes::from([(SERVICE.to_owned(), sandbox)]);
        let kernel = Fake::new(&[(SANDBOXES, &serde_json::to_string(&sandboxes).unwrap())]);
        let identity = identity::run(&kernel, Digest([5; 32]), true).unwrap();
        let settings = config(identity.node.public());
        let seen = |there: &[String]| -> Vec<Place> {
            let places = program(&kernel, &settings, there).unwrap().cage.places;
            places.into_iter().filter(|place| matches!(place, Place::Card(_))).collect()
        };
        assert_eq!(
            seen(&cards[..2]),
            cards[..2].iter().cloned().map(Place::Card).collect::<Vec<_>>()
        );
        assert_eq!(seen(&[]), []);
        // What is there and not declared stays out.
        assert_eq!(seen(&["/dev/nvidia-uvm-tools".to_owned()]), []);
    }

    #[test]
    fn full_memory_is_said_so() {
        let kernel = Fake::new(&[]).failing(CONFIG, 28);
        let identity = identity::run(&kernel, Digest::default(), true).unwrap();
        let settings = config(identity.node.public());
        let error = prepare(&kernel, &settings, &identity, Digest::default(), 900).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}
