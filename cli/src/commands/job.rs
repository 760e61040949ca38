//! `alia job …`.

use super::{HomeFlag, threads};
use crate::output::Output;
use clap::{Args, Subcommand};
use cli::{
    Error, Exit, JobFile, Ledger,
    fetch::{self, Product, prove_result},
    folder::{JobFolder, JobNote, MODEL, TOKENIZER, TRANSLATIONS},
    prepare, score, show,
    submit::{Stage, submit},
    translate::{Document, Model, translate_here},
    watch::{Seen, Watch},
};
use protocol::{JobId, api::JobPhase};
use serde_json::json;
use std::path::PathBuf;

/// Jobs: submit, watch, fetch, score.
#[derive(Subcommand)]
pub(crate) enum Job {
    /// Print a commented JOB.toml with every default.
    #[command(after_help = "Example: alia job example --corpus pairs.tsv > JOB.toml")]
    Example {
        /// The corpus that it names, a file of `source<TAB>target` lines.
        #[arg(long, value_name = "FILE")]
        corpus: Option<PathBuf>,
    },
    Submit(Submit),
    Watch(Watching),
    /// List the parameter server's jobs, newest first.
    #[command(after_help = "Example: alia job list")]
    List,
    Fetch(Fetch),
    Score(Score),
}

/// Prepare a training job of a corpus and submit it.
///
/// The corpus is cleaned (what was dropped is told), a held-out part is set apart, a tokenizer is
/// learnt, and the job's plan follows; its id is the digest of all that. What you need later is
/// kept in the job's folder. Submitted again, the same file goes on where it was broken off.
#[derive(Args)]
#[command(after_help = "Example: alia job submit --dry-run JOB.toml; alia job submit --watch \
    JOB.toml")]
pub(crate) struct Submit {
    /// What to train on, and how: `alia job example` prints one.
    #[arg(value_name = "JOB.toml")]
    file: PathBuf,
    /// The job's folder; ./alia-job-XXXXXXXX by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Watch the job afterwards.
    #[arg(long)]
    watch: bool,
}

/// Follow a job until it is done and its receipts stand confirmed on the chain.
///
/// What is shown is its parameter server's word; `alia job fetch` checks the result.
#[derive(Args)]
#[command(after_help = "Example: alia job watch 3f…c1")]
pub(crate) struct Watching {
    /// The job's id.
    job: JobId,
}

/// Fetch a job's result into its folder: the model, or the translations.
///
/// It is checked against its digests, and that receipts on the chain name this very result is
/// proven, as soon as they stand there.
#[derive(Args)]
#[command(after_help = "Example: alia job fetch 3f…c1 --out my-model")]
pub(crate) struct Fetch {
    /// The job's id.
    job: JobId,
    /// The job's folder; ./alia-job-XXXXXXXX by default.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Translate a job's held-out sentences here and print BLEU beside that of copying the source.
#[derive(Args)]
#[command(after_help = "Example: alia job score alia-job-3f2a91c4")]
pub(crate) struct Score {
    /// The job's folder, with the fetched model.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How many threads compute; all of the machine's by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Job {
    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        match self {
            Self::Example { corpus } => {
                // The job file may be kept anywhere.
                let corpus = corpus.map(std::path::absolute).transpose().unwrap_or_default();
                output.raw(cli::job_file::example(corpus.as_deref()));
                Ok(Exit::Ok)
            }
            Self::Submit(command) => command.run(home, output).await,
            Self::Watch(command) => watch(home, command.job, output).await,
            Self::List => list(home, output).await,
            Self::Fetch(command) => command.run(home, output).await,
            Self::Score(command) => command.run(output),
        }
    }
}

impl Submit {
    async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let file = JobFile::read(&self.file)?;
        let opened = home.open()?;
        let key = opened.key()?;
        output.progress("reading and cleaning the corpus, learning its tokenizer");
        let prepared = prepare(&file.settings, file.corpus.read()?, key.public())?;
        let forecast = prepared.forecast()?;
        output.say(&prepared.report);
        if prepared.set_aside > 0 {
            output.say(format_args!(
                "{} pairs are in neither part: their source is nearly that of a held-out pair",
                prepared.set_aside
            ));
        }
        output.say(&forecast);
        if self.dry_run {
            output.give(&json!({"forecast": forecast, "submitted": null}));
            return Ok(Exit::Ok);
        }
        let folder = self.out.map_or_else(|| JobFolder::of(&prepared.id()), JobFolder::new);
        let chain = &opened.settings.chain;
        folder.keep(&prepared, chain)?;
        let (client, server) = (opened.client()?, opened.parameter_server()?);
        let order = prepared.order();
        let submitted = submit(&client, &server, chain, &key, &order, |stage| match stage {
            Stage::Ledger => output.progress("handed in to the ledger, waiting for its block"),
            Stage::Upload(length) => {
                output.progress(format_args!("uploading {}", show::bytes(length)));
            }
        })
        .await?;
        output.give(&json!({
            "forecast": forecast, "submitted": submitted, "folder": folder.path(),
        }));
        match submitted.height {
            Some(height) => output.say(format_args!("on the chain in block {height}")),
            None => output.say("on the chain already"),
        }
        output.say(format_args!("kept in {}", folder.path().display()));
        if self.watch {
            return watch(home, submitted.job, output).await;
        }
        output.say(format_args!("next: alia job watch {}", submitted.job));
        Ok(Exit::Ok)
    }
}

