//! The door: HTTP, with borsh for workers and JSON for people and programs.

mod upload;

use crate::{
    chain::Registry,
    clock::now_ms,
    engine::{LEAF_LEN, RECORD_LEN},
    server::{Expected, Server, ServerError},
};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use protocol::{
    ChainId, Digest, JobId, PublicKey, ReceiptId, Signed, SignedBody,
    api::{LogView, Problem, ReceiptView},
    receipt::{self, WorkKeyCertificate},
    transaction::{CreateJob, MAX_TRANSACTION_LEN},
    version,
    work::{
        FullLog, LONG_POLL_SECONDS, MAX_RECORDS, MAX_RESULT_LEN, Pull, PullReply, ResultMessage,
    },
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::io::ReaderStream;
use upload::Upload;

/// How long a full log is waited for.
const LOG_PATIENCE: Duration = Duration::from_secs(120);
/// Parameters rebuilt at once: each takes a core, and memory for a model with its moments.
const MAX_REBUILDS: usize = 2;
/// Results, and files of jobs, that are read at once, each into memory; whoever comes then waits
/// for its turn.
const MAX_RESULTS_READ: usize = 64;
const MAX_FILES_READ: usize = 4;
/// The longest beginning of a result up to its first receipt's end.
const MAX_HEAD_LEN: usize = LEAF_LEN;
/// The longest full log, with its certificate.
const MAX_LOG_LEN: usize = MAX_RECORDS * RECORD_LEN;
/// Parameter files kept ready: this step's and the one before.
const READY_PARAMETERS: usize = 2;

/// What the handlers share.
pub struct Door {
    server: Arc<Server>,
    registry: Registry,
    ready: Mutex<VecDeque<(Digest, Bytes)>>,
    rebuilds: Arc<Semaphore>,
    results: Semaphore,
    files: Semaphore,
    /// Results that are too late: they are read so that their senders hear it.
    drains: Semaphore,
    /// The assignments whose results are being read.
    coming: Mutex<BTreeSet<Digest>>,
}

type Shared = State<Arc<Door>>;

/// The routes of a server.
pub fn router(server: Arc<Server>, registry: Registry) -> Router {
    let door = Arc::new(Door {
        server,
        registry,
        ready: Mutex::default(),
        rebuilds: Arc::new(Semaphore::new(MAX_REBUILDS)),
        results: Semaphore::new(MAX_RESULTS_READ),
        files: Semaphore::new(MAX_FILES_READ),
        drains: Semaphore::new(MAX_RESULTS_READ),
        coming: Mutex::default(),
    });
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/v1/identity", get(identity))
        .route("/v1/jobs", get(jobs).post(take_job))
        .route("/v1/jobs/{job}", get(job))
        .route("/v1/jobs/{job}/create", get(create))
        .route("/v1/blobs/{digest}", put(put_blob).get(blob))
        .route("/v1/jobs/{job}/sums/{ordinal}", get(gradient_sum))
        .route("/v1/parameters/{digest}", get(parameters))
        .route("/v1/states/{digest}", get(optimiser_state))
        .route("/v1/receipts/{receipt}", get(receipt))
        .route("/v1/receipts/{receipt}/log", get(log))
        .route("/v1/work/pull", post(pull))
        .route("/v1/work/result", post(result))
        .route("/v1/work/log", post(take_log).layer(DefaultBodyLimit::max(MAX_LOG_LEN)))
        .with_state(door)
}

/// An error as the peer sees it.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, axum::Json(Problem { error: self.1 })).into_response()
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        let status = match &error {
            ServerError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ServerError::NotFound(_) => StatusCode::NOT_FOUND,
            ServerError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            ServerError::Training(crate::training::TrainingError::Gone { .. }) => StatusCode::GONE,
            // The worker keeps what it has and comes again.
            _ => StatusCode::INSUFFICIENT_STORAGE,
        };
        if status == StatusCode::INSUFFICIENT_STORAGE {
            tracing::error!("{error}");
        }
        Self(status, error.to_string())
    }
}

