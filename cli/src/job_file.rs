//! JOB.toml: which corpus, and how a model is trained on it. Every default is in this file.

use protocol::job::{AdamSpec, LogLevel};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use text::{
    Pair,
    corpus::{ReadError, read_parallel, read_tsv},
    tokenizer::DEFAULT_VOCABULARY,
};

/// A commented JOB.toml that says every default; `alia job example` prints it.
pub const EXAMPLE: &str = include_str!("example.toml");

/// [`EXAMPLE`] with a corpus named in it; where that can be read, sized by it.
pub fn example(corpus: Option<&Path>) -> String {
    let Some(corpus) = corpus else { return EXAMPLE.into() };
    let value = toml::Value::String(corpus.to_string_lossy().into_owned());
    let named = EXAMPLE.replacen("corpus = \"corpus.tsv\"", &format!("corpus = {value}"), 1);
    let pairs = fs::read(corpus).ok().and_then(|bytes| read_tsv(&bytes).ok());
    let Some(pairs) = pairs else { return named };
    let plain = JobSettings::default();
    let sized = plain.clone().sized_for(text::split::different(&pairs));
    let line = |key: &str, value: &dyn std::fmt::Display| format!("\n{key} = {value}\n");
    named
        .replacen(&line("held_out", &plain.held_out), &line("held_out", &sized.held_out), 1)
        .replacen(&line("vocabulary", &plain.vocabulary), &line("vocabulary", &sized.vocabulary), 1)
}

const CORPUS_KEYS: [&str; 3] = ["corpus", "source", "target"];
const KEYS: [&str; 14] = [
    "label",
    "held_out",
    "sample",
    "vocabulary",
    "seed",
    "nonce",
    "epochs",
    "micro_batches",
    "micro_batch_tokens",
    "dropout",
    "label_smoothing",
    "log",
    "model",
    "adam",
];
const MODEL_KEYS: [&str; 6] =
    ["width", "heads", "feed_forward", "encoder_layers", "decoder_layers", "max_length"];
const ADAM_KEYS: [&str; 6] =
    ["peak_rate", "warmup_steps", "beta1", "beta2", "epsilon", "clip_norm"];

/// What a training job is, beside its pairs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct JobSettings {
    /// A few words for people; the corpus's file name by default.
    pub label: String,
    /// Sentences that are tested on and never trained on.
    pub held_out: usize,
    /// Train on at most so many pairs: all of them by default.
    pub sample: Option<usize>,
    /// Joint pieces of the tokenizer.
    pub vocabulary: u32,
    /// Seeds initialisation, order and dropout.
    pub seed: u64,
    /// Tells two otherwise equal jobs of one requester apart.
    pub nonce: u64,
    /// How often the corpus is gone through.
    pub epochs: u32,
    /// Micro-batches of a step.
    pub micro_batches: u32,
    /// The most tokens of a micro-batch; by default as many as keep each micro-batch of this
    /// corpus within [`crate::prepare::MOST_PRODUCTS`].
    pub micro_batch_tokens: Option<u32>,
    /// Probability that dropout clears an element.
    pub dropout: f64,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// Which operations a receipt commits to.
    pub log: LogLevel,
    /// The model's shape.
    pub model: ModelSettings,
    /// The optimiser.
    pub adam: AdamSettings,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            label: String::new(),
            held_out: 1_000,
            sample: None,
            vocabulary: DEFAULT_VOCABULARY,
            seed: 1,
            nonce: 0,
            epochs: 13,
            micro_batches: 8,
            micro_batch_tokens: None,
            dropout: 0.1,
            label_smoothing: 0.1,
            log: LogLevel::Boundaries,
            model: ModelSettings::default(),
            adam: AdamSettings::default(),
        }
    }
}

impl JobSettings {
    /// For a corpus of so many different sentences: a small one holds less out and gets fewer pieces.
    pub fn sized_for(mut self, pairs: usize) -> Self {
        self.held_out = self.held_out.min(pairs / 10);
        let pieces = u32::try_from(pairs / 2).unwrap_or(u32::MAX).max(400);
        self.vocabulary = self.vocabulary.min(pieces);
        self
    }
}

/// The model's shape; its vocabulary is the tokenizer's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ModelSettings {
    /// Width of a layer.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Inner width of the feed-forward parts.
    pub feed_forward: u32,
    /// Encoder layers.
    pub encoder_layers: u32,
    /// Decoder layers.
    pub decoder_layers: u32,
    /// The longest sentence in tokens; longer ones are left out.
    pub max_length: u32,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            width: 128,
            heads: 4,
            feed_forward: 512,
            encoder_layers: 2,
            decoder_layers: 2,
            max_length: 128,
        }
    }
}

