//! What a medium holds, and what a node says by it: nobody's word makes a node somebody else's.
#![no_main]

use fuzz::chain::{WORLD, signer};
use fuzz::target;
use protocol::{
    Signed,
    medium::{Claim, Granted, RECORD_LEN, Record, check_claim, fill},
};

target!(|bytes: &[u8]| {
    let record = Record::from_bytes(bytes);
    if let Ok(Some(record)) = &record {
        // What is read is what was written, and lies whole in any place for it.
        assert_eq!(record.to_bytes().expect("it was one"), bytes);
        let mut medium = [bytes, &protocol::medium::blank()].concat();
        assert_eq!(fill(&mut medium, record), Ok(1));
        assert_eq!(medium[RECORD_LEN..], *bytes);
    }
    let provisioner = WORLD.delegate.public();
    if let Ok(claim) = serde_json::from_slice::<Signed<Claim>>(bytes) {
        let _ = check_claim(&claim, &WORLD.chain, &provisioner);
    }
    if let Ok(granted) = serde_json::from_slice::<Granted>(bytes) {
        let _ = granted.verify(&WORLD.chain, &provisioner);
    }
    // Signed anew by a node that has a key of its own.
    let Some((&whose, body)) = bytes.split_first() else { return };
    let Ok(claim) = serde_json::from_slice::<Claim>(body) else { return };
    let key = signer(whose);
    let claim = Signed::sign(&WORLD.chain, claim, &key);
    if let Ok(claimed) = check_claim(&claim, &WORLD.chain, &provisioner) {
        assert_eq!(claimed.node, key.public());
        let owner = claimed.ownership.verify(&WORLD.chain, &claimed.node);
        assert_eq!(owner, Ok(claim.body.granted.grant.signer));
    }
});
