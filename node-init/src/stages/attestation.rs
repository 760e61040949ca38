//! Part of stage `enrolment`: the TPM answers the provisioner's challenge.

use crate::{
    http::{self, HttpError},
    kernel::Kernel,
    mac::Mac,
    measure,
    stages::{command_line::Arguments, identity::Identity},
};
use protocol::{
    Digest,
    evidence::{Challenge, Chip, Evidence, PCRS_QUOTED, PcrValue, qualifying},
};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tpm::{Key, Tpm, TpmError};

/// There is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum AttestationError {
    /// The chip does not do it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// No challenge came.
    #[error("the provisioner's challenge: {0}")]
    Http(#[from] HttpError),
    /// What came is none.
    #[error("the provisioner's challenge cannot be understood: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A mistake of ours.
    #[error("a mistake of ours ended it: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// A chip whose keys are loaded.
struct Ready {
    tpm: Tpm,
    endorsement: Key,
    attestation: Key,
}

impl Ready {
    fn new(mut tpm: Tpm) -> Result<Self, TpmError> {
        let endorsement = tpm.endorsement_key()?;
        let attestation = tpm.attestation_key()?;
        Ok(Self { tpm, endorsement, attestation })
    }

    fn chip(&self) -> Chip {
        Chip {
            endorsement_key: self.endorsement.public.clone(),
            attestation_key: self.attestation.public.clone(),
        }
    }

    fn answer(
        mut self,
        kernel: &dyn Kernel,
        challenge: &Challenge,
        bound: &Digest,
    ) -> Result<Evidence, TpmError> {
        let (credential, secret) = (&challenge.credential, &challenge.secret);
        let opened = self.tpm.activate(&self.endorsement, &self.attestation, credential, secret)?;
        let opened =
            opened.try_into().map_err(|_| TpmError::Unexpected("a credential's length"))?;
        let quote = self.tpm.quote(&self.attestation, &bound.0, &PCRS_QUOTED)?;
        let pcrs = self.tpm.read_pcrs(&PCRS_QUOTED)?;
        Ok(Evidence {
            chip: self.chip(),
            issued: challenge.issued,
            opened: Digest(opened),
            quote: quote.attest,
            signature: quote.signature,
            pcrs: pcrs.into_iter().map(|(pcr, value)| PcrValue { pcr, value }).collect(),
            measurements: measure::log(kernel),
            firmware_log: measure::firmware_log(kernel),
        })
    }
}

/// Has the TPM vouch for this boot; none where there is no TPM.
pub async fn run(
    kernel: &Arc<dyn Kernel>,
    arguments: &Arguments,
    identity: &Identity,
    mac: Mac,
) -> Result<Option<Evidence>, AttestationError> {
    let Ok(tpm) = kernel.tpm() else { return Ok(None) };
    let ready = spawn_blocking(move || Ready::new(tpm)).await??;
    let body = serde_json::to_vec(&ready.chip())?;
    let path = format!("/v1/machines/{mac}/challenge");
    let challenge = http::post(&arguments.provisioner, &path, body).await?;
    let challenge: Challenge = serde_json::from_slice(&challenge)?;
    let bound = qualifying(&challenge.nonce, &identity.node.public(), &identity.boot_id);
    let kernel = kernel.clone();
    let answer = move || ready.answer(kernel.as_ref(), &challenge, &bound);
    Ok(Some(spawn_blocking(answer).await??))
}
