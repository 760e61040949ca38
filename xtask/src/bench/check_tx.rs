//! CheckTx round trips through our transport against tendermint-abci's own server.

use super::{Line, Pair, Show};
use abci_app::bench::{Transport, check_tx};

const TURNS: usize = 5;
/// Round trips a turn. tendermint-abci's server does some 25 a second: the operating system holds
/// back each answer's second half until the first is acknowledged.
const COUNT: usize = 100;

pub(super) fn run(show: Show<'_>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let peer = "tendermint-abci 0.41, TCP";
    for name in ["TCP", "Unix socket"] {
        let mut turn = 0;
        let ours = || {
            turn += 1;
            let path = folder.path().join(format!("{turn}.sock"));
            let transport = if name == "TCP" { Transport::Tcp } else { Transport::Unix(&path) };
            Ok(check_tx(transport, COUNT)?.median.as_secs_f64() * 1e6)
        };
        let theirs = || Ok(check_tx(Transport::TendermintAbci, COUNT)?.median.as_secs_f64() * 1e6);
        let of = Pair::fastest(TURNS, ours, theirs)?;
        let case = format!("CheckTx and Flush, 1 kB, over {name}");
        show(Line::time("check-tx", case, peer.into(), "us", of));
    }
    Ok(())
}
