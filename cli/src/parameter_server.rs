//! Talks to a job's parameter server, for people: nothing here needs a node's key.
//!
//! What has a digest is checked against it; what has none (a status) is the server's word.

use bytes::Bytes;
use compute::client::{ClientError, Server};
use kernels::{model::Parameters, optimiser};
use protocol::{
    ChainId, Digest, JobId, PublicKey, ReceiptId, Signed,
    api::{JobStatus, JobTaken, LogView, ReceiptView},
    job::ModelShape,
    transaction::CreateJob,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;

/// How long a full log may take: the server waits two minutes for the worker.
const LOG_SILENCE: Duration = Duration::from_secs(150);

/// A parameter server.
#[derive(Clone, Debug)]
pub struct ParameterServer {
    server: Server,
    patient: Server,
}

/// Who a parameter server says that it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its node's identity key.
    pub node: PublicKey,
    /// Its chain.
    pub chain: ChainId,
}

impl ParameterServer {
    /// The server at a base address, `http://10.0.0.1:8070`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Ok(Self { server: Server::new(base)?, patient: Server::patient(base, LOG_SILENCE)? })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        self.server.address()
    }

    fn wrong(&self, why: impl std::fmt::Display) -> ClientError {
        ClientError::Answer { server: self.address().into(), why: why.to_string() }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|error| self.wrong(error))
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(&self.server.get(path).await?)
    }

    /// Who it says that it is.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        self.json("/v1/identity").await
    }

    /// Its jobs, newest first.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>, ClientError> {
        self.json("/v1/jobs").await
    }

    /// A job's status.
    pub async fn status(&self, job: &JobId) -> Result<JobStatus, ClientError> {
        self.json(&format!("/v1/jobs/{job}")).await
    }

    /// Announces a job; the answer says which files it still needs.
    pub async fn announce(&self, create: &Signed<CreateJob>) -> Result<JobTaken, ClientError> {
        let body = borsh::to_vec(create).map_err(|error| self.wrong(error))?;
        self.read(&self.server.post("/v1/jobs", body).await?)
    }

    /// Uploads a file that an announced job needs.
    pub async fn put_blob(&self, digest: &Digest, bytes: Bytes) -> Result<(), ClientError> {
        self.server.put(&format!("/v1/blobs/{digest}"), bytes).await.map(|_| ())
    }

    /// A job as its requester signed it; the specification's digest is checked.
    pub async fn create_of(&self, job: &JobId) -> Result<Signed<CreateJob>, ClientError> {
        self.server.create_of(job).await
    }

    /// A file by its content address, checked.
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes, ClientError> {
        self.server.blob(digest).await
    }

    /// Parameters by their digest, checked.
    pub async fn parameters(&self, digest: &Digest) -> Result<Parameters, ClientError> {
        let bytes = self.server.parameters(digest).await?;
        let parameters = Parameters::from_safetensors(&bytes).map_err(|e| self.wrong(e))?;
        let found = parameters.digest();
        if found != *digest {
            let (server, wanted) = (self.address().into(), *digest);
            return Err(ClientError::WrongContent { server, wanted, found });
        }
        Ok(parameters)
    }

    /// The optimiser's state at the parameters of a digest: the server's word.
    pub async fn optimiser_state(
        &self,
        shape: &ModelShape,
        parameters: &Digest,
    ) -> Result<(optimiser::State, Bytes), ClientError> {
        let bytes = self.server.get(&format!("/v1/states/{parameters}")).await?;
        let state = optimiser::State::from_bytes(shape, &bytes).map_err(|e| self.wrong(e))?;
        Ok((state, bytes))
    }

    /// A step's gradient sum of `elements` elements: the server's word until its digest is held
    /// against a receipt's.
    pub async fn gradient_sum(
        &self,
        job: &JobId,
        ordinal: u32,
        elements: usize,
    ) -> Result<Vec<f32>, ClientError> {
        let bytes = self.server.get(&format!("/v1/jobs/{job}/sums/{ordinal}")).await?;
        if bytes.len() != elements * 4 {
            let wanted = elements * 4;
            return Err(self.wrong(format!("a sum of {} bytes, not {wanted}", bytes.len())));
        }
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// A receipt with what opens it.
    pub async fn receipt(&self, id: &ReceiptId) -> Result<ReceiptView, ClientError> {
        self.json(&format!("/v1/receipts/{id}")).await
    }

    /// Every operation of a receipt's batch, as its worker lists them: up to two minutes.
    pub async fn full_log(&self, id: &ReceiptId) -> Result<LogView, ClientError> {
        self.read(&self.patient.get(&format!("/v1/receipts/{id}/log")).await?)
    }
}