/// The optimiser: Adam with warm-up, then decay by the inverse square root.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct AdamSettings {
    /// The rate at the end of warm-up.
    pub peak_rate: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// First moment's decay.
    pub beta1: f32,
    /// Second moment's decay.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Largest norm of a step's gradient; 0 for no clipping.
    pub clip_norm: f32,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self {
            peak_rate: 0.004,
            warmup_steps: 300,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-9,
            clip_norm: 1.0,
        }
    }
}

impl From<&AdamSettings> for AdamSpec {
    fn from(adam: &AdamSettings) -> Self {
        let AdamSettings { peak_rate, warmup_steps, beta1, beta2, epsilon, clip_norm } = *adam;
        Self { peak_rate, warmup_steps, beta1, beta2, epsilon, clip_norm }
    }
}

/// Where the pairs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorpusFiles {
    /// One file of `source<TAB>target` lines.
    Tsv(PathBuf),
    /// Two files, line by line.
    Parallel {
        /// Sentences.
        source: PathBuf,
        /// Their translations.
        target: PathBuf,
    },
}

/// A JOB.toml, read.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFile {
    /// The corpus; paths are from the file's own folder.
    pub corpus: CorpusFiles,
    /// The rest.
    pub settings: JobSettings,
}

/// A JOB.toml or its corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or a value is of the wrong kind.
    #[error("{path}: {why}; `alia job example` prints one that works")]
    Toml {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key that there is not.
    #[error("{path}: there is no key {key:?}{}", did_you_mean(.nearest.as_deref(), .table))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// The table that it stands in, empty for the top.
        table: &'static str,
        /// The key that was perhaps meant.
        nearest: Option<String>,
    },
    /// No corpus, or two.
    #[error(
        "{0}: a corpus is wanted: either corpus = \"FILE.tsv\" (source<TAB>target lines), or source = \"FILE\" and target = \"FILE\" (line by line)"
    )]
    Corpus(PathBuf),
    /// The corpus's content.
    #[error("{path}: {source}")]
    Read {
        /// Which file, or both.
        path: String,
        /// What is wrong.
        source: ReadError,
    },
}

fn did_you_mean(nearest: Option<&str>, table: &str) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean {nearest:?}?"),
        None if table.is_empty() => "; `alia job example` lists them all".into(),
        None => format!(" in [{table}]; `alia job example` lists them all"),
    }
}

impl JobFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`JobFileError`].
    pub fn read(path: &Path) -> Result<Self, JobFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| JobFileError::File { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a file's text; `path` names it in errors, and its folder is where the corpus is
    /// looked for.
    ///
    /// # Errors
    /// [`JobFileError`], for a key that there is not naming the nearest one.
    pub fn parse(text: &str, path: &Path) -> Result<Self, JobFileError> {
        let wrong = |error: toml::de::Error| JobFileError::Toml {
            path: path.into(),
            why: error.to_string().trim_end().into(),
        };
        let mut table: toml::Table = toml::from_str(text).map_err(wrong)?;
        let top: Vec<&str> = CORPUS_KEYS.into_iter().chain(KEYS).collect();
        check_keys(&table, "", &top, path)?;
        for (name, keys) in [("model", &MODEL_KEYS), ("adam", &ADAM_KEYS)] {
            if let Some(toml::Value::Table(inner)) = table.get(name) {
                check_keys(inner, name, keys, path)?;
            }
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut file = |key: &str| -> Result<Option<PathBuf>, JobFileError> {
            let value = table.remove(key);
            let named: Option<PathBuf> = value.map(decode).transpose().map_err(wrong)?;
            Ok(named.map(|named| folder.join(named)))
        };
        let corpus = match (file("corpus")?, file("source")?, file("target")?) {
            (Some(tsv), None, None) => CorpusFiles::Tsv(tsv),
            (None, Some(source), Some(target)) => CorpusFiles::Parallel { source, target },
            _ => return Err(JobFileError::Corpus(path.into())),
        };
        let mut settings: JobSettings = decode(toml::Value::Table(table)).map_err(wrong)?;
        if settings.label.is_empty() {
            let (CorpusFiles::Tsv(named) | CorpusFiles::Parallel { source: named, .. }) = &corpus;
            let stem = named.file_stem().unwrap_or_default().to_string_lossy();
            settings.label = stem.chars().take(40).collect();
        }
        Ok(Self { corpus, settings })
    }
}

fn decode<T: DeserializeOwned>(value: toml::Value) -> Result<T, toml::de::Error> {
    value.try_into()
}

fn check_keys(
    table: &toml::Table,
    name: &'static str,
    known: &[&str],
    path: &Path,
) -> Result<(), JobFileError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let close = known
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), *known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let full = |key: &str| if name.is_empty() { key.into() } else { format!("{name}.{key}") };
    Err(JobFileError::UnknownKey {
        path: path.into(),
        key: full(key),
        table: name,
        nearest: close.map(|(_, known)| full(known)),
    })
}

