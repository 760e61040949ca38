//! A transaction's bytes, as the ledger and every client read them.
#![no_main]

use abci_app::rules;
use fuzz::target;
use fuzz::{canonical, chain::WORLD};
use protocol::{
    Signed, SignedReceipt, Transaction,
    state::{BatchRecord, JobRecord, NodeRecord, ReceiptRecord, ShapesRecord},
    transaction::{CreateJob, MAX_TRANSACTION_LEN},
};

target!(|bytes: &[u8]| {
    canonical::<Signed<CreateJob>>(bytes);
    canonical::<NodeRecord>(bytes);
    canonical::<JobRecord>(bytes);
    canonical::<BatchRecord>(bytes);
    canonical::<ReceiptRecord>(bytes);
    canonical::<ShapesRecord>(bytes);
    if let Some(receipt) = canonical::<SignedReceipt>(bytes) {
        let json = serde_json::to_string(&receipt).expect("plain JSON");
        assert_eq!(serde_json::from_str::<SignedReceipt>(&json).expect("its own JSON"), receipt);
    }
    let read = canonical::<Transaction>(bytes);
    match rules::decode(bytes) {
        Ok(transaction) => {
            assert!(bytes.len() <= MAX_TRANSACTION_LEN);
            let _ = rules::check_stateless(&transaction, &WORLD.chain);
            assert_eq!(Some(transaction), read);
        }
        Err(refusal) => {
            assert!(read.is_none() || bytes.len() > MAX_TRANSACTION_LEN);
            assert!(refusal.log().len() < 4_000);
        }
    }
});
