//! The worker's loop.

use crate::{
    cache::{Cache, FetchError},
    client::{ClientError, Server},
    heart,
    receipts::{Signer, fresh_salt, leaf_result, payload},
    run::{Device, Observe, Place, Ran, RunError},
};
use job::tree::Span;
use ledger_client::{
    Client,
    outbox::{Outbox, Report, Settings},
};
use protocol::{
    Signed,
    job::LogLevel,
    work::{
        Assignment, FullLog, LogRequest, Pull, PullReply, ResultMessage, ResultReply, WorkResult,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

/// The longest aligned run taken at once.
pub const MOST_MICRO_BATCHES: u32 = 64;
/// The pause after a server was away; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a worker is told at its start.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The keys.
    pub signer: Signer,
    /// Parameter servers to take work from.
    pub servers: Vec<String>,
    /// CometBFT RPC addresses.
    pub ledgers: Vec<String>,
    /// How many threads compute.
    pub threads: usize,
}

/// A worker cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A parameter server's address.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// A ledger's address.
    #[error(transparent)]
    Ledger(#[from] ledger_client::AddressError),
    /// Nobody to take work from.
    #[error("no parameter server is given: there is nobody to take work from")]
    NoServer,
}

/// Why an assignment was not done.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Key(#[from] protocol::key::KeyError),
    #[error("the computing thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// A worker.
pub struct Worker<O = ()> {
    signer: Signer,
    servers: Vec<Server>,
    client: Client,
    outbox: Outbox,
    device: Arc<std::sync::Mutex<Device>>,
    /// One server's work at a time.
    busy: Arc<Mutex<Cache>>,
    speed: u32,
    observe: Arc<O>,
}

impl Worker {
    /// A worker that nobody looks at.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn new(settings: WorkerSettings) -> Result<Self, WorkerError> {
        Self::observed(settings, ())
    }
}

