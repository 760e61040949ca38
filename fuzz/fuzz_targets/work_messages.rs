//! What workers and parameter servers say to each other.
#![no_main]

use fuzz::target;
use fuzz::{canonical, chain::WORLD};
use protocol::{
    ReceiptId, Signed,
    api::{JobStatus, ReceiptView},
    boot::ComputeConfig,
    operation::work_root,
    receipt::{self, WorkKeyCertificate},
    refusal::RefusedItem,
    work::{FullLog, Pull, PullReply, ResultMessage, ResultReply, telemetry_root},
};

target!(|bytes: &[u8]| {
    if let Some(pull) = canonical::<Signed<Pull>>(bytes) {
        let _ = pull.verify(&WORLD.chain);
    }
    canonical::<PullReply>(bytes);
    canonical::<ResultReply>(bytes);
    canonical::<RefusedItem>(bytes);
    canonical::<(Signed<WorkKeyCertificate>, Signed<FullLog>)>(bytes);
    // The tokens of translations: a result's payload, and the file of all of them.
    canonical::<Vec<Vec<u32>>>(bytes);
    let head = ResultMessage::head(bytes);
    if let Ok(message) = ResultMessage::from_bytes(bytes) {
        match (message.result.leaves.first(), head) {
            (Some(leaf), head) => assert_eq!(head.ok().flatten().as_ref(), Some(&leaf.receipt)),
            (None, head) => assert!(head.is_err()),
        }
        assert_eq!(message.to_bytes(), bytes);
        for leaf in &message.result.leaves {
            let _: Result<ReceiptId, _> = receipt::verify(&leaf.receipt, &WORLD.chain);
            work_root(&leaf.records);
            telemetry_root(&leaf.telemetry);
        }
    }
    if let Ok(view) = serde_json::from_slice::<ReceiptView>(bytes) {
        let json = serde_json::to_vec(&view).expect("plain JSON");
        assert_eq!(serde_json::from_slice::<ReceiptView>(&json).expect("its own JSON"), view);
    }
    let _ = serde_json::from_slice::<JobStatus>(bytes);
    let _ = serde_json::from_slice::<ComputeConfig>(bytes);
});
