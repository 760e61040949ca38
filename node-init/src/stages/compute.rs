//! Stage `compute`: what the compute service is given, and how it is started.

use crate::{
    kernel::{Kernel, Program},
    stages::identity::Identity,
};
use protocol::{
    Digest,
    boot::{ComputeConfig, NodeConfig},
};
use std::{io, path::Path};

/// Where the service's configuration lies.
pub const CONFIG: &str = "/run/alia/compute.json";
/// The service's user and group: it owns nothing else in the image.
pub const USER: u32 = 900;

const PROGRAM: &str = "/usr/bin/compute";

/// The service cannot be given its configuration.
#[derive(Debug, thiserror::Error)]
#[error("{CONFIG} cannot be written: {0}; the machine's memory may be full")]
pub struct ComputeError(#[from] io::Error);

/// The service's program.
pub fn program() -> Program {
    Program {
        path: PROGRAM.into(),
        arguments: ["serve", "--config", CONFIG].map(str::to_owned).to_vec(),
        user: USER,
        group: "compute",
    }
}

/// Writes the service's configuration, for its user alone: the work key is in it, the node's own
/// key is not.
pub fn prepare(
    kernel: &dyn Kernel,
    config: &NodeConfig,
    identity: &Identity,
    release: Digest,
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
    Ok(kernel.write(Path::new(CONFIG), &text, Some(USER))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::Fake,
        stages::{enrolment::tests::config, identity},
    };

    #[test]
    fn the_service_gets_its_work_key_and_not_the_nodes() {
        let kernel = Fake::new(&[]);
        let identity = identity::run(&kernel, Digest([5; 32])).unwrap();
        let settings = config(identity.node.public());
        prepare(&kernel, &settings, &identity, Digest([3; 32])).unwrap();
        let text = kernel.read(Path::new(CONFIG), 1 << 20).unwrap();
        let read: ComputeConfig = serde_json::from_slice(&text).unwrap();
        assert_eq!(read.work_key, identity.work.to_hex());
        assert!(read.certificate.verify(&settings.chain).is_ok());
        assert_eq!(read.certificate.signer, identity.node.public());
        assert_eq!(read.release, Digest([3; 32]));
        assert_eq!(read.parameter_servers, settings.parameter_servers);
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains(&identity.node.to_hex()));
        assert_eq!(kernel.world().owners.get(Path::new(CONFIG)), Some(&USER));
    }

    #[test]
    fn full_memory_is_said_so() {
        let kernel = Fake::new(&[]).failing(CONFIG, 28);
        let identity = identity::run(&kernel, Digest::default()).unwrap();
        let settings = config(identity.node.public());
        let error = prepare(&kernel, &settings, &identity, Digest::default()).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}
