//! `alia translate`, `alia score`.

use super::{HomeFlag, threads};
use crate::output::Output;
use clap::Args;
use cli::{
    Error, Exit, Ledger,
    folder::JobFolder,
    show,
    translate::{Document, Model, Requester, translate_here, translate_on_network},
};
use serde_json::json;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use text::bleu::Bleu;

/// Translate text with a trained model, here or by the network's workers.
///
/// A sentence a line; empty lines stay where they are. With --on-network the sentences become a
/// job of their own (their text stays off the chain, which sees salted digests), and that receipts
/// on the chain name the very translations is proven.
#[derive(Args)]
#[command(after_help = "Example: alia translate --job alia-job-3f2a91c4 \"Open the file\"; \
    alia translate --job alia-job-3f2a91c4 --on-network --file document.txt")]
pub(crate) struct Translate {
    /// Sentences.
    #[arg(value_name = "TEXT", required_unless_present = "file", conflicts_with = "file")]
    text: Vec<String>,
    /// A file of sentences, one a line; - for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A job's folder with the fetched model.
    #[arg(long, value_name = "DIR", required_unless_present = "model", conflicts_with = "model")]
    job: Option<PathBuf>,
    /// A model's safetensors file.
    #[arg(long, value_name = "FILE", requires = "tokenizer")]
    model: Option<PathBuf>,
    /// Its tokenizer's JSON file.
    #[arg(long, value_name = "FILE", requires = "model")]
    tokenizer: Option<PathBuf>,
    /// Have the network's workers do it.
    #[arg(long)]
    on_network: bool,
    /// How many threads compute here; all of the machine's by default.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// BLEU of translations against references, a sentence a line, as sacreBLEU computes it.
#[derive(Args)]
#[command(after_help = "Example: alia score translations.txt references.txt")]
pub(crate) struct Score {
    /// Translations.
    #[arg(value_name = "HYPOTHESES")]
    translations: PathBuf,
    /// References.
    #[arg(value_name = "REFERENCES")]
    references: PathBuf,
}

fn read(path: &Path) -> Result<String, Error> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(Error::file("standard input"))?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(Error::file(path))
}

impl Translate {
    fn model(&self) -> Result<Model, Error> {
        match (&self.job, &self.model, &self.tokenizer) {
            (Some(job), ..) => {
                let folder = JobFolder::new(job);
                Model::read(&folder.model_path(), &folder.tokenizer_path())
            }
            (None, Some(model), Some(tokenizer)) => Model::read(model, tokenizer),
            _ => Err(Error::Refused(
                "a model is wanted: --job DIR, or --model and --tokenizer".into(),
            )),
        }
    }

    pub(crate) async fn run(self, home: &HomeFlag, output: &Output) -> Result<Exit, Error> {
        let model = self.model()?;
        let document = match &self.file {
            Some(path) => Document::new(read(path)?.lines()),
            None => Document::new(&self.text),
        };
        let too_long: Vec<usize> =
            model.too_long(&document)?.into_iter().map(|at| document.line_of(at)).collect();
        for line in &too_long {
            output.note(format_args!(
                "line {line} has more tokens than the model's {}: it stays empty; split it",
                model.parameters.shape().max_length
            ));
        }
        if !self.on_network {
            let translations =
                translate_here(&model, &document, threads(self.threads), |done, all| {
                    if all > 1 {
                        output.progress(format_args!("{done} of {all} micro-batches translated"));
                    }
                })?;
            let lines = document.join(&translations);
            output.give(&json!({"translations": lines, "too_long": too_long}));
            lines.iter().for_each(|line| output.say(line));
            return Ok(Exit::Ok);
        }
        let home = home.open()?;
        let (client, server, key) = (home.client()?, home.parameter_server()?, home.key()?);
        let mut ledger = Ledger::open(&home).await?;
        let chain = &home.settings.chain;
        let requester = Requester { client: &client, server: &server, chain, key: &key };
        let label = "translation";
        let done = translate_on_network(&requester, &mut ledger, &model, &document, label, |job| {
            output.progress(show::job_line(job));
        })
        .await?;
        let lines = document.join(&done.translations);
        output.give(&json!({
            "translations": lines, "too_long": too_long, "job": done.job, "proof": done.proof,
        }));
        lines.iter().for_each(|line| output.say(line));
        output.note(format_args!(
            "job {}; proven under block {}: these receipts name these translations",
            done.job, done.proof.block.height
        ));
        done.proof.receipts.iter().for_each(|receipt| output.note(format_args!("  {receipt}")));
        for other in &done.proof.contradicted {
            output.note(format_args!(
                "receipt {other} names other translations of the same sentences: somebody lies; \
                 alia replay {other} shows who"
            ));
        }
        Ok(Exit::Ok)
    }
}

impl Score {
    pub(crate) fn run(self, output: &Output) -> Result<Exit, Error> {
        let (translations, references) = (read(&self.translations)?, read(&self.references)?);
        let (translations, references): (Vec<&str>, Vec<&str>) =
            (translations.lines().collect(), references.lines().collect());
        let bleu = Bleu::of(&translations, &references)
            .map_err(|error| Error::Refused(format!("{error}: line N is scored against line N")))?;
        let signature = Bleu::signature();
        output.give(&json!({
            "bleu": bleu.score, "precisions": bleu.precisions,
            "brevity_penalty": bleu.brevity_penalty, "signature": signature,
        }));
        output.say(&bleu);
        output.say(signature);
        Ok(Exit::Ok)
    }
}
