//! `up`, inside its sandbox: everything runs here, and ends with this process.

use super::{
    corpus::make_job,
    network::{CHAIN, Network},
    picture,
    plan::{Plan, Size},
    summary::{
        MachineSummary, ModelSummary, SampleSummary, SentenceSummary, Stage, Summary,
        TranslatedSummary, WorkerSummary,
    },
    view::{View, clock},
    watchers::{Known, Watcher},
};
use crate::release;
use anyhow::{Context, bail};
use cli::{
    Home, Ledger, Prepared,
    fetch::{Fetched, Product, fetch, prove_result},
    folder::JobFolder,
    home::Settings,
    prove::prove_receipt,
    score::score,
    submit::submit,
    translate::{Document, Model, Requester, translate_here, translate_on_network},
};
use lab::sandbox;
use ledger_client::verify::TrustRoot;
use protocol::{JobId, api::JobPhase, api::JobStatus};
use std::{
    cell::Cell,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use text::Pair;
use tokio::{signal::ctrl_c, time::interval};

/// Between two looks at the services.
const LOOK: Duration = Duration::from_millis(1_000);
/// How long a confirmed receipt may take to be provable.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);
/// Held-out sentences that the workers translate at the end.
const SHOWN: usize = 5;

/// Runs a plan to its end.
pub fn run(plan: &Path) -> anyhow::Result<()> {
    sandbox::inside()?;
    let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let done = Cell::new(false);
        tokio::select! {
            ended = Run::new(plan).go(&done) => ended,
            // All that runs ends with this process.
            _ = ctrl_c() => match done.get() {
                true => Ok(()),
                false => bail!("interrupted before it was done"),
            },
        }
    })
}

struct Run {
    plan: Plan,
    begun: Instant,
    view: View,
    known: Known,
    summary: Summary,
}