fn bad(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::BAD_REQUEST, format!("{what}: {why}"))
}

/// Runs what computes or touches the disk off the threads that serve.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn read<T: BorshDeserialize>(what: &str, body: &[u8]) -> Result<T, Failure> {
    T::try_from_slice(body).map_err(|error| bad(what, error))
}

fn write<T: BorshSerialize>(value: &T) -> Result<Response, Failure> {
    let bytes = borsh::to_vec(value)
        .map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

fn check_version(headers: &HeaderMap) -> Result<(), Failure> {
    let offered = headers.get(version::HEADER).and_then(|value| value.to_str().ok());
    let offered = offered.unwrap_or("none");
    version::negotiate(offered).map(|_| ()).map_err(|error| bad("version", error))
}

/// Checks what a worker signed with its work key, and the certificate that names its node.
fn check_worker<T: SignedBody>(
    chain: &ChainId,
    signed: &Signed<T>,
    certificate: &Signed<WorkKeyCertificate>,
) -> Result<PublicKey, Failure> {
    let refused = |why: String| Failure(StatusCode::FORBIDDEN, why);
    signed.verify(chain).map_err(|error| refused(error.to_string()))?;
    let body = certificate.verify(chain).map_err(|error| refused(error.to_string()))?;
    if body.work_key != signed.signer {
        return Err(refused(format!(
            "it is signed by {}, the certificate is for work key {}",
            signed.signer, body.work_key
        )));
    }
    Ok(certificate.signer)
}

async fn identity(State(door): Shared) -> impl IntoResponse {
    axum::Json(serde_json::json!({
        "node": door.server.identity.node(),
        "chain": door.server.identity.chain,
    }))
}

async fn jobs(State(door): Shared) -> impl IntoResponse {
    axum::Json(door.server.statuses())
}

async fn job(State(door): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: JobId = id.parse().map_err(|error| bad("job", error))?;
    match door.server.status(&id) {
        Some(status) => Ok(axum::Json(status).into_response()),
        None => Err(ServerError::NotFound(format!("there is no job {id} here")).into()),
    }
}

async fn create(State(door): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: JobId = id.parse().map_err(|error| bad("job", error))?;
    write(&door.server.create_of(&id)?)
}

async fn take_job(State(door): Shared, body: Bytes) -> Result<Response, Failure> {
    if body.len() > MAX_TRANSACTION_LEN {
        return Err(bad("job", format!("longer than {MAX_TRANSACTION_LEN} bytes")));
    }
    let create: Signed<CreateJob> = read("job", &body)?;
    let server = door.server.clone();
    // The chain takes no job of a server that it does not know.
    let mut registered = server.registered.subscribe();
    let patience = Duration::from_secs(LONG_POLL_SECONDS);
    if tokio::time::timeout(patience, registered.wait_for(|is| *is)).await.is_err() {
        let why = "this server is not on the chain yet, which may be away: try again in a minute";
        return Err(ServerError::Unavailable(why.into()).into());
    }
    let taken = blocking(move || server.take_job(create)).await?;
    Ok(axum::Json(taken).into_response())
}

async fn put_blob(
    State(door): Shared,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, Failure> {
    let digest: Digest = digest.parse().map_err(|error| bad("blob", error))?;
    let server = door.server.clone();
    // Before a byte of it is read.
    let is_here = blocking(move || match server.store.has_blob(&digest) {
        false if !server.wants_blob(&digest) => Err(ServerError::Refused(format!(
            "no job here waits for {digest}: announce the job first"
        ))),
        is_here => Ok(is_here),
    })
    .await?;
    let _turn = door.files.acquire().await;
    let upload = Upload::new("blob", body, MAX_RESULT_LEN)?;
    if is_here {
        upload.drain().await?;
        return Ok(StatusCode::OK);
    }
    let body = upload.rest(Vec::new()).await?;
    let server = door.server.clone();
    blocking(move || server.put_blob(&digest, &body).map(|()| StatusCode::CREATED)).await
}

async fn blob(State(door): Shared, Path(digest): Path<String>) -> Result<Response, Failure> {
    let digest: Digest = digest.parse().map_err(|error| bad("blob", error))?;
    let path = door.server.store.blob_path(&digest);
    let none = |_| Failure::from(ServerError::NotFound(format!("there is no {digest} here")));
    let file = tokio::fs::File::open(&path).await.map_err(none)?;
    let length = file.metadata().await.map_err(none)?.len();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 1 << 18))).into_response())
}

