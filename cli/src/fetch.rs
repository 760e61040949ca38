//! A job's result, checked: against its digest, and against the receipts on the chain that name
//! it. Whether those receipts are true is what [`crate::replay`] answers.

use crate::{ledger::Ledger, parameter_server::ParameterServer};
use borsh::BorshDeserialize;
use bytes::Bytes;
use compute::client::ClientError;
use job::{Job, JobError, plan::Schedule, work::translations_digest};
use kernels::model::Parameters;
use ledger_client::verify::{BlockRef, VerifyError};
use protocol::{
    BatchId, BatchPart, Digest, JobId, JobSpec, ReceiptId,
    api::{JobPhase, JobStatus},
    encoded::Encoded,
    job::Work,
};
use serde::Serialize;
use std::time::{Duration, Instant};
use text::{Tokenizer, tokenizer::TokenizerError};
use tokio::time::sleep;

/// A result cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The parameter server.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// Something is not proven.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// There is none yet.
    #[error("job {job} has no result yet ({standing}): `alia job watch {job}` follows it")]
    NotDone {
        /// The job.
        job: JobId,
        /// Where it stands.
        standing: String,
    },
    /// There will be none.
    #[error("job {job} failed: {why}")]
    Failed {
        /// The job.
        job: JobId,
        /// Its server's words.
        why: String,
    },
    /// What came is what was asked for, and yet no result of this job.
    #[error("job {job}: {why}: its parameter server is wrong")]
    Content {
        /// The job.
        job: JobId,
        /// What is wrong.
        why: String,
    },
    /// The server's result is not the one that receipts on the chain name.
    #[error("a lie: {0}")]
    Lie(String),
}

/// A job's result.
#[derive(Debug)]
pub struct Fetched {
    /// The job.
    pub job: JobId,
    /// Its specification.
    pub spec: JobSpec,
    /// The content address of the result's file.
    pub digest: Digest,
    /// The tokenizer's file.
    pub tokenizer_json: String,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The result.
    pub product: Product,
}

/// What a job gives.
#[derive(Debug)]
pub enum Product {
    /// A trained model.
    Model {
        /// Its safetensors file.
        file: Bytes,
        /// What is in it.
        parameters: Parameters,
    },
    /// Translations.
    Translations {
        /// Each sentence's tokens; none for one that was left out as too long.
        tokens: Vec<Vec<u32>>,
        /// Their text.
        text: Vec<String>,
        /// The job with its input: which sentences share a micro-batch.
        job: Box<Job>,
    },
}

/// Fetches a job's result and checks it against what its server says that it is.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(server: &ParameterServer, job: JobId) -> Result<Fetched, FetchError> {
    let status = server.status(&job).await?;
    let digest = match (&status.phase, status.result) {
        (JobPhase::Failed(why), _) => {
            return Err(FetchError::Failed { job, why: why.clone() });
        }
        (_, Some(digest)) => digest,
        (_, None) => {
            let standing = crate::show::progress(&status);
            return Err(FetchError::NotDone { job, standing });
        }
    };
    let spec = server.create_of(&job).await?.body.spec;
    let wrong = |why: String| FetchError::Content { job, why };
    let tokenizer_digest = match &spec.work {
        Work::Train(train) => train.tokenizer,
        Work::Translate(translate) => translate.tokenizer,
    };
    let tokenizer_json = String::from_utf8(server.blob(&tokenizer_digest).await?.to_vec())
        .map_err(|_| wrong("its tokenizer is not UTF-8".into()))?;
    let tokenizer =
        Tokenizer::from_json(&tokenizer_json).map_err(|error| wrong(error.to_string()))?;
    let file = server.blob(&digest).await?;
    let product = match &spec.work {
        Work::Train(_) => model(file, &status, wrong)?,
        Work::Translate(translate) => {
            let input = server.blob(&translate.input).await?.to_vec();
            let input = Encoded::from_bytes(input).map_err(|error| wrong(error.to_string()))?;
            translations(spec.clone(), &file, input, &tokenizer, wrong)?
        }
    };
    Ok(Fetched { job, spec, digest, tokenizer_json, tokenizer, product })
}