/// Waits for the chain's first blocks.
async fn first_blocks(client: &ledger_client::Client) -> anyhow::Result<()> {
    let end = Instant::now() + PROOF_PATIENCE;
    while !client.height().await.is_ok_and(|height| height > 1) {
        if Instant::now() > end {
            bail!("the chain makes no blocks");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Someone to ask, and where the answer is kept.
struct Results {
    folder: JobFolder,
    fetched: Fetched,
    model: Arc<Model>,
    held_out: Vec<Pair>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let summary = Summary {
            accelerator: plan.accelerator.clone(),
            accelerator_reason: plan.accelerator_reason.clone(),
            stages: plan.stages.clone(),
            ..Summary::default()
        };
        let begun = Instant::now();
        Self { plan, begun, view: View::default(), known: Known::default(), summary }
    }

    fn stage(&mut self, name: &str, since: Instant) {
        let seconds = since.elapsed().as_secs_f64();
        self.summary.stages.push(Stage { name: name.into(), seconds });
    }

    /// Sets `done` once all is shown and written.
    async fn go(mut self, done: &Cell<bool>) -> anyhow::Result<()> {
        let at = Instant::now();
        let home = self.plan.folder.join("home");
        let owner = identity::keyfile::read_or_create(&home.join("owner.key"))?;
        let mut network = {
            let view = &mut self.view;
            Network::start(&self.plan, owner, &mut |text| view.say(text))?
        };
        self.stage("services", at);
        let watcher = Watcher::new()?;
        // The first header is pinned before anything that matters is on the chain, and machines
        // get it with their release.
        self.meanwhile(&mut network, &watcher, None, first_blocks(&watcher.ledger)).await?;
        let root = TrustRoot::pin(&watcher.ledger).await?;
        self.release(&root)?;
        network.boot(&self.plan)?;
        for each in &network.machines {
            let spec = each.machine.spec();
            self.view.say(&format!("switched on {} (MAC {})", spec.name, spec.mac));
        }

        let at = Instant::now();
        let (plan, requester) = (self.plan.clone(), network.owner.public());
        let prepared = self
            .meanwhile(&mut network, &watcher, None, async move {
                let task = tokio::task::spawn_blocking(move || {
                    make_job(&plan.corpus, plan.size, requester)
                });
                task.await.context("preparing the job")?
            })
            .await?;
        self.stage("corpus", at);
        self.view.say(&prepared.report.to_string());
        let forecast = prepared.forecast()?;
        self.view.say(&format!(
            "job: {} pairs to train on, {} held out; {} parameters; {} epochs of {} steps; \
             {:.0} GFLOP, {:.1} a micro-batch at most",
            forecast.pairs,
            forecast.held_out,
            forecast.parameters,
            forecast.epochs,
            forecast.steps,
            forecast.gflop,
            forecast.largest_gflop
        ));

        let home = self.make_home(&home, &root)?;
        let mut ledger = Ledger::from_root(watcher.ledger.clone(), root).await?;

        let at = Instant::now();
        let id = prepared.id();
        submit(
            &watcher.ledger,
            &watcher.server,
            &network.chain,
            &network.owner,
            &prepared.order(),
            |_| {},
        )
        .await?;
        self.watch(&mut network, &watcher, id).await?;
        self.stage("training", at);

        let at = Instant::now();
        let results = self.take_results(&mut network, &watcher, &mut ledger, prepared).await?;
        self.stage("scoring", at);
        let at = Instant::now();
        self.translate(&mut network, &watcher, &mut ledger, &results).await?;
        self.stage("translating", at);
        let at = Instant::now();
        self.prove_one(&network, &watcher, &mut ledger, &results).await?;
        self.stage("proving", at);
        self.finish(&network, &watcher, &results, &home).await?;
        done.set(true);
        if self.plan.exit_when_done {
            return self.all_worked();
        }
        println!("\nrunning until Ctrl-C");
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            network.check()?;
        }
    }

    /// Does something while the view goes on and the services are looked after.
    async fn meanwhile<T>(
        &mut self,
        network: &mut Network,
        watcher: &Watcher,
        job: Option<&JobId>,
        task: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::pin!(task);
        let mut ticks = interval(LOOK);
        loop {
            tokio::select! {
                done = &mut task => {
                    self.view.settle();
                    return done;
                }
                _ = ticks.tick() => {
                    network.check()?;
                    watcher.look(&mut self.known).await;
                    self.draw(network, job);
                }
            }
        }
    }

    fn draw(&mut self, network: &Network, job: Option<&JobId>) {
        let lines = picture::lines(&self.known, network, job, self.begun);
        let short = picture::short(&self.known, job, self.begun);
        self.view.draw(&lines, &short);
    }

    /// Follows a job until it and its receipts are done.
    async fn watch(
        &mut self,
        network: &mut Network,
        watcher: &Watcher,
        id: JobId,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(LOOK);
        loop {
            ticks.tick().await;
            network.check()?;
            watcher.look(&mut self.known).await;
            self.draw(network, Some(&id));
            match self.known.job(&id).map(|status| &status.phase) {
                Some(JobPhase::Done) => {
                    self.view.settle();
                    return Ok(());
                }
                Some(JobPhase::Failed(why)) => bail!("the job failed: {why}"),
                _ => {}
            }
        }
    }

    /// Signs the image's release once more, for this chain.
    fn release(&self, pinned: &TrustRoot) -> anyhow::Result<()> {
        let path = self.plan.folder.join("cometbft/config/genesis.json");
        let genesis = fs::read(&path).with_context(|| path.display().to_string())?;
        release::of_image(&self.plan.image, Some(release::of_pinned(pinned, &genesis)?))
    }

    fn make_home(&self, folder: &Path, root: &TrustRoot) -> anyhow::Result<Home> {
        let settings = Settings {
            chain: CHAIN.parse()?,
            ledgers: vec![format!("http://{}", self.plan.address("ledger"))],
            parameter_server: format!("http://{}", self.plan.address("parameter-server")),
            provisioner: Some(format!("http://{}", self.plan.address("page"))),
        };
        Ok(Home::create(folder, settings, root.clone())?)
    }

    /// Fetches the model, proves it, and scores it on the held-out pairs.
    async fn take_results(
        &mut self,
        network: &mut Network,
        watcher: &Watcher,
        ledger: &mut Ledger,
        prepared: Prepared,
    ) -> anyhow::Result<Results> {
        let id = prepared.id();
        let fetched = fetch(&watcher.server, id).await?;
        let proof = prove_result(ledger, &fetched).await?;
        let Product::Model { file, parameters } = &fetched.product else {
            bail!("the training job's result is no model");
        };
        let folder = JobFolder::new(self.plan.folder.join("job"));
        folder.keep(&prepared, &CHAIN.parse()?)?;
        let path = folder.write("model.safetensors", file)?;
        let model = Arc::new(Model::read(&path, &folder.tokenizer_path())?);
        let held_out = prepared.held_out.clone();
        let (pairs, ours) = (held_out.clone(), model.clone());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let scores = self
            .meanwhile(network, watcher, Some(&id), async move {
                let task = tokio::task::spawn_blocking(move || {
                    let document = Document::new(pairs.iter().map(|pair| &pair.source));
                    let ours = translate_here(&ours, &document, threads, |_, _| {})?;
                    anyhow::Ok(score(&pairs, &document.join(&ours))?)
                });
                task.await.context("scoring")?
            })
            .await?;
        self.view.say(&scores.to_string());
        let status = self.known.job(&id);
        self.summary.job = Some(id);
        self.summary.model = Some(ModelSummary {
            digest: parameters.digest(),
            file: path.display().to_string(),
            parameters: parameters.elements().len(),
            bleu: scores.differing.bleu,
            bleu_copy: scores.differing.copy,
            test_sentences: scores.differing.sentences,
            bleu_all: scores.all.bleu,
            bleu_copy_all: scores.all.copy,
            signature: scores.signature,
            training_pairs: prepared.encoded.len(),
            training_seconds: status.map_or(0.0, |status| status.seconds),
            proof_verified: proof.is_some_and(|proof| proof.contradicted.is_empty()),
        });
        Ok(Results { folder, fetched, model, held_out })
    }

    /// Has the workers translate a few held-out sentences.
    async fn translate(
        &mut self,
        network: &mut Network,
        watcher: &Watcher,
        ledger: &mut Ledger,
        results: &Results,
    ) -> anyhow::Result<()> {
        let shown: Vec<Pair> = results.held_out.iter().take(SHOWN).cloned().collect();
        let document = Document::new(shown.iter().map(|pair| &pair.source));
        let (chain, key) = (network.chain.clone(), network.owner.clone());
        let requester = Requester {
            client: &watcher.ledger,
            server: &watcher.server,
            chain: &chain,
            key: &key,
        };
        let task = async {
            let label = "five held-out sentences";
            let model = &results.model;
            Ok(translate_on_network(&requester, ledger, model, &document, label, |_| {}).await?)
        };
        let done = self.meanwhile(network, watcher, None, task).await?;
        let translations = document.join(&done.translations);
        let sentences = shown.into_iter().zip(translations).map(|(pair, translation)| {
            SentenceSummary { source: pair.source, translation, reference: pair.target }
        });
        self.summary.translated = Some(TranslatedSummary {
            job: done.job,
            receipts: done.proof.receipts,
            sentences: sentences.collect(),
        });
        Ok(())
    }

    /// Takes one receipt from its block and proves it: one of a machine that booted, if any.
    async fn prove_one(
        &mut self,
        network: &Network,
        watcher: &Watcher,
        ledger: &mut Ledger,
        results: &Results,
    ) -> anyhow::Result<()> {
        watcher.look(&mut self.known).await;
        let id = results.fetched.job;
        let nodes: Vec<_> = self.known.machines.values().filter_map(|each| each.node).collect();
        let listing = cli::listing::receipts(&watcher.ledger, Some(id), nodes.first().copied(), 1);
        let mut listing = listing.await?;
        if listing.is_empty() {
            listing = cli::listing::receipts(&watcher.ledger, Some(id), None, 1).await?;
        }
        let Some(chosen) = listing.last() else { bail!("there is no receipt on the chain") };
        let proof = prove_receipt(ledger, chosen.line.receipt, PROOF_PATIENCE).await?;
        let body = proof.record.body();
        self.summary.receipts.sample = Some(SampleSummary {
            id: proof.receipt,
            height: proof.height,
            batch: body.batch.to_string(),
            worker: self.known.name(network, &body.node()),
            proof_verified: proof.proof_verified,
        });
        Ok(())
    }

    async fn finish(
        &mut self,
        network: &Network,
        watcher: &Watcher,
        results: &Results,
        home: &Home,
    ) -> anyhow::Result<()> {
        watcher.look(&mut self.known).await;
        let status = self.known.job(&results.fetched.job).cloned();
        self.summary.receipts.count = self.known.chain.receipts;
        self.summary.receipts.confirmed = self.known.chain.confirmed;
        self.summary.machines = self.machines(network, status.as_ref());
        let workers = status.iter().flat_map(|status| &status.workers);
        self.summary.workers = workers
            .map(|worker| WorkerSummary {
                name: self.known.name(network, &worker.node),
                node: worker.node,
                device: worker.device.clone(),
                batches: worker.batches,
                receipts: worker.receipts,
            })
            .collect();
        self.summary.total_seconds = self.plan.elapsed + self.begun.elapsed().as_secs_f64();
        self.print(results, home);
        if let Some(path) = &self.plan.json {
            let text = serde_json::to_string_pretty(&self.summary)?;
            fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// That each machine that booted has a receipt; a small job is over before they are up.
    fn all_worked(&self) -> anyhow::Result<()> {
        let idle = self.summary.machines.iter().find(|machine| machine.receipts == 0);
        match idle {
            Some(machine) if self.plan.size != Size::Small => bail!(
                "{} did no work that counted: its console is in {}",
                machine.name,
                self.plan.folder.join("machines").display()
            ),
            _ => Ok(()),
        }
    }

    fn machines(&self, network: &Network, status: Option<&JobStatus>) -> Vec<MachineSummary> {
        let summary = |each: &super::network::LabMachine| {
            let spec = each.machine.spec();
            let known = self.known.machines.get(&spec.mac);
            let node = known.and_then(|known| known.node);
            let worker =
                status.and_then(|status| status.workers.iter().find(|w| Some(w.node) == node));
            let first = self.known.first_receipts.get(&spec.mac);
            let since = |at: Instant| first.map(|first| (*first - at).as_secs_f64());
            MachineSummary {
                name: spec.name.clone(),
                firmware: spec.firmware.name().into(),
                boot_mode: known.and_then(|known| known.boot_mode.clone()).unwrap_or_default(),
                boot_seconds: each.booted.map(|booted| booted.as_secs_f64()),
                first_receipt_seconds: since(each.started),
                first_receipt_after_build_seconds: since(self.begun),
                batches: worker.map_or(0, |worker| worker.batches),
                receipts: self.known.receipts.get(&spec.mac).copied().unwrap_or_default(),
            }
        };
        network.machines.iter().map(summary).collect()
    }

    fn print(&mut self, results: &Results, home: &Home) {
        let mut out = vec![String::new()];
        for machine in &self.summary.machines {
            let mode = &machine.boot_mode;
            let booted = match machine.boot_seconds {
                Some(seconds) => format!("booted in {seconds:.0} s ({mode})"),
                None => "was still booting at the end".into(),
            };
            let first = match machine.first_receipt_seconds {
                Some(seconds) => format!("first receipt in a block {seconds:.0} s after power-on"),
                None => "no receipt".into(),
            };
            out.push(format!(
                "{}: {booted}, {first}, {} batches, {} receipts",
                machine.name, machine.batches, machine.receipts
            ));
        }
        for worker in self.summary.workers.iter().filter(|worker| worker.name == "host") {
            out.push(format!("host: {} batches ({})", worker.batches, worker.device));
        }
        if let Some(model) = &self.summary.model {
            out.push(String::new());
            out.push(format!("model   {} ({} parameters)", model.file, model.parameters));
            out.push(format!("        parameters {}", model.digest));
            out.push(format!(
                "BLEU    {:.1} on {} held-out pairs whose reference differs from the source; \
                 copying the source {:.1}",
                model.bleu, model.test_sentences, model.bleu_copy
            ));
        }
        if let Some(translated) = &self.summary.translated {
            out.push(String::new());
            out.push("translated by the workers, as a job of its own:".into());
            for each in &translated.sentences {
                out.push(format!("  {}", each.source.replace('\n', " ")));
                out.push(format!("    -> {}", each.translation.replace('\n', " ")));
            }
            let receipts = translated.receipts.iter();
            out.extend(receipts.map(|receipt| format!("  receipt {receipt}")));
        }
        if let Some(sample) = &self.summary.receipts.sample {
            out.push(String::new());
            out.push(format!("receipt {} of {} ({})", sample.id, sample.worker, sample.batch));
            out.push(format!(
                "        stands in block {}: proven from the pinned header, trusting no server",
                sample.height
            ));
        }
        out.push(format!(
            "\n{} receipts on the chain, {} confirmed; {} in all",
            self.summary.receipts.count,
            self.summary.receipts.confirmed,
            clock(self.summary.total_seconds)
        ));
        if !self.plan.exit_when_done {
            out.extend(self.what_next(results, home));
        }
        out.iter().for_each(|line| self.view.say(line));
    }

    fn what_next(&self, results: &Results, home: &Home) -> Vec<String> {
        let alia = crate::workspace::program("alia");
        let alia = format!("{} --home {}", alia.display(), home.path().display());
        let mut out = vec![
            String::new(),
            format!("page    http://{}/", self.plan.address("page")),
            format!("API     http://{}/v1/machines", self.plan.address("page")),
            format!("        http://{}/v1/jobs", self.plan.address("parameter-server")),
            format!("        http://{}/status (CometBFT)", self.plan.address("ledger")),
            String::new(),
            "to try next, in another terminal:".into(),
            format!("  {alia} receipts --job {}", results.fetched.job),
        ];
        if let Some(sample) = &self.summary.receipts.sample {
            out.push(format!("  {alia} receipt {} --prove", sample.id));
            out.push(format!("  {alia} replay {}", sample.id));
        }
        let folder = results.folder.path().display();
        out.push(format!("  {alia} translate --job {folder} \"Open the file\""));
        let corpus = results.folder.path().join("corpus.tsv");
        out.push(format!(
            "  {alia} job example --corpus {} > JOB.toml && {alia} job submit JOB.toml",
            corpus.display()
        ));
        out
    }
}
