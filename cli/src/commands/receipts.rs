//! `alia receipts`, `alia receipt`.

use super::HomeFlag;
use crate::output::Output;
use clap::Args;
use cli::{Error, Exit, Ledger, listing, prove::prove_receipt, show};
use protocol::{
    JobId, PublicKey, ReceiptId,
    state::{ReceiptRecord, StateKey},
};
use serde_json::json;
use std::time::Duration;

/// List receipts, as a ledger server has them: its word, not a proof.
#[derive(Args)]
#[command(after_help = "Example: alia receipts --job 3f…c1 --limit 20")]
pub(crate) struct Receipts {
    /// Of this job alone.
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Of this node alone.
    #[arg(long, value_name = "KEY")]
    node: Option<PublicKey>,
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Show a receipt; with --prove, prove that it stands in a block.
///
/// The proof goes from the header that `alia init` pinned: the light client verifies the newest
/// header, its app hash proves the receipt's record (ICS-23), and the header of the record's block
/// proves the transaction that carried it. No server is believed on the way.
#[derive(Args)]
#[command(after_help = "Example: alia receipt --prove 9b…07; alia --json receipt --prove 9b…07")]
pub(crate) struct Receipt {
    /// The receipt's id.
    id: ReceiptId,
    /// Prove it.
    #[arg(long)]
    prove: bool,
    /// Wait up to so many seconds for a receipt that is not there yet.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "prove")]
    wait: u64,
}

impl Receipts {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let client = home.open()?.client()?;
        let lines = listing::receipts(&client, self.job, self.node, self.limit).await?;
        output.give(&json!({"proof_verified": false, "receipts": lines}));
        if !lines.is_empty() {
            output.say(show::RECEIPT_HEADING);
        }
        lines.iter().for_each(|line| output.say(show::receipt_line(line)));
        let more = match lines.len() >= self.limit {
            true => " at most, the newest (--limit N shows more)",
            false => "",
        };
        output.say(format_args!(
            "{} receipts{more}, by the word of {}; alia receipt --prove ID proves one",
            lines.len(),
            client.server()
        ));
        Ok(Exit::Ok)
    }
}

impl Receipt {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let home = home.open()?;
        if !self.prove {
            let client = home.client()?;
            let record: Option<ReceiptRecord> = client.record(&StateKey::Receipt(self.id)).await?;
            let Some(record) = record else {
                return Err(Error::Refused(format!(
                    "{} says that there is no receipt {}",
                    client.server(),
                    self.id
                )));
            };
            output.give(&json!({
                "receipt": self.id, "proof_verified": false, "height": record.height,
                "record": record,
            }));
            lines(self.id, &record).into_iter().for_each(|line| output.say(line));
            output.say(format_args!("by the word of {}; --prove proves it", client.server()));
            return Ok(Exit::Ok);
        }
        let mut ledger = Ledger::open(&home).await?;
        let proof = prove_receipt(&mut ledger, self.id, Duration::from_secs(self.wait)).await?;
        output.give(&proof);
        lines(self.id, &proof.record).into_iter().for_each(|line| output.say(line));
        output.say(format_args!(
            "proven      from the pinned header (height {}, {})",
            proof.trust_root.height, proof.trust_root.header_hash
        ));
        output.say(format_args!(
            "  header    block {} {} is signed by the chain's validators",
            proof.state_block.height, proof.state_block.hash
        ));
        output.say(format_args!(
            "  record    is in the state of height {}, under that header's app hash",
            proof.state_height
        ));
        output.say(format_args!(
            "  carrier   transaction {} is number {} of {} in block {} {}",
            proof.transaction,
            proof.index + 1,
            proof.transactions,
            proof.block.height,
            proof.block.hash
        ));
        Ok(Exit::Ok)
    }
}

/// A receipt's record, a line a fact.
fn lines(id: ReceiptId, record: &ReceiptRecord) -> Vec<String> {
    let body = record.body();
    vec![
        format!("receipt     {id}"),
        format!("block       {}", record.height),
        format!("job         {}", body.batch.job),
        format!("batch       {}, attempt {}", body.batch, body.attempt),
        format!("node        {}", body.node()),
        format!("parameters  {}", body.parameters),
        format!("input       {}", body.input),
        format!("result      {}", body.result),
        format!("work root   {} (salted)", body.work_root),
        format!(
            "work units  {} multiply-adds, {} elements",
            body.units.product, body.units.pointwise
        ),
        match &record.confirmed {
            Some(confirmed) => format!(
                "confirmed   in block {}{}",
                confirmed.height,
                if confirmed.first { ", the first of its batch" } else { "" }
            ),
            None => "confirmed   not yet".into(),
        },
    ]
}
