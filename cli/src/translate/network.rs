//! Translation by the network's workers.

use super::{Document, Model, TranslateError};
use crate::{
    error::Error,
    fetch::{Product, ResultProof, fetch, prove_result},
    ledger::Ledger,
    parameter_server::ParameterServer,
    submit::{Stage, submit},
    watch::Watch,
};
use ledger_client::Client;
use protocol::{
    ChainId, JobId, SecretKey,
    api::{JobPhase, JobStatus},
};

/// Who asks, and whom.
#[derive(Debug)]
pub struct Requester<'a> {
    /// Ledger servers.
    pub client: &'a Client,
    /// The parameter server.
    pub server: &'a ParameterServer,
    /// The chain.
    pub chain: &'a ChainId,
    /// The requester's key.
    pub key: &'a SecretKey,
}

/// What the workers gave.
#[derive(Clone, Debug)]
pub struct NetworkTranslation {
    /// The job.
    pub job: JobId,
    /// The sentences' translations.
    pub translations: Vec<String>,
    /// The receipts that name these very translations.
    pub proof: ResultProof,
    /// The job as it ended.
    pub status: JobStatus,
}

/// Has a document translated as a job of its own, and proves that receipts on the chain name the
/// translations that came. `progress` hears of the job as its server shows it.
///
/// # Errors
/// Where the job cannot be submitted or fails, or what came is not what the receipts name.
pub async fn translate_on_network(
    requester: &Requester<'_>,
    ledger: &mut Ledger,
    model: &Model,
    document: &Document,
    label: &str,
    mut progress: impl FnMut(&JobStatus),
) -> Result<NetworkTranslation, Error> {
    let salt = compute::receipts::fresh_salt()?;
    let Requester { client, server, chain, key } = requester;
    let (order, _) = model.order(document, salt, label, key.public())?;
    submit(client, server, chain, key, &order, |_: Stage| {}).await?;
    let watch = Watch::new((*server).clone(), order.id());
    let status = watch.until_ended(&mut progress).await?;
    if let JobPhase::Failed(why) = &status.phase {
        return Err(TranslateError::Failed(why.clone()).into());
    }
    let fetched = fetch(server, order.id()).await?;
    let Some(proof) = prove_result(ledger, &fetched).await? else {
        return Err(Error::Refused(format!(
            "job {} is said to be done, but its receipts are not confirmed on the chain: its \
             server is wrong, or the ledger's is behind",
            order.id()
        )));
    };
    let Product::Translations { text, .. } = fetched.product else {
        return Err(TranslateError::Failed("its result is a model".into()).into());
    };
    Ok(NetworkTranslation { job: order.id(), translations: text, proof, status })
}
