//! What a replay is done on, each piece checked by its digest.

use super::{ReplayError, opens};
use crate::{ledger::Ledger, parameter_server::ParameterServer};
use job::Job;
use kernels::model::Parameters;
use ledger_client::verify::BlockRef;
use protocol::{
    BatchId, BatchPart, ChainId, Digest, JobId, Receipt, ReceiptId, SignedReceipt,
    encoded::Encoded,
    job::Work,
    operation::OperationRecord,
    receipt::{self, Salt},
    state::ReceiptRecord,
};
use std::sync::Arc;

/// A receipt with what opens it.
pub(super) struct Claim {
    /// The receipt; its signatures were checked.
    pub(super) receipt: SignedReceipt,
    /// Where it was proven.
    pub(super) proven: Option<BlockRef>,
    /// Opens its work root: from the chain, or as the server gives it.
    pub(super) salt: Option<Salt>,
    /// The records under its work root, where somebody gave ones that are.
    pub(super) records: Option<Vec<OperationRecord>>,
}

impl Claim {
    /// Gets a receipt, proven where it is on the chain.
    pub(super) async fn get(
        ledger: Option<&mut Ledger>,
        server: &ParameterServer,
        chain: &ChainId,
        subject: super::Subject,
        notes: &mut Vec<String>,
    ) -> Result<Self, ReplayError> {
        match (subject, ledger) {
            (super::Subject::View(view), _) => {
                receipt::verify(&view.receipt, chain)?;
                notes.push("the receipt is from a file: nothing is proven of it".into());
                Ok(Self::open(view.receipt, None, None, Some((view.salt, view.records)), notes))
            }
            (super::Subject::OnChain(id), Some(ledger)) => {
                let proven = ledger.receipt(id).await?;
                let Some(ReceiptRecord { receipt, confirmed, .. }) = proven.record.value else {
                    let height = proven.record.height;
                    return Err(ReplayError::NotOnChain { receipt: id, height });
                };
                receipt::verify(&receipt, chain)?;
                let view = view_of(server, id, notes).await;
                let salt = confirmed.map(|confirmed| confirmed.salt);
                Ok(Self::open(receipt, Some(proven.record.block), salt, view, notes))
            }
            (super::Subject::OnChain(id), None) => {
                Err(ReplayError::NotOnChain { receipt: id, height: 0 })
            }
        }
    }

    fn open(
        receipt: SignedReceipt,
        proven: Option<BlockRef>,
        salt: Option<Salt>,
        view: Option<(Salt, Vec<OperationRecord>)>,
        notes: &mut Vec<String>,
    ) -> Self {
        let blinded = receipt.body.work_root;
        let opened = view.filter(|(salt, records)| {
            let opened = opens(salt, records, &blinded);
            if !opened {
                notes.push(
                    "the parameter server's records do not open the receipt's work root: they are \
                     not used"
                        .into(),
                );
            }
            opened
        });
        let (given, records) = opened.unzip();
        Self { receipt, proven, salt: salt.or(given), records }
    }
}

async fn view_of(
    server: &ParameterServer,
    id: ReceiptId,
    notes: &mut Vec<String>,
) -> Option<(Salt, Vec<OperationRecord>)> {
    match server.receipt(&id).await {
        Ok(view) => Some((view.salt, view.records)),
        Err(error) => {
            notes.push(format!("the receipt's records cannot be had: {error}"));
            None
        }
    }
}

/// The job of an id, from its specification and the corpus that it names.
pub(super) async fn job(server: &ParameterServer, id: JobId) -> Result<Arc<Job>, ReplayError> {
    let spec = server.create_of(&id).await?.body.spec;
    let digest = match &spec.work {
        Work::Train(train) => train.encoded,
        Work::Translate(translate) => translate.input,
    };
    let bytes = server.blob(&digest).await?.to_vec();
    let encoded = Encoded::from_bytes(bytes)
        .map_err(|error| ReplayError::File { what: "corpus", why: error.to_string() })?;
    Ok(Arc::new(Job::new(spec, encoded)?))
}

/// The parameters that a receipt names.
pub(super) async fn parameters(
    server: &ParameterServer,
    job: &Job,
    body: &Receipt,
) -> Result<Parameters, ReplayError> {
    let BatchId { epoch, step, .. } = body.batch;
    match &job.spec().work {
        Work::Train(train) if (epoch, step) == (0, 0) => {
            let initial = Parameters::initial(job.shape(), train.seed)?;
            // A receipt that names others began from something that only its server may know.
            if initial.digest() == body.parameters {
                return Ok(initial);
            }
            Ok(server.parameters(&body.parameters).await?)
        }
        Work::Train(_) => Ok(server.parameters(&body.parameters).await?),
        Work::Translate(translate) => {
            let file = server.blob(&translate.model).await?;
            let model = Parameters::from_safetensors(&file)?;
            let found = model.digest();
            if found != body.parameters {
                let why = format!("it holds parameters {found}, not {}", body.parameters);
                return Err(ReplayError::File { what: "model", why });
            }
            Ok(model)
        }
    }
}

/// Which parameters a batch has to begin from.
pub(super) enum Origin {
    /// These.
    Known {
        /// Their digest.
        digest: Digest,
        /// Why.
        why: String,
        /// The update before, proven; none for a job's first step and for translation.
        update: Option<(ReceiptId, Box<ReceiptRecord>)>,
    },
    /// The update before is not confirmed on the chain, or there is no chain to ask.
    Unknown,
}

impl Origin {
    pub(super) async fn find(
        ledger: Option<&mut Ledger>,
        job: &Job,
        batch: &BatchId,
    ) -> Result<Self, ReplayError> {
        let train = match &job.spec().work {
            Work::Train(train) => train,
            Work::Translate(translate) => {
                let why = "those of the model that the job names".into();
                return Ok(Self::Known { digest: translate.parameters, why, update: None });
            }
        };
        let schedule = job.terms().schedule();
        let ordinal = schedule.ordinal(batch.epoch, batch.step);
        let Some(before) = ordinal.checked_sub(1) else {
            let digest = Parameters::initial(job.shape(), train.seed)?.digest();
            let why = "the initial ones of the job's seed".into();
            return Ok(Self::Known { digest, why, update: None });
        };
        let Some(ledger) = ledger else { return Ok(Self::Unknown) };
        let (epoch, step) = (before / schedule.steps(), before % schedule.steps());
        let update = job.batch(epoch, step, BatchPart::Update);
        let proven = ledger.batch(update).await?;
        Ok(match proven.and_then(|proven| proven.confirmed.into_iter().next()) {
            Some((id, record)) => Self::Known {
                digest: record.body().result,
                why: format!("those that the update of the step before ended with (receipt {id})"),
                update: Some((id, Box::new(record))),
            },
            None => Self::Unknown,
        })
    }
}