async fn parameters(State(door): Shared, Path(digest): Path<String>) -> Result<Response, Failure> {
    let digest: Digest = digest.parse().map_err(|error| bad("parameters", error))?;
    let ready = || door.ready.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = ready().iter().find(|(name, _)| *name == digest).map(|(_, bytes)| bytes.clone());
    let bytes = match kept {
        Some(bytes) => bytes,
        None => {
            let bytes = at_hand_or_rebuilt(&door, digest, Server::parameters).await?;
            let bytes = Bytes::from(bytes);
            let mut ready = ready();
            ready.push_front((digest, bytes.clone()));
            ready.truncate(READY_PARAMETERS);
            bytes
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Gives what belongs to parameters; where they have to be rebuilt, that waits for its turn.
async fn at_hand_or_rebuilt(
    door: &Door,
    digest: Digest,
    give: fn(&Server, &Digest) -> Result<Vec<u8>, ServerError>,
) -> Result<Vec<u8>, Failure> {
    let server = door.server.clone();
    let turn = match server.is_current(&digest) {
        true => None,
        false => door.rebuilds.clone().acquire_owned().await.ok(),
    };
    blocking(move || {
        // Held until it is done, also where whoever asked is gone.
        let _turn = turn;
        give(&server, &digest)
    })
    .await
}

async fn optimiser_state(
    State(door): Shared,
    Path(digest): Path<String>,
) -> Result<Response, Failure> {
    let digest: Digest = digest.parse().map_err(|error| bad("parameters", error))?;
    let bytes = at_hand_or_rebuilt(&door, digest, Server::optimiser_state).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn gradient_sum(
    State(door): Shared,
    Path((id, ordinal)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let id: JobId = id.parse().map_err(|error| bad("job", error))?;
    let ordinal: u32 = ordinal.parse().map_err(|error| bad("step", error))?;
    let server = door.server.clone();
    let bytes = blocking(move || server.gradient_sum(&id, ordinal)).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn receipt(State(door): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: ReceiptId = id.parse().map_err(|error| bad("receipt", error))?;
    let server = door.server.clone();
    let entry = blocking(move || server.receipt(&id)).await?;
    let view = ReceiptView {
        receipt: entry.receipt,
        salt: entry.salt,
        records: entry.records,
        telemetry: entry.telemetry,
        used: entry.used,
        at: entry.at,
    };
    Ok(axum::Json(view).into_response())
}

async fn log(State(door): Shared, Path(id): Path<String>) -> Result<Response, Failure> {
    let id: ReceiptId = id.parse().map_err(|error| bad("receipt", error))?;
    let server = door.server.clone();
    let wait = blocking(move || server.request_log(&id)).await?;
    match tokio::time::timeout(LOG_PATIENCE, wait).await {
        Ok(Ok(records)) => Ok(axum::Json(LogView { records }).into_response()),
        _ => Err(ServerError::Unavailable(format!(
            "the worker of receipt {id} did not list its operations within {} s: it may be gone",
            LOG_PATIENCE.as_secs()
        ))
        .into()),
    }
}

async fn pull(State(door): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    check_version(&headers)?;
    let pull: Signed<Pull> = read("pull", &body)?;
    let node = check_worker(&door.server.identity.chain, &pull, &pull.body.certificate)?;
    door.registry.check(&node).await?;
    door.server.hear(&pull.body)?;
    let end = Instant::now() + Duration::from_secs(LONG_POLL_SECONDS);
    let _waiting = Waiting::begin(door.server.clone(), node);
    loop {
        let changed = door.server.changed.notified();
        tokio::pin!(changed);
        // Registered before looking, so that no ring between is missed.
        changed.as_mut().enable();
        let server = door.server.clone();
        let (reply, wake) = blocking(move || server.find_work(&node)).await?;
        if reply != PullReply::Nothing || Instant::now() >= end {
            return write(&reply);
        }
        let wake = wake
            .map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(now_ms()).max(10)));
        let _ = timeout_at(wake.unwrap_or(end).min(end), changed).await;
    }
}

/// A pull that waits, even if its connection breaks off.
struct Waiting {
    server: Arc<Server>,
    node: PublicKey,
}

impl Waiting {
    fn begin(server: Arc<Server>, node: PublicKey) -> Self {
        server.lock().workers.wait(&node, 1, now_ms());
        Self { server, node }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.server.lock().workers.wait(&self.node, -1, now_ms());
    }
}

async fn result(State(door): Shared, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    check_version(&headers)?;
    let mut upload = Upload::new("result", body, MAX_RESULT_LEN)?;
    // The first receipt says whose result it is and of which assignment, signed: nobody else gets
    // a turn.
    let (head, read) = upload.head(MAX_HEAD_LEN, ResultMessage::head).await?;
    let refused = |why: String| Failure(StatusCode::FORBIDDEN, why);
    receipt::verify(&head, &door.server.identity.chain)
        .map_err(|error| refused(error.to_string()))?;
    let node = head.body.node();
    let assignment = head.body.assignment;
    let server = door.server.clone();
    match blocking(move || server.expects(&head)).await? {
        Expected::Not(why) => Err(refused(why)),
        Expected::Over(reply) => {
            door.registry.check(&node).await?;
            let _turn = door.drains.acquire().await;
            // As long as any may be: its job may be gone. Nothing of it is kept.
            upload.may_have(MAX_RESULT_LEN)?;
            upload.drain().await?;
            write(&reply)
        }
        Expected::Wanted { most } => {
            let _coming = Coming::begin(&door, assignment)?;
            let _turn = door.results.acquire().await;
            upload.may_have(most)?;
            let body = upload.rest(read).await?;
            let message = ResultMessage::from_bytes(&body).map_err(|error| bad("result", error))?;
            drop(body);
            let server = door.server.clone();
            let reply = blocking(move || server.accept(message)).await?;
            write(&reply)
        }
    }
}

/// A result that is being read: one at a time of each assignment.
struct Coming<'a> {
    door: &'a Door,
    assignment: Digest,
}

impl<'a> Coming<'a> {
    fn begin(door: &'a Door, assignment: Digest) -> Result<Self, Failure> {
        let mut coming = door.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if !coming.insert(assignment) {
            let why = "this result is being read already: try again in a few seconds".into();
            return Err(ServerError::Unavailable(why).into());
        }
        Ok(Self { door, assignment })
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut coming = self.door.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.remove(&self.assignment);
    }
}

async fn take_log(
    State(door): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    check_version(&headers)?;
    let (certificate, log): (Signed<WorkKeyCertificate>, Signed<FullLog>) = read("log", &body)?;
    let node = check_worker(&door.server.identity.chain, &log, &certificate)?;
    let server = door.server.clone();
    blocking(move || server.take_log(&node, log.body)).await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
pub(crate) mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    /// The HTTP status that a server answers a GET with.
    pub(crate) fn status_of(server: Server, path: impl Fn(&Server) -> String) -> u16 {
        let path = path(&server);
        let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        answer(server, &head, &[])
    }

    /// The HTTP status that a server answers a request with.
    pub(crate) fn answer(server: Server, head: &str, body: &[u8]) -> u16 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Discard: no chain answers there.
            let client = ledger_client::Client::new(&["http://127.0.0.1:9".to_string()]).unwrap();
            let router = router(Arc::new(server), Registry::new(client));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, router).await });
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // It may be answered before all of it was read.
            let _ = stream.write_all(body).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            answer.split(' ').nth(1).unwrap().parse().unwrap()
        })
    }
}
