//! What booting machines report, and what they say when they ask to be taken in.
#![no_main]

use fuzz::target;
use fuzz::{chain::WORLD, parts};
use protocol::{
    Signed,
    boot::{BootEvent, Enrol, NodeConfig},
};
use provisioner::{
    config, enrol,
    machine::Mac,
    progress::{MAX_STAGES, Mark, Progress},
    store::Known,
};
use std::collections::BTreeMap;

target!(|bytes: &[u8]| {
    let [events, newcomer] = parts(bytes);
    if let Ok(events) = serde_json::from_slice::<Vec<BootEvent>>(events) {
        reported(events);
    }
    // As JSON alone: nobody can guess the signature, which is made here.
    let _ = serde_json::from_slice::<Signed<Enrol>>(newcomer);
    let _ = serde_json::from_slice::<Signed<NodeConfig>>(newcomer);
    if let Ok(enrol) = serde_json::from_slice::<Enrol>(newcomer) {
        taken_in(enrol);
    }
});

fn reported(events: Vec<BootEvent>) {
    let mut progress = None;
    for (now, event) in (0..).step_by(60_000).zip(events) {
        let after = Progress::apply(progress, &Mark::Node(event), now);
        let status = after.status(now);
        assert!(status.stages.len() <= MAX_STAGES && status.seconds.is_finite());
        let kept = serde_json::to_string(&after).expect("plain JSON");
        assert!(kept.len() < MAX_STAGES * 4_000, "{} bytes are kept", kept.len());
        assert_eq!(serde_json::from_str::<Progress>(&kept).expect("its own JSON"), after);
        progress = Some(after);
    }
}

fn taken_in(enrol: Enrol) {
    let posted: Mac = enrol.mac.parse().unwrap_or(Mac([2, 0, 0, 0, 0, 9]));
    let signed = Signed::sign(&WORLD.chain, enrol, &WORLD.worker);
    let checked = enrol::check(&WORLD.chain, &WORLD.delegate, 1_000, posted, signed, None);
    let Ok(newcomer) = checked else { return };
    let other = Known {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        name: "bear".into(),
        uuid: newcomer.uuid.clone(),
        node: Some(WORLD.server.public()),
        boot_id: None,
        node_seen: 1_000,
        chip: None,
        resets: 0,
        approved: None,
        state: protocol::fleet::MachineState::Ready,
        hardware: Some(newcomer.hardware()),
        approved_hardware: None,
        replayed: false,
    };
    let same = Known { mac: newcomer.mac, node: Some(newcomer.node), ..other.clone() };
    for now in [0, 2_000, u64::MAX] {
        for approval in [config::Approval::Automatic, config::Approval::ByHand] {
            let (rules, taken) = (BTreeMap::new(), BTreeMap::new());
            let entry = enrol::Entry { approval, rules: &rules, taken: &taken };
            let _ = enrol::admit(&newcomer, &[other.clone(), same.clone()], entry, now);
        }
    }
}
