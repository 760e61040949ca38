//! `alia init`.

use super::{HomeFlag, now};
use crate::output::Output;
use clap::Args;
use cli::{
    Error, Exit, Home, ParameterServer,
    home::{DEFAULT_PARAMETER_SERVER, Settings},
    release::check,
};
use ledger_client::{
    Client, TxHash,
    verify::{Prover, TrustRoot},
};
use protocol::Digest;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The header that a signed release of this chain's network names; where a genesis document is at
/// hand, it must be the release's.
async fn trusted(
    place: &str,
    root: &Path,
    genesis: Option<&Path>,
    pinned: &TrustRoot,
) -> Result<TrustRoot, Error> {
    let chain = &pinned.chain;
    let manifest = check(place, root, Some(now().as_secs()), 0).await?.verified.manifest;
    if let (Some(genesis), Some(root)) = (genesis, &manifest.chain) {
        check_genesis(genesis, root.genesis_hash)?;
    }
    match manifest.chain {
        Some(root) if root.chain == *chain => Ok(TrustRoot {
            chain: root.chain,
            height: root.height,
            header_hash: TxHash(root.header_hash.0),
            trusting_period_seconds: root.trusting_period_seconds,
        }),
        Some(root) => Err(Error::Refused(format!(
            "the release is for chain {}, and the ledger servers are of {chain}: name servers of its \
             chain by --ledger",
            root.chain
        ))),
        None => Err(Error::Refused(
            "the release is for no chain in particular: it names no header to pin".into(),
        )),
    }
}

/// Whether a file is the genesis document that a release names. A ledger server cannot be asked for
/// it: what its `/genesis` gives is written anew, in other bytes than those that were hashed.
fn check_genesis(path: &Path, wanted: Digest) -> Result<(), Error> {
    let found = Digest(TxHash::of(&fs::read(path).map_err(Error::file(path))?).0);
    if found == wanted {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} is not the genesis document that the release names: its SHA-256 is {found}, {wanted} is \
         wanted",
        path.display()
    )))
}

/// Set up the home folder: make the account's key and pin the chain's trust root.
///
/// The first header that a ledger server shows is pinned, and everything later is proven from it.
/// So this first contact is what all trust rests on: compare the hash with one had from somebody
/// else, or give that one with --trust-hash and --trust-height, or have it from a signed release of
/// the network (--release with --root).
#[derive(Args)]
#[command(after_help = "Example: alia init --ledger http://10.0.0.1:26657 --parameter-server \
    http://10.0.0.1:8070")]
pub(crate) struct Init {
    /// A CometBFT RPC address; may be given several times, the first that answers is used.
    #[arg(long = "ledger", value_name = "URL", required = true)]
    ledgers: Vec<String>,
    /// The parameter server that jobs are sent to.
    #[arg(long, value_name = "URL", default_value = DEFAULT_PARAMETER_SERVER)]
    parameter_server: String,
    /// The provisioner, which knows where machines are: for `alia node`.
    #[arg(long, value_name = "URL")]
    provisioner: Option<String>,
    /// Pin the header of this hash, had from elsewhere; the server must show it.
    #[arg(long, value_name = "HASH", requires = "trust_height")]
    trust_hash: Option<TxHash>,
    /// The height of that header.
    #[arg(long, value_name = "HEIGHT", requires = "trust_hash")]
    trust_height: Option<u64>,
    /// Pin the header that a release names: a release.bundle, an image's folder, or the address of
    /// either. The server must show it.
    #[arg(long, value_name = "PLACE", requires = "root", conflicts_with = "trust_hash")]
    release: Option<String>,
    /// The network's TUF root.json by which the release is believed.
    #[arg(long, value_name = "FILE", requires = "release")]
    root: Option<PathBuf>,
    /// The chain's genesis document, had from elsewhere: the release must name this one.
    #[arg(long, value_name = "FILE", requires = "release")]
    genesis: Option<PathBuf>,
    /// Pin anew where the folder is set up already; the key is kept.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let folder = home.folder()?;
        if !self.force {
            Home::check_fresh(&folder)?;
        }
        let client = Client::new(&self.ledgers)?;
        // What cannot be one is said now, and not with the first job.
        ParameterServer::new(&self.parameter_server)?;
        let mut pinned = TrustRoot::pin(&client).await?;
        let signed = match self.release.as_deref().zip(self.root.as_deref()) {
            Some((place, root)) => {
                Some(trusted(place, root, self.genesis.as_deref(), &pinned).await?)
            }
            None => None,
        };
        let given = self.trust_hash.zip(self.trust_height);
        let given =
            given.map(|(header_hash, height)| TrustRoot { height, header_hash, ..pinned.clone() });
        let elsewhere = signed.or(given);
        if let Some(root) = &elsewhere {
            pinned = root.clone();
            // Refuses a server that shows another header at that height.
            Prover::new(client, pinned.clone()).await?;
        }
        let settings = Settings {
            chain: pinned.chain.clone(),
            ledgers: self.ledgers,
            parameter_server: self.parameter_server,
            provisioner: self.provisioner,
        };
        let home = Home::create(&folder, settings, pinned.clone())?;
        let key = home.key()?.public();
        output.give(&json!({
            "home": folder, "chain": pinned.chain, "height": pinned.height,
            "header_hash": pinned.header_hash, "public_key": key, "address": key.address(),
        }));
        output.say(format_args!("home        {}", folder.display()));
        output.say(format_args!("account     {}", key.address()));
        output.say(format_args!("chain       {}", pinned.chain));
        output.say(format_args!("trust root  height {}, {}", pinned.height, pinned.header_hash));
        output.say(if elsewhere.is_some() {
            "The server shows the header that you had from elsewhere. Everything is proven from it."
        } else {
            "Everything later is proven from this header, and it itself is the server's word: \
             compare it with one had from somebody else (--trust-hash, --trust-height)."
        });
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_genesis_document_than_the_releases_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("genesis.json");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check_genesis(&path, wanted.parse().unwrap()).unwrap();
        let error = check_genesis(&path, Digest::default()).unwrap_err().to_string();
        assert!(error.contains("not the genesis document") && error.contains(wanted), "{error}");
        assert!(check_genesis(&folder.path().join("none"), Digest::default()).is_err());
    }
}
