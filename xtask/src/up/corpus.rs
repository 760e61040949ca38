//! The corpus of a run: where its pairs come from, and what job is made of them.

use super::plan::{Corpus, SMALL_PAIRS, Size};
use anyhow::{Context, bail};
use cli::{Prepared, prepare};
use protocol::{PublicKey, plain};
use std::{fs, path::Path};
use text::{
    Pair,
    catalogues::Collected,
    corpus::{read_parallel, read_tsv},
    grammar,
};

/// Makes the job, for whoever asks for it.
///
/// # Errors
/// The corpus's fault, and what to do.
pub fn make_job(corpus: &Corpus, size: Size, requester: PublicKey) -> anyhow::Result<Prepared> {
    let (pairs, label) = read(corpus)?;
    Ok(prepare(&size.settings(label).sized_for(text::split::different(&pairs)), pairs, requester)?)
}

fn read(corpus: &Corpus) -> anyhow::Result<(Vec<Pair>, String)> {
    let (pairs, label) = match corpus {
        Corpus::Catalogues { language, packages } => {
            let mut collected = Collected::default();
            for (package, root) in packages {
                collect(&mut collected, package, root, language)?;
            }
            if collected.pairs.is_empty() {
                let known: Vec<&str> = collected.languages.iter().map(String::as_str).collect();
                bail!(
                    "the catalogues have no language {language:?}; they have {}",
                    known.join(", ")
                );
            }
            (collected.pairs, format!("en-{language} from gettext catalogues"))
        }
        Corpus::Tsv(path) => {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            (read_tsv(&bytes).with_context(|| path.display().to_string())?, name(path))
        }
        Corpus::Parallel(source, target) => {
            let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
            let pairs = read_parallel(&read(source)?, &read(target)?);
            let what = || format!("{} and {}", source.display(), target.display());
            (pairs.with_context(what)?, format!("{} to {}", name(source), name(target)))
        }
        Corpus::Grammar => {
            let pairs = grammar::corpus(1, SMALL_PAIRS).pairs().to_vec();
            (pairs, "the project's grammar".to_string())
        }
    };
    // A character has four bytes at most.
    let label = plain(&label).chars().take(protocol::job::MAX_LABEL_LEN / 4).collect();
    Ok((pairs, label))
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn collect(
    collected: &mut Collected,
    package: &str,
    root: &Path,
    language: &str,
) -> anyhow::Result<()> {
    let mut folders = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "mo") {
                files.push(path);
            }
        }
    }
    files.sort();
    for path in files {
        let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        collected.add(package, &inside, &bytes, language)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::SecretKey;

    #[test]
    fn a_small_corpus_makes_a_small_job_and_a_bad_one_is_told_before_anything_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.tsv");
        let requester = SecretKey::from_seed([1; 32]).public();
        let pairs = grammar::corpus(2, 900);
        let lines = pairs.pairs().iter().map(|pair| format!("{}\t{}\n", pair.source, pair.target));
        fs::write(&path, lines.collect::<String>()).unwrap();
        let job = make_job(&Corpus::Tsv(path.clone()), Size::Default, requester).unwrap();
        assert!(job.held_out.len() > 50 && job.encoded.len() > 500);

        fs::write(&path, b"one\tein\xff\n").unwrap();
        let error = make_job(&Corpus::Tsv(path.clone()), Size::Default, requester).unwrap_err();
        assert!(format!("{error:#}").contains("pairs.tsv"), "{error:#}");
        let target = folder.path().join("target");
        fs::write(&path, "a\nb\n").unwrap();
        fs::write(&target, "a\n").unwrap();
        let unequal = Corpus::Parallel(path, target);
        let error = make_job(&unequal, Size::Default, requester).unwrap_err();
        assert!(format!("{error:#}").contains("lines"), "{error:#}");
    }
}
