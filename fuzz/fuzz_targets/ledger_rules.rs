//! What stands in transactions, signed by those who may: bodies of any content, run in turn
//! against the ledger's state. A validator that panics stops the chain.
#![no_main]

use abci_app::state::Fork;
use borsh::BorshDeserialize;
use fuzz::chain::{OPENED, WORLD, run, signer};
use fuzz::target;
use protocol::{
    BatchPart, Receipt, SecretKey, Signed, Transaction,
    node::NodeRegistration,
    transaction::{Assign, Confirm, CreateJob, Run, assignment_id},
};

/// The most transactions of one input.
const MOST: usize = 8;

target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut block = Fork::on(&*OPENED);
    for _ in 0..MOST {
        // A kind, whose key signs, how much is set right, and the body's length.
        let Some((&[kind, whose, mend, low, high], tail)) = rest.split_first_chunk() else {
            return;
        };
        let length = usize::from(u16::from_le_bytes([low, high])).min(tail.len());
        let (body, tail) = tail.split_at(length);
        rest = tail;
        let Some(transaction) = transaction(kind, &signer(whose), mend & 1 == 1, body) else {
            continue;
        };
        let Some(writes) = run(&transaction, &block) else { continue };
        block.merge(writes);
        // What is signed once counts once, without a look at who brings it.
        assert!(run(&transaction, &block).is_none(), "taken twice: {transaction:?}");
    }
});

fn transaction(kind: u8, key: &SecretKey, mend: bool, body: &[u8]) -> Option<Transaction> {
    let chain = &WORLD.chain;
    Some(match kind % 5 {
        0 => {
            let mut body = NodeRegistration::try_from_slice(body).ok()?;
            if mend {
                body.ownership = WORLD.ownership(key);
            }
            Transaction::RegisterNode(Signed::sign(chain, body, key))
        }
        1 => {
            let mut body = CreateJob::try_from_slice(body).ok()?;
            if mend {
                body.spec.requester = key.public();
                body.parameter_server = WORLD.server.public();
            }
            Transaction::CreateJob(Signed::sign(chain, body, key))
        }
        2 => {
            let mut body = Assign::try_from_slice(body).ok()?;
            if mend {
                body.job = WORLD.job();
            }
            Transaction::Assign(Signed::sign(chain, body, key))
        }
        3 => {
            let bodies = Vec::<Receipt>::try_from_slice(body).ok()?;
            let sign = |body| WORLD.sign(if mend { mended(body, key) } else { body });
            Transaction::SubmitReceipts(bodies.into_iter().map(sign).collect())
        }
        _ => {
            let mut body = Confirm::try_from_slice(body).ok()?;
            if mend {
                body.job = WORLD.job();
            }
            Transaction::ConfirmReceipts(Signed::sign(chain, body, key))
        }
    })
}

/// A receipt with what no mutation finds: certificate, assignment and units of its batch.
fn mended(mut body: Receipt, node: &SecretKey) -> Receipt {
    body.batch.job = WORLD.job();
    let (first, count) = match body.batch.part {
        BatchPart::Micro(index) => (BatchPart::Micro(index / 4 * 4), 4),
        BatchPart::Update => (BatchPart::Update, 1),
    };
    let run = Run { first, count, node: node.public(), attempt: body.attempt };
    let batch = body.batch;
    body.assignment = assignment_id(&batch.job, batch.epoch, batch.step, &run);
    body.units = WORLD.units(batch.epoch, batch.step, batch.part);
    body.certificate.body.work_key = WORLD.work_key.public();
    body.certificate = Signed::sign(&WORLD.chain, body.certificate.body, node);
    body
}