impl<O: Observe + Send + 'static> Worker<O> {
    /// A worker whose operations `observe` sees.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn observed(settings: WorkerSettings, observe: O) -> Result<Self, WorkerError> {
        if settings.servers.is_empty() {
            return Err(WorkerError::NoServer);
        }
        let servers =
            settings.servers.iter().map(|base| Server::new(base)).collect::<Result<_, _>>()?;
        let speed = crate::speed::measure(settings.threads);
        Ok(Self {
            signer: settings.signer,
            servers,
            client: Client::new(&settings.ledgers)?,
            outbox: Outbox::new(Settings::default()),
            device: Arc::new(std::sync::Mutex::new(Device::new(settings.threads))),
            busy: Arc::default(),
            speed,
            observe: Arc::new(observe),
        })
    }

    /// Works until it is asked to `stop`: then what is in hand is finished and brought, and nothing
    /// more is taken.
    pub async fn run_until(self, stop: impl Future<Output = ()> + Send + 'static) {
        let (stopping, stops) = watch::channel(false);
        let stopped = tokio::spawn(async move {
            stop.await;
            tracing::info!("asked to stop: what is in hand is finished, and nothing more taken");
            // Received or not: each loop is at its end then.
            let _ = stopping.send(true);
            stopping.closed().await;
        });
        self.work_until(stops).await;
        stopped.abort();
    }

    /// Works until the process ends.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    async fn work_until(self, stops: watch::Receiver<bool>) {
        tracing::info!(
            node = %self.signer.certificate.signer,
            device = self.signer.device,
            "{} million multiply-adds a second",
            self.speed
        );
        let outbox = self.outbox.clone();
        let client = self.client.clone();
        tokio::spawn(outbox.run(client, |report| match report {
            Report::Stands(id) => tracing::debug!(receipt = %id, "stands on the chain"),
            Report::Refused(id, why) => tracing::error!(receipt = %id, "refused: {why}"),
        }));
        let worker = Arc::new(self);
        let loops = (0..worker.servers.len()).map(|at| {
            let (worker, stops) = (worker.clone(), stops.clone());
            tokio::spawn(async move { worker.serve(at, stops).await })
        });
        for each in loops.collect::<Vec<_>>() {
            if let Err(error) = each.await {
                tracing::error!("a server's loop ended: {error}");
            }
        }
    }

    async fn serve(&self, at: usize, mut stops: watch::Receiver<bool>) {
        let server = &self.servers[at];
        let mut sequence = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            heart::beat();
            sequence += 1;
            let body = Pull {
                certificate: self.signer.certificate.clone(),
                sequence,
                most_micro_batches: MOST_MICRO_BATCHES,
                speed: self.speed,
                device: self.signer.device.clone(),
            };
            let pull = Signed::sign(&self.signer.chain, body, &self.signer.work_key);
            // A pull that is given up may have been answered: the server gives it out again.
            let reply = tokio::select! {
                biased;
                Ok(_) = stops.wait_for(|stops| *stops) => return,
                reply = server.pull(&pull) => reply,
            };
            let done = match reply {
                Ok(PullReply::Nothing) => Ok(()),
                Ok(PullReply::Work(assignment)) => self.work(server, &assignment).await,
                Ok(PullReply::Log(request)) => self.log(server, &request).await,
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::warn!("{error}; trying again in {} ms", pause.as_millis());
                    tokio::select! {
                        Ok(_) = stops.wait_for(|stops| *stops) => return,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Does an assignment and returns it; the receipts go to the chain.
    async fn work(&self, server: &Server, assignment: &Assignment) -> Result<(), TaskError> {
        let mut cache = self.busy.lock().await;
        let (ran, parameters) = self.compute(server, &mut cache, assignment, None).await?;
        drop(cache);
        let (bytes, digest) = payload(&parameters, &ran.product);
        let mut leaves = Vec::with_capacity(ran.leaves.len());
        for leaf in ran.leaves {
            leaves.push(leaf_result(&self.signer, assignment, leaf, fresh_salt()?));
        }
        let result = WorkResult { assignment: assignment.id, leaves, payload: digest };
        let message = ResultMessage { result, payload: bytes };
        let reply = self.bring(server, &message).await?;
        let what = format!(
            "epoch {} step {} #{}+{}",
            assignment.epoch, assignment.step, assignment.first, assignment.count
        );
        match reply {
            ResultReply::Used => tracing::info!("{what} done"),
            ResultReply::Late => tracing::info!("{what} done, after somebody else"),
            ResultReply::Refused(why) => {
                tracing::error!("{what} refused: {why}");
                return Ok(());
            }
        }
        for leaf in &message.result.leaves {
            // No new work while the ledger is away for so long that the outbox is full; the
            // parameter server has these receipts too.
            while let Err(full) = self.outbox.add(&leaf.receipt) {
                tracing::warn!("{full}");
                // Waiting for the ledger is no hanging.
                heart::beat();
                sleep(MAX_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Brings a result until the server answers: it may be restarting.
    async fn bring(
        &self,
        server: &Server,
        message: &ResultMessage,
    ) -> Result<ResultReply, ClientError> {
        let mut pause = FIRST_PAUSE;
        loop {
            heart::beat();
            match server.result(message).await {
                Err(error) if error.is_temporary() => {
                    tracing::warn!("a result waits: {error}");
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Does one micro-batch again and lists every operation.
    async fn log(&self, server: &Server, request: &LogRequest) -> Result<(), TaskError> {
        let mut cache = self.busy.lock().await;
        let level = Some(LogLevel::Full);
        let (ran, _) = self.compute(server, &mut cache, &request.assignment, level).await?;
        drop(cache);
        let records = ran.leaves.into_iter().flat_map(|leaf| leaf.done.records).collect();
        let body = FullLog { receipt: request.receipt, records };
        let log = Signed::sign(&self.signer.chain, body, &self.signer.work_key);
        // Whoever asked does not wait for ever, so neither is it brought for ever.
        match timeout(MAX_PAUSE, server.log(&self.signer.certificate, &log)).await {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }

    async fn compute(
        &self,
        server: &Server,
        cache: &mut Cache,
        assignment: &Assignment,
        level: Option<LogLevel>,
    ) -> Result<(Ran, Arc<kernels::model::Parameters>), TaskError> {
        let job = cache.job(server, &assignment.job).await?;
        let parameters = cache.parameters(server, &job, assignment).await?;
        let (device, observe) = (self.device.clone(), self.observe.clone());
        let place = Place {
            epoch: assignment.epoch,
            step: assignment.step,
            span: Span { first: assignment.first, count: assignment.count },
        };
        let level = level.unwrap_or(job.spec().log);
        let given = parameters.clone();
        let ran = tokio::task::spawn_blocking(move || {
            let mut device = device.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            device.run(&job, place, level, &given, &*observe)
        });
        Ok((ran.await??, parameters))
    }
}
