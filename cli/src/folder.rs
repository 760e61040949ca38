//! A job's folder: what its requester keeps of it.
//!
//! ```text
//! job.json             the id, the chain, the specification
//! corpus.tsv           what is trained on
//! held-out.tsv         what is tested on
//! tokenizer.json       opens with HuggingFace's `tokenizers`
//! model.safetensors    once it was fetched
//! translations.txt     of a translation job, once they were fetched; a line a sentence
//! ```

use crate::prepare::Prepared;
use kernels::model::Parameters;
use protocol::{ChainId, JobId, JobSpec};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use text::{Pair, Tokenizer, corpus::read_tsv};

const JOB: &str = "job.json";
const CORPUS: &str = "corpus.tsv";
const HELD_OUT: &str = "held-out.tsv";
/// The tokenizer's file.
pub const TOKENIZER: &str = "tokenizer.json";
/// The model's file.
pub const MODEL: &str = "model.safetensors";
/// The file of a translation job's result.
pub const TRANSLATIONS: &str = "translations.txt";

/// A job's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file.
    #[error("{path}: {source}{}", mend(.source, .path))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content.
    #[error("{path}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another job's.
    #[error("{path} is the folder of job {found}, not of {wanted}: name another with --out")]
    OtherJob {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: JobId,
        /// Whose it should be.
        wanted: JobId,
    },
}

fn mend(error: &io::Error, path: &Path) -> &'static str {
    let is_result = path.ends_with(MODEL) || path.ends_with(TRANSLATIONS);
    match error.kind() {
        io::ErrorKind::NotFound if is_result => ": fetch it first (`alia job fetch ID --out DIR`)",
        io::ErrorKind::NotFound if path.ends_with(HELD_OUT) => {
            ": only the folder that `alia job submit` made has it"
        }
        _ => "",
    }
}

/// What `job.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobNote {
    /// The job.
    pub id: JobId,
    /// Its chain.
    pub chain: ChainId,
    /// Its specification.
    pub spec: JobSpec,
}

/// A job's folder.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> FolderError + '_ {
    |source| FolderError::File { path: path.into(), source }
}

fn content<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> FolderError + '_ {
    |error| FolderError::Content { path: path.into(), why: error.to_string() }
}

impl JobFolder {
    /// A folder by its path; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where a job's folder is when nobody says: `alia-job-` and eight digits of its id.
    pub fn of(job: &JobId) -> Self {
        Self::new(format!("alia-job-{}", job.0.short()))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose folder it is; none where it is nobody's.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn note(&self) -> Result<Option<JobNote>, FolderError> {
        let path = self.path.join(JOB);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => {
                let text = other.map_err(file(&path))?;
                serde_json::from_str(&text).map(Some).map_err(content(&path))
            }
        }
    }

    /// Makes the folder, or takes it up again, for a job.
    ///
    /// # Errors
    /// [`FolderError::OtherJob`] where it is another job's.
    pub fn claim(&self, note: &JobNote) -> Result<(), FolderError> {
        match self.note()? {
            Some(found) if found.id != note.id => {
                let (found, wanted) = (found.id, note.id);
                return Err(FolderError::OtherJob { path: self.path.clone(), found, wanted });
            }
            _ => {}
        }
        fs::create_dir_all(&self.path).map_err(file(&self.path))?;
        let path = self.path.join(JOB);
        let text = serde_json::to_string_pretty(note).map_err(content(&path))?;
        fs::write(&path, text + "\n").map_err(file(&path))
    }

    /// Keeps what a job was made of.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn keep(&self, prepared: &Prepared, chain: &ChainId) -> Result<(), FolderError> {
        let spec = prepared.job.spec().clone();
        self.claim(&JobNote { id: prepared.id(), chain: chain.clone(), spec })?;
        let tested: String = prepared
            .held_out
            .iter()
            .map(|pair| format!("{}\t{}\n", pair.source, pair.target))
            .collect();
        self.write(CORPUS, prepared.corpus.as_bytes())?;
        self.write(HELD_OUT, tested.as_bytes())?;
        self.write(TOKENIZER, prepared.tokenizer.as_bytes())?;
        Ok(())
    }

    /// Writes one of its files and says where.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(file(&path))?;
        Ok(path)
    }

    /// The held-out pairs.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn held_out(&self) -> Result<Vec<Pair>, FolderError> {
        let path = self.path.join(HELD_OUT);
        let bytes = fs::read(&path).map_err(file(&path))?;
        read_tsv(&bytes).map_err(content(&path))
    }

    /// The path of its model.
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// The path of its tokenizer.
    pub fn tokenizer_path(&self) -> PathBuf {
        self.path.join(TOKENIZER)
    }
}

/// Reads a model's file.
///
/// # Errors
/// [`FolderError`].
pub fn read_model(path: &Path) -> Result<(Vec<u8>, Parameters), FolderError> {
    let bytes = fs::read(path).map_err(file(path))?;
    let parameters = Parameters::from_safetensors(&bytes).map_err(content(path))?;
    Ok((bytes, parameters))
}

/// Reads a tokenizer's file.
///
/// # Errors
/// [`FolderError`].
pub fn read_tokenizer(path: &Path) -> Result<(String, Tokenizer), FolderError> {
    let text = fs::read_to_string(path).map_err(file(path))?;
    let tokenizer = Tokenizer::from_json(&text).map_err(content(path))?;
    Ok((text, tokenizer))
}
