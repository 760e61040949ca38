//! Files that people write: JOB.toml, image.toml, the provisioner's configuration.
#![no_main]

use cli::job_file::{CorpusFiles, JobFile};
use fuzz::target;
use image::Recipe;
use provisioner::{
    check,
    config::Options,
    groups::{
        Site, reader,
        text::{self, Format},
    },
};
use std::path::Path;

target!(|text: &str| {
    if let Ok(file) = JobFile::parse(text, Path::new("jobs/JOB.toml")) {
        let (CorpusFiles::Tsv(path) | CorpusFiles::Parallel { source: path, .. }) = &file.corpus;
        assert!(path.is_absolute() || path.starts_with("jobs"));
        assert!(!file.settings.label.is_empty() || path.file_stem().is_none());
    }
    if let Ok(recipe) = Recipe::parse(text) {
        assert!((1..=19).contains(&recipe.compression_level));
    }
    let path = Path::new("provisioner.toml");
    let options = Options::from_toml(path, text);
    // Read whole or key by key, it is right or it is not.
    assert_eq!(options.is_ok(), check::of_text(path, text).is_empty());
    if let Ok(options) = options
        && let Ok(options) = options.with_file()
    {
        options.machines();
    }
    for format in [Format::Toml, Format::Json] {
        let Ok(json) = text::parse(text, format) else { continue };
        // What is taken is written, and taken again as it was.
        if let Ok(everything) = reader::everything(&json, &Site::default()) {
            let written = text::write(&everything, format).expect("it was read");
            let again = text::parse(&written, format).expect("we wrote it");
            let again = reader::everything(&again, &Site::default());
            assert_eq!(again.ok().as_ref(), Some(&everything), "{written}");
        }
    }
});