impl CorpusFiles {
    /// Reads the pairs, as they are in the files.
    ///
    /// # Errors
    /// [`JobFileError::File`], [`JobFileError::Read`].
    pub fn read(&self) -> Result<Vec<Pair>, JobFileError> {
        let bytes = |path: &Path| {
            fs::read(path).map_err(|source| JobFileError::File { path: path.into(), source })
        };
        let wrong = |path: String| move |source| JobFileError::Read { path, source };
        match self {
            Self::Tsv(path) => read_tsv(&bytes(path)?).map_err(wrong(path.display().to_string())),
            Self::Parallel { source, target } => {
                let both = format!("{} and {}", source.display(), target.display());
                read_parallel(&bytes(source)?, &bytes(target)?).map_err(wrong(both))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<JobFile, JobFileError> {
        JobFile::parse(text, Path::new("jobs/JOB.toml"))
    }

    #[test]
    fn a_corpus_alone_is_a_job_with_every_default() {
        let file = parse("corpus = 'en-de.tsv'").unwrap();
        assert_eq!(file.corpus, CorpusFiles::Tsv("jobs/en-de.tsv".into()));
        let wanted = JobSettings { label: "en-de".into(), ..JobSettings::default() };
        assert_eq!(file.settings, wanted);
    }

    #[test]
    fn the_example_says_every_key_and_the_defaults_as_they_are() {
        let file = parse(EXAMPLE).unwrap();
        // Keys that stand commented out are those without a default value.
        let uncommented =
            EXAMPLE.replace("# sample", "sample").replace("# micro_batch_t", "micro_batch_t");
        let table: toml::Table = toml::from_str(&uncommented).unwrap();
        for key in KEYS {
            assert!(table.contains_key(key), "the example lacks {key}");
        }
        for (name, keys) in [("model", MODEL_KEYS), ("adam", ADAM_KEYS)] {
            let inner = table[name].as_table().unwrap();
            assert!(keys.iter().all(|key| inner.contains_key(*key)), "[{name}] lacks a key");
        }
        let label = file.settings.label.clone();
        assert_eq!(file.settings, JobSettings { label, ..JobSettings::default() });
        parse(&uncommented).unwrap();
        let named = example(Some(Path::new("/data/a \"b\".tsv")));
        assert_eq!(parse(&named).unwrap().corpus, CorpusFiles::Tsv("/data/a \"b\".tsv".into()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("few.tsv");
        // 240 sentences, twice each: sentences count, not lines.
        let words = ('a'..='x').flat_map(|a| ('a'..='j').map(move |b| format!("{a}{b}\twort\n")));
        fs::write(&path, words.collect::<String>().repeat(2)).unwrap();
        let few = parse(&example(Some(&path))).unwrap().settings;
        assert_eq!((few.held_out, few.vocabulary), (24, 400));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        for (text, wanted) in [
            ("corpus = 'a'\nepoch = 3", "there is no key \"epoch\": did you mean \"epochs\"?"),
            ("corpus = 'a'\n[model]\nwidht = 3", "\"model.widht\": did you mean \"model.width\"?"),
            (
                "corpus = 'a'\n[adam]\nwarmup = 3",
                "\"adam.warmup\": did you mean \"adam.warmup_steps\"?",
            ),
            ("corpus = 'a'\nzzz = 3", "\"zzz\"; `alia job example` lists them all"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("jobs/JOB.toml") && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn no_corpus_or_two_of_them_is_told_with_both_forms() {
        for text in ["", "corpus = 'a'\nsource = 'b'\ntarget = 'c'", "source = 'a'"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("either corpus") && error.contains("target"), "{error}");
        }
        let both = parse("source = 'a.en'\ntarget = 'a.de'").unwrap();
        assert_eq!(both.settings.label, "a");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_told_with_its_key() {
        let error = parse("corpus = 'a'\nepochs = 'many'").unwrap_err().to_string();
        assert!(error.contains("epochs") && error.contains("JOB.toml"), "{error}");
        assert!(parse("corpus = 'a'\ndropout = 0").is_ok());
        assert!(parse("corpus = 'a'\nlog = 'full'").unwrap().settings.log == LogLevel::Full);
        assert!(parse("corpus = 7").is_err());
        assert!(parse("corpus = 'a'\nmodel = 7").is_err());
    }

    #[test]
    fn a_corpus_that_is_not_there_or_malformed_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a.en"), folder.path().join("a.de"));
        fs::write(&source, "one\ntwo\n").unwrap();
        let files = CorpusFiles::Parallel { source: source.clone(), target: target.clone() };
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("a.de") && error.contains("No such file"), "{error}");
        fs::write(&target, "eins\n").unwrap();
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("a.en") && error.contains("2 lines"), "{error}");
        assert!(CorpusFiles::Tsv(source).read().unwrap_err().to_string().contains("columns"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
