//! Doing a batch: the one way in which worker, auditor, replay and parameter server do it.

use crate::{
    log::{Counting, Log},
    plan::{self, Plan, PlanError, length_limit},
    spec::SpecError,
    terms::Terms,
};
use kernels::{
    Pairs, Tap, Workspace, decode,
    graph::{Graph, Sums},
    model::Parameters,
    optimiser, train,
};
use protocol::encoded::Encoded;
use protocol::{
    BatchId, BatchPart, Digest, JobId, JobSpec, Receipt, Signed, WorkUnits,
    job::{LogLevel, ModelShape, Work},
    operation::{OperationRecord, work_root},
    receipt::{Salt, WorkKeyCertificate},
    tensor,
};

/// A job that cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Its specification is out of bounds.
    #[error("the job's specification: {0}")]
    Spec(#[from] SpecError),
    /// Its corpus makes no plan.
    #[error("the job's corpus: {0}")]
    Plan(#[from] PlanError),
    /// The encoded corpus is not the one that the specification names.
    #[error("the encoded corpus is {found}, the job names {wanted}: fetch it again")]
    WrongCorpus {
        /// What is there.
        found: Digest,
        /// What the job names.
        wanted: Digest,
    },
    /// The corpus is of the other kind, or its vocabulary is not the model's.
    #[error("the encoded corpus does not fit the job: {0}")]
    Corpus(&'static str),
}

/// A batch could not be done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The job has no such batch.
    #[error("the job has no batch {0}: whoever assigned it is wrong")]
    NoSuchBatch(BatchId),
    /// The arithmetic failed.
    #[error("batch {batch}: {source}")]
    Kernel {
        /// Which batch.
        batch: BatchId,
        /// Why.
        source: kernels::Error,
    },
}

/// A job with its corpus.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    spec: JobSpec,
    terms: Terms,
    members: Vec<Vec<u32>>,
    left_out: usize,
    encoded: Encoded,
    graph: Digest,
    update: Option<Digest>,
}

/// What a done batch commits to.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The batch.
    pub batch: BatchId,
    /// What it was done on.
    pub input: Digest,
    /// The log, as the job's log level has it.
    pub records: Vec<OperationRecord>,
    /// The root over it.
    pub work_root: Digest,
    /// The gradient's, the new parameters', or the translations' digest.
    pub result: Digest,
    /// What the whole batch counts for.
    pub units: WorkUnits,
    /// Summed loss over target tokens; 0 where there is none.
    pub loss: f32,
}

/// What a receipt says beside what was done.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Which attempt at the batch.
    pub attempt: u32,
    /// The assignment that it answers.
    pub assignment: Digest,
    /// The parameters it began from.
    pub parameters: Digest,
    /// Blinds the work root.
    pub salt: Salt,
    /// Over time, energy and device.
    pub telemetry_root: Digest,
    /// The image or program that did it.
    pub release: Digest,
    /// Which key signs for which node.
    pub certificate: &'a Signed<WorkKeyCertificate>,
}

impl Done {
    /// The receipt for it, to be signed with the certificate's work key.
    pub fn receipt(&self, circumstances: &Circumstances<'_>) -> Receipt {
        Receipt {
            batch: self.batch,
            attempt: circumstances.attempt,
            assignment: circumstances.assignment,
            parameters: circumstances.parameters,
            input: self.input,
            work_root: circumstances.salt.blind(&self.work_root),
            result: self.result,
            units: self.units,
            telemetry_root: circumstances.telemetry_root,
            release: circumstances.release,
            certificate: circumstances.certificate.clone(),
        }
    }
}

/// Inputs of a micro-batch.
enum Input {
    Pairs(Pairs),
    Sources { sources: Vec<Vec<u32>>, limits: Vec<u32> },
}

impl Job {
    /// A job of a specification and the encoded corpus that it names.
    ///
    /// # Errors
    /// [`JobError`], naming whose fault it is.
    pub fn new(spec: JobSpec, encoded: Encoded) -> Result<Self, JobError> {
        crate::spec::check(&spec)?;
        let (wanted, shape, is_training) = match &spec.work {
            Work::Train(train) => (train.encoded, train.model, true),
            Work::Translate(translate) => (translate.input, translate.shape, false),
        };
        let found = encoded.digest();
        if found != wanted {
            return Err(JobError::WrongCorpus { found, wanted });
        }
        if encoded.vocabulary() > shape.vocabulary {
            return Err(JobError::Corpus("its vocabulary is larger than the model's"));
        }
        if encoded.is_pairs() != is_training {
            return Err(JobError::Corpus(if is_training {
                "sentences without translations cannot be trained on"
            } else {
                "sentence pairs are for training, not for translation"
            }));
        }
        let Plan { members, shapes, left_out } = plan_of(&spec, &encoded)?;
        let terms = Terms::new(&spec, shapes)?;
        let graph = terms.graph().digest();
        let update = terms.update_graph().map(Graph::digest);
        let id = spec.id();
        Ok(Self { id, spec, terms, members, left_out, encoded, graph, update })
    }

