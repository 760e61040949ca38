//! `alia replay`.

use super::{HomeFlag, threads};
use crate::output::Output;
use clap::Args;
use cli::{
    Error, Exit, Ledger,
    replay::{self, Named, Options, Subject},
};
use protocol::{ReceiptId, api::ReceiptView};
use std::{fs, path::Path};

/// Do a receipt's batch again on this CPU and compare every digest.
///
/// The receipt is proven on the chain; specification, corpus and parameters come from the job's
/// parameter server and are checked by digest. If anything differs, the first operation that does
/// is named: at the boundary that the receipt commits to, and exactly where its worker lists every
/// operation. Exit code 3 says that a lie was found.
#[derive(Args)]
#[command(after_help = "Example: alia replay 9b…07; alia replay --from-file receipt.json")]
pub(crate) struct Replay {
    /// The receipt's id; with --from-file, a file.
    #[arg(value_name = "RECEIPT")]
    receipt: String,
    /// RECEIPT is a file: a receipt as its parameter server shows it (GET /v1/receipts/ID). The
    /// ledger is not asked, so nothing is proven of it but its signatures.
    #[arg(long)]
    from_file: bool,
    /// Of an update: do the step's micro-batches again too, so that not even their sum is taken
    /// as it was committed.
    #[arg(long)]
    recompute_sum: bool,
    /// How many threads compute; all of the machine's by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Replay {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let home = home.open()?;
        let (mut ledger, subject) = if self.from_file {
            let path = Path::new(&self.receipt);
            let text = fs::read_to_string(path).map_err(Error::file(path))?;
            let view: ReceiptView = serde_json::from_str(&text).map_err(|error| {
                Error::Refused(format!(
                    "{}: {error}: a receipt as GET /v1/receipts/ID gives it is wanted",
                    path.display()
                ))
            })?;
            (None, Subject::View(Box::new(view)))
        } else {
            let id: ReceiptId = self.receipt.parse().map_err(|error| {
                Error::Refused(format!("{error}; for a receipt in a file, add --from-file"))
            })?;
            output.progress("proving the receipt on the chain");
            (Some(Ledger::open(&home).await?), Subject::OnChain(id))
        };
        let options = Options { threads: threads(self.threads), recompute_sum: self.recompute_sum };
        output.progress("fetching the batch and doing it again");
        let server = home.parameter_server()?;
        let chain = &home.settings.chain;
        let found = replay::replay(ledger.as_mut(), &server, chain, subject, options).await?;
        output.give(&found);
        show(&found, output);
        Ok(if found.agrees { Exit::Ok } else { Exit::Lie })
    }
}

fn show(found: &replay::Replay, output: &Output) {
    output.say(format_args!("receipt     {}", found.receipt));
    output.say(format_args!("batch       {}", found.batch));
    output.say(format_args!("node        {}", found.node));
    match found.proven {
        Some(block) => {
            output.say(format_args!("proven      block {} {}", block.height, block.hash))
        }
        None => output.say("proven      nothing: it is not from the chain"),
    }
    output.say(format_args!("done again  {} operations", found.operations));
    output.say(format_args!("work root   {}", found.work_root));
    output.say(format_args!("result      {}", found.result));
    for note in &found.notes {
        output.say(format_args!("  {note}"));
    }
    if found.agrees {
        output.say("AGREES: the same to the last bit");
        return;
    }
    output.say("LIES: what the receipt says is not what its batch gives");
    for differs in &found.disagreements {
        output.say(format_args!(
            "  {}: here {}, there {}",
            differs.what, differs.ours, differs.theirs
        ));
    }
    if let Some(named) = &found.operation {
        output.say(operation(named));
    }
}

fn operation(named: &Named) -> String {
    let digest = |digest: &Option<_>| match digest {
        Some(digest) => format!("{digest}"),
        None => "none".into(),
    };
    let place = if named.is_exact() {
        format!("first operation that differs: position {}", named.last)
    } else {
        format!(
            "an operation of positions {} to {} differs; committed to is",
            named.first, named.last
        )
    };
    format!(
        "{place}, {} ({})\n  here  {}\n  there {}",
        named.name,
        named.operator,
        digest(&named.ours),
        digest(&named.theirs)
    )
}