async fn watch(home: &HomeFlag, job: JobId, output: &Output) -> Result<Exit, Error> {
    let mut watch = Watch::new(home.open()?.parameter_server()?, job);
    let mut last = None;
    while let Some(seen) = watch.next().await? {
        match seen {
            Seen::Status(status) => {
                output.give(&status);
                if !output.is_json() {
                    output.progress(show::job_line(&status));
                }
                last = Some(status);
            }
            Seen::Away(error) => output.note(error),
        }
    }
    let Some(status) = last else { return Ok(Exit::Failed) };
    output.say(show::job_line(&status));
    show::worker_lines(&status).into_iter().for_each(|line| output.say(line));
    Ok(match status.phase {
        JobPhase::Done => {
            output.say(format_args!("next: alia job fetch {job}"));
            Exit::Ok
        }
        _ => Exit::Failed,
    })
}

async fn list(home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
    let jobs = home.open()?.parameter_server()?.jobs().await?;
    output.give(&jobs);
    for status in &jobs {
        let JobPhase::Failed(_) = status.phase else {
            output.say(format_args!(
                "{}  {:<9} {}: {}",
                status.job,
                status.kind,
                status.label,
                show::progress(status)
            ));
            continue;
        };
        output.say(format_args!("{}  {}: {}", status.job, status.label, show::progress(status)));
    }
    if jobs.is_empty() {
        output.say("the parameter server has no jobs");
    }
    Ok(Exit::Ok)
}

impl Fetch {
    async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let home = home.open()?;
        output.progress("fetching");
        let fetched = fetch::fetch(&home.parameter_server()?, self.job).await?;
        let folder = self.out.map_or_else(|| JobFolder::of(&self.job), JobFolder::new);
        let (id, spec) = (fetched.job, fetched.spec.clone());
        folder.claim(&JobNote { id, chain: home.settings.chain.clone(), spec })?;
        folder.write(TOKENIZER, fetched.tokenizer_json.as_bytes())?;
        let (path, parameters) = match &fetched.product {
            Product::Model { file, parameters } => {
                (folder.write(MODEL, file)?, Some(parameters.digest()))
            }
            Product::Translations { text, .. } => {
                let lines: String = text.iter().map(|line| format!("{line}\n")).collect();
                (folder.write(TRANSLATIONS, lines.as_bytes())?, None)
            }
        };
        output.say(format_args!("{}  {}", path.display(), fetched.digest));
        // A chain that is away leaves the file unproven, not unfetched.
        let proof = match Ledger::open(&home).await {
            Ok(mut ledger) => prove_result(&mut ledger, &fetched).await?,
            Err(error) if error.exit() == Exit::Lie => return Err(error),
            Err(error) => {
                output.note(format_args!("not proven: {error}"));
                None
            }
        };
        output.give(&json!({
            "job": self.job, "file": path, "digest": fetched.digest, "parameters": parameters,
            "proof": proof,
        }));
        if let Some(parameters) = parameters {
            output.say(format_args!("parameters {parameters}"));
        }
        match &proof {
            Some(proof) => {
                output.say(format_args!(
                    "proven: {} on the chain {} this very result (block {}, {})",
                    if proof.receipts.len() == 1 { "a receipt" } else { "receipts" },
                    if proof.receipts.len() == 1 { "names" } else { "name" },
                    proof.block.height,
                    proof.block.hash
                ));
                if let Some(receipt) = proof.receipts.first() {
                    output.say(format_args!("next: alia replay {receipt}"));
                }
                for other in &proof.contradicted {
                    output.note(format_args!(
                        "receipt {other} names another result of the same batch: somebody lies; \
                         alia replay {other} shows who"
                    ));
                }
            }
            None => output.say(
                "not proven yet: its last receipts are not confirmed on the chain; fetch it again",
            ),
        }
        Ok(Exit::Ok)
    }
}

impl Score {
    fn run(self, output: &Output) -> Result<Exit, Error> {
        let folder = JobFolder::new(self.folder);
        let pairs = folder.held_out()?;
        let model = Model::read(&folder.model_path(), &folder.tokenizer_path())?;
        let document = Document::new(pairs.iter().map(|pair| pair.source.as_str()));
        let ours = translate_here(&model, &document, threads(self.threads), |done, all| {
            output.progress(format_args!("{done} of {all} micro-batches translated"));
        })?;
        let scores = score::score(&pairs, &document.join(&ours))
            .map_err(|error| Error::Refused(error.to_string()))?;
        output.give(&scores);
        output.say(&scores);
        Ok(Exit::Ok)
    }
}