    /// The job's id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Its specification.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// Its schedule and work units.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        match &self.spec.work {
            Work::Train(train) => &train.model,
            Work::Translate(translate) => &translate.shape,
        }
    }

    /// Sentences left out because they are empty or too long.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Sentences of the corpus, those left out included.
    pub fn sentences(&self) -> usize {
        self.encoded.len()
    }

    /// The sentences, by index into the corpus, of a micro-batch.
    pub fn members(&self, epoch: u32, step: u32, micro: u32) -> Option<&[u32]> {
        let distinct = self.terms.distinct(epoch, step, micro)?;
        self.members.get(distinct as usize).map(Vec::as_slice)
    }

    /// The batch of this job at a place.
    pub fn batch(&self, epoch: u32, step: u32, part: BatchPart) -> BatchId {
        BatchId { job: self.id, epoch, step, part }
    }

    /// Target tokens of a step: what its gradient sum is divided by.
    pub fn target_tokens(&self, epoch: u32, step: u32) -> u64 {
        self.shapes_of(epoch, step).map(|shape| u64::from(shape.target_tokens)).sum()
    }

    /// Source and target tokens of a step.
    pub fn tokens(&self, epoch: u32, step: u32) -> u64 {
        let both = |shape: &protocol::BatchShape| {
            u64::from(shape.source_tokens) + u64::from(shape.target_tokens)
        };
        self.shapes_of(epoch, step).map(both).sum()
    }

    fn shapes_of(&self, epoch: u32, step: u32) -> impl Iterator<Item = &protocol::BatchShape> {
        let micro_batches = self.terms.schedule().micro_batches(step);
        (0..micro_batches).filter_map(move |micro| {
            let distinct = self.terms.distinct(epoch, step, micro)?;
            self.terms.shapes().get(distinct as usize)
        })
    }

    fn input(&self, batch: &BatchId) -> Result<(Input, Digest), WorkError> {
        let none = || WorkError::NoSuchBatch(*batch);
        let BatchPart::Micro(micro) = batch.part else { return Err(none()) };
        if batch.job != self.id {
            return Err(none());
        }
        let members = self.members(batch.epoch, batch.step, micro).ok_or_else(none)?;
        let sources = members.iter().map(|&i| self.encoded.source(i as usize));
        let sources = sources.collect::<Option<Vec<_>>>().ok_or_else(none)?;
        match &self.spec.work {
            Work::Train(_) => {
                let targets = members.iter().map(|&i| self.encoded.target(i as usize));
                let targets = targets.collect::<Option<Vec<_>>>().ok_or_else(none)?;
                let digest = Digest::of("aliaOS pairs v1", &(&sources, &targets));
                Ok((Input::Pairs(sources.iter().zip(&targets).collect()), digest))
            }
            Work::Translate(translate) => {
                let limit = |source: &Vec<u32>| {
                    length_limit(translate, plan::source_length(source.len() as u32))
                };
                let limits: Vec<u32> = sources.iter().map(limit).collect();
                let digest = Digest::of("aliaOS sentences v1", &(&sources, &limits));
                Ok((Input::Sources { sources, limits }, digest))
            }
        }
    }

    /// The digest of what a micro-batch is done on.
    ///
    /// # Errors
    /// Where the job has no such micro-batch.
    pub fn input_digest(&self, batch: &BatchId) -> Result<Digest, WorkError> {
        Ok(self.input(batch)?.1)
    }

    /// Does a training micro-batch; the gradient is in the workspace afterwards. `inner` sees
    /// every operation before it is logged.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn train(
        &self,
        batch: &BatchId,
        level: LogLevel,
        parameters: &Parameters,
        workspace: &mut Workspace,
        inner: impl Tap,
    ) -> Result<Done, WorkError> {
        let (Work::Train(spec), (Input::Pairs(pairs), input), BatchPart::Micro(micro)) =
            (&self.spec.work, self.input(batch)?, batch.part)
        else {
            return Err(WorkError::NoSuchBatch(*batch));
        };
        let settings = train::Settings {
            dropout: spec.dropout,
            label_smoothing: spec.label_smoothing,
            seed: spec.seed,
            epoch: batch.epoch,
            step: batch.step,
            micro,
        };
        let counting = Counting::Batch(Sums::of(&pairs.shape()));
        let mut log = Log::new(level, *batch, self.terms.graph(), self.graph, counting, inner);
        let outcome = train::micro_batch(parameters, &pairs, &settings, workspace, &mut log)
            .map_err(|source| WorkError::Kernel { batch: *batch, source })?;
        let records = log.into_records();
        // The last operation has every parameter's gradient as its outputs, and is a boundary.
        let result = records.last().map(|record| record.output).unwrap_or_default();
        Ok(self.done(*batch, input, records, result, outcome.loss))
    }

    /// Translates a micro-batch: its log, and the tokens of each of its sentences.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn translate(
        &self,
        batch: &BatchId,
        level: LogLevel,
        parameters: &Parameters,
        workspace: &mut Workspace,
        inner: impl Tap,
    ) -> Result<(Done, Vec<Vec<u32>>), WorkError> {
        let (Input::Sources { sources, limits }, input) = self.input(batch)? else {
            return Err(WorkError::NoSuchBatch(*batch));
        };
        let lengths: Vec<u32> =
            sources.iter().map(|source| plan::source_length(source.len() as u32)).collect();
        let counting = Counting::Decoding { lengths: &lengths, limits: &limits };
        let mut log = Log::new(level, *batch, self.terms.graph(), self.graph, counting, inner);
        let translations = decode::greedy(parameters, &sources, &limits, workspace, &mut log)
            .map_err(|source| WorkError::Kernel { batch: *batch, source })?;
        let records = log.into_records();
        let result = translations_digest(&translations);
        Ok((self.done(*batch, input, records, result, 0.0), translations))
    }

    /// The parameter server's own part of a step: from the gradient sum to new parameters.
    ///
    /// # Errors
    /// [`WorkError`]; parameters and state are then as they were.
    pub fn update(
        &self,
        epoch: u32,
        step: u32,
        parameters: &mut Parameters,
        state: &mut optimiser::State,
        gradient_sum: &mut [f32],
        level: LogLevel,
    ) -> Result<Done, WorkError> {
        let batch = self.batch(epoch, step, BatchPart::Update);
        let (Work::Train(spec), Some(graph), Some(digest)) =
            (&self.spec.work, self.terms.update_graph(), self.update)
        else {
            return Err(WorkError::NoSuchBatch(batch));
        };
        let gradients = self.terms.schedule().micro_batches(step);
        let counting = Counting::Batch(Sums::of(&Graph::update_shape(gradients)));
        let mut log = Log::new(level, batch, graph, digest, counting, ());
        log.firsts = Some(Vec::new());
        let tokens = self.target_tokens(epoch, step);
        optimiser::update(parameters, state, gradient_sum, tokens, &spec.adam, &mut log)
            .map_err(|source| WorkError::Kernel { batch, source })?;
        let firsts = log.firsts.take().unwrap_or_default();
        let named: Vec<(&str, Digest)> =
            firsts.iter().map(|(name, digest)| (name.as_str(), *digest)).collect();
        let records = log.into_records();
        // The first operation is the gradient sum, and is a boundary.
        let input = records.first().map(|record| record.output).unwrap_or_default();
        Ok(self.done(batch, input, records, tensor::digest_named(&named), 0.0))
    }

    /// As [`Job::update`] without a log: parameters are rebuilt so from kept gradient sums.
    ///
    /// # Errors
    /// [`WorkError`].
    pub fn apply(
        &self,
        epoch: u32,
        step: u32,
        parameters: &mut Parameters,
        state: &mut optimiser::State,
        gradient_sum: &mut [f32],
    ) -> Result<(), WorkError> {
        let batch = self.batch(epoch, step, BatchPart::Update);
        let Work::Train(spec) = &self.spec.work else {
            return Err(WorkError::NoSuchBatch(batch));
        };
        let tokens = self.target_tokens(epoch, step);
        optimiser::update(parameters, state, gradient_sum, tokens, &spec.adam, &mut ())
            .map_err(|source| WorkError::Kernel { batch, source })
    }

    fn done(
        &self,
        batch: BatchId,
        input: Digest,
        records: Vec<OperationRecord>,
        result: Digest,
        loss: f32,
    ) -> Done {
        let units = self.terms.units(batch.epoch, batch.step, batch.part).unwrap_or_default();
        Done { batch, input, work_root: work_root(&records), records, result, units, loss }
    }
}

/// The digest of a micro-batch's translations: what its receipt names as the result.
pub fn translations_digest(translations: &[Vec<u32>]) -> Digest {
    Digest::of("aliaOS translations v1", translations)
}

/// The digest of a run's gradient sum: what a result names as its payload. For a run of one
/// micro-batch it is the receipt's result.
pub fn gradient_digest(parameters: &Parameters, sum: &[f32]) -> Digest {
    kernels::model::digest(parameters.layout(), ".gradient", sum)
}

fn plan_of(spec: &JobSpec, encoded: &Encoded) -> Result<Plan, PlanError> {
    let lengths = (0..encoded.len()).map(|i| encoded.lengths(i).unwrap_or_default());
    match &spec.work {
        Work::Train(train) => plan::training(train, &lengths.collect::<Vec<_>>()),
        Work::Translate(translate) => {
            let sources: Vec<u32> = lengths.map(|(source, _)| source).collect();
            plan::translation(translate, &sources)
        }
    }
}
