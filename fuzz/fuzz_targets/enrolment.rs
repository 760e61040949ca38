//! Whatever answers on the network in the provisioner's place: only its own signed word counts.
#![no_main]

use fuzz::chain::{BOOT, WORLD, signer};
use fuzz::target;
use node_init::stages::{command_line::Arguments, enrolment};
use protocol::{Digest, Signed, boot::NodeConfig, evidence::Challenge, release::TimeAnswer};

target!(|bytes: &[u8]| {
    // What it answers before it is believed.
    let _ = serde_json::from_slice::<Signed<TimeAnswer>>(bytes);
    let _ = serde_json::from_slice::<Challenge>(bytes);
    let arguments = Arguments {
        provisioner: "http://10.1.2.1:8080".parse().expect("an address"),
        key: WORLD.delegate.public(),
        chain: WORLD.chain.clone(),
        release: Digest([3; 32]),
        boot_nic: None,
        network: None,
    };
    let node = WORLD.worker.public();
    let check = |answer: &[u8]| enrolment::check(answer, &arguments, &node, BOOT);
    if let Ok(config) = check(bytes) {
        // The one answer that is signed is a seed's.
        assert_eq!(config, fuzz::chain::node_config());
    }
    // As somebody may sign it who has a key of his own; or the provisioner's, by mistake.
    let Some((&whose, body)) = bytes.split_first() else { return };
    let Ok(config) = serde_json::from_slice::<NodeConfig>(body) else { return };
    let key = signer(whose);
    let signed = Signed::sign(&WORLD.chain, config, &key);
    let answer = serde_json::to_vec(&signed).expect("plain JSON");
    if let Ok(config) = check(&answer) {
        assert_eq!((key.public(), config.node), (arguments.key, node));
        assert_eq!(config.boot_id, BOOT);
        assert!(config.ownership.verify(&WORLD.chain, &node).is_ok());
        enrolment::detail(&config);
    }
});