fn model(
    file: Bytes,
    status: &JobStatus,
    wrong: impl Fn(String) -> FetchError,
) -> Result<Product, FetchError> {
    let parameters =
        Parameters::from_safetensors(&file).map_err(|error| wrong(error.to_string()))?;
    let found = parameters.digest();
    if status.parameters != Some(found) {
        let said = status.parameters.map_or("none".into(), |digest| digest.to_string());
        return Err(wrong(format!("its model has parameters {found}, its status says {said}")));
    }
    Ok(Product::Model { file, parameters })
}

fn translations(
    spec: JobSpec,
    file: &[u8],
    input: Encoded,
    tokenizer: &Tokenizer,
    wrong: impl Fn(String) -> FetchError,
) -> Result<Product, FetchError> {
    let tokens = Vec::<Vec<u32>>::try_from_slice(file).map_err(|error| wrong(error.to_string()))?;
    let job = Job::new(spec, input).map_err(|error: JobError| wrong(error.to_string()))?;
    if tokens.len() != job.sentences() {
        let why = format!("{} translations of {} sentences", tokens.len(), job.sentences());
        return Err(wrong(why));
    }
    let text: Result<Vec<String>, TokenizerError> =
        tokens.iter().map(|ids| tokenizer.decode(ids)).collect();
    let text = text.map_err(|error| wrong(error.to_string()))?;
    Ok(Product::Translations { tokens, text, job: Box::new(job) })
}

/// What the chain proves of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResultProof {
    /// The receipts that name it: the last update's, or each micro-batch's.
    pub receipts: Vec<ReceiptId>,
    /// The block whose header proves the last of them.
    pub block: BlockRef,
    /// Confirmed receipts of the same batches that name another result: somebody lies.
    pub contradicted: Vec<ReceiptId>,
}

/// How long confirmations of a result that is just done are waited for: a state is proven by the
/// header after the next.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for them.
const AGAIN: Duration = Duration::from_millis(500);

/// Proves that receipts on the chain name this very result; none where they do not stand
/// confirmed, not even after a while.
///
/// # Errors
/// [`FetchError::Lie`] where they name another one; [`VerifyError`].
pub async fn prove_result(
    ledger: &mut Ledger,
    fetched: &Fetched,
) -> Result<Option<ResultProof>, FetchError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match prove_now(ledger, fetched).await? {
            None if Instant::now() < end => sleep(AGAIN).await,
            found => return Ok(found),
        }
    }
}

async fn prove_now(
    ledger: &mut Ledger,
    fetched: &Fetched,
) -> Result<Option<ResultProof>, FetchError> {
    let wanted = match (&fetched.product, &fetched.spec.work) {
        (Product::Model { parameters, .. }, Work::Train(train)) => {
            let Some(batches) = ledger.micro_batches(fetched.job).await? else { return Ok(None) };
            let steps = Schedule::training(train, batches as u32).steps();
            let (epoch, step) = (train.epochs.saturating_sub(1), steps.saturating_sub(1));
            let batch = BatchId { job: fetched.job, epoch, step, part: BatchPart::Update };
            vec![(batch, parameters.digest())]
        }
        (Product::Translations { tokens, job, .. }, _) => (0..job.terms().schedule().batches)
            .map(|micro| {
                let members = job.members(0, 0, micro).unwrap_or_default();
                let mine: Vec<Vec<u32>> = members
                    .iter()
                    .map(|&at| tokens.get(at as usize).cloned().unwrap_or_default())
                    .collect();
                (job.batch(0, 0, BatchPart::Micro(micro)), translations_digest(&mine))
            })
            .collect(),
        (Product::Model { .. }, Work::Translate(_)) => return Ok(None),
    };
    let mut proof: Option<ResultProof> = None;
    for (batch, result) in wanted {
        let Some(proven) = ledger.batch(batch).await? else { return Ok(None) };
        let (agree, differ): (Vec<_>, Vec<_>) =
            proven.confirmed.iter().partition(|(_, record)| record.body().result == result);
        let Some((receipt, _)) = agree.first() else {
            let named = proven.confirmed.first().map(|(_, record)| record.body().result);
            return Err(FetchError::Lie(format!(
                "the parameter server gives {result} for {batch}, but the receipt confirmed on \
                 the chain names {}",
                named.unwrap_or_default()
            )));
        };
        let proof = proof.get_or_insert_with(|| ResultProof {
            receipts: Vec::new(),
            block: proven.block,
            contradicted: Vec::new(),
        });
        proof.block = proven.block;
        proof.receipts.push(*receipt);
        proof.contradicted.extend(differ.iter().map(|(id, _)| *id));
    }
    Ok(proof)
}
