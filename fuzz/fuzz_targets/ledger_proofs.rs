//! Proofs that a ledger's server hands out. No bytes prove what does not stand in the state.
#![no_main]

use abci_app::state::Base;
use fuzz::target;
use fuzz::{
    canonical,
    chain::{LEDGER, OPENED},
};
use ledger_client::{
    TxHash,
    verify::{InclusionProof, check_record},
};
use protocol::{
    Digest,
    merkle::{MerkleProof, root},
    state::StateKey,
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::RequestInfo;

target!(|bytes: &[u8]| {
    record(bytes);
    if let Ok(proof) = serde_json::from_slice::<InclusionProof>(bytes) {
        assert!(proof.check(&[7; 32], TxHash::of(b"nowhere")).is_err());
    }
    if let Some(proof) = canonical::<MerkleProof>(bytes) {
        let leaves: Vec<Digest> = (0..5u8).map(|leaf| Digest::of_bytes(&[leaf])).collect();
        let stands = |leaf: &Digest| proof.root(*leaf) == Some(root(&leaves));
        for (place, leaf) in leaves.iter().enumerate() {
            assert!(!stands(leaf) || (proof.index, proof.count) == (place as u64, 5));
        }
        assert!(!stands(&Digest::of_bytes(b"nowhere")));
    }
});

fn record(proof: &[u8]) {
    let root = LEDGER.info(RequestInfo::default()).last_block_app_hash;
    let chain = OPENED.read(&StateKey::Chain).expect("memory").expect("genesis wrote it");
    let holds = |path: &str, value: Option<&[u8]>| check_record(&root, path, value, proof);
    assert!(holds("chain", None).is_err());
    assert!(holds("chain", Some(b"another")).is_err());
    assert!(holds("node/none", Some(&chain)).is_err());
    // The seeds are proofs of these.
    let _ = (holds("chain", Some(&chain)), holds("node/none", None));
}
