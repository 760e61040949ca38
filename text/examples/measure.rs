//! Measures a corpus on the way to work: `measure DIR LANG`, or `measure FILE.tsv`.
//!
//! DIR holds one folder for each package of `text::catalogues::PACKAGES`, unpacked. With a third
//! argument, a folder, writes there `corpus.tsv`, `held-out.tsv`, `tokenizer.json`, `encoded`.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use text::{
    Corpus, Pair, Tokenizer, bleu::Bleu, catalogues, corpus, corpus::Filters, split, tokenizer,
};

const HELD_OUT: usize = 1_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, rest @ ..] = &arguments[..] else {
        bail!("measure DIR LANG [OUT] or measure FILE.tsv \"\" [OUT]");
    };
    let mut clock = Instant::now();
    let mut took = move |what: &str| {
        eprintln!("  [{what}: {:.2} s]", clock.elapsed().as_secs_f64());
        clock = Instant::now();
    };
    let pairs = match rest.first() {
        Some(language) if !language.is_empty() => collect(Path::new(input), language)?,
        _ => corpus::read_tsv(&fs::read(input).context(input.clone())?)?,
    };
    took("read");
    let (corpus, report) = Corpus::clean(pairs, &Filters::default())?;
    println!("{report}");
    println!("{} distinct pairs, {} source words", corpus.len(), corpus.source_words());
    took("cleaned");
    let split = split::hold_out(&corpus, HELD_OUT)?;
    println!(
        "{} to train on, {} held out, {} set aside as near-duplicates of those",
        split.training.len(),
        split.held_out.len(),
        split.set_aside
    );
    took("split");

    let differing: Vec<Pair> =
        split.held_out.iter().filter(|pair| pair.source != pair.target).cloned().collect();
    println!("copying, all held-out pairs: {}", copied(&split.held_out)?);
    println!("copying, the {} that differ: {}", differing.len(), copied(&differing)?);
    took("scored");

    let texts = split.training.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target]);
    let tokenizer = Tokenizer::train(texts, tokenizer::DEFAULT_VOCABULARY)?;
    took("tokenizer learnt");
    let encoded = tokenizer.encode_corpus(&split.training)?;
    took("encoded");
    for (at, pair) in split.training.pairs().iter().enumerate() {
        for (text, ids) in [(&pair.source, encoded.source(at)), (&pair.target, encoded.target(at))]
        {
            let back = tokenizer.decode(&ids.unwrap_or_default())?;
            if back != *text {
                bail!("decoded to {back:?}, was {text:?}");
            }
        }
    }
    took("decoded: every text came back");
    let lengths: Vec<(u32, u32)> =
        (0..encoded.len()).filter_map(|at| encoded.lengths(at)).collect();
    let sides = lengths.iter().fold((0, 0), |(s, t), (source, target)| (s + source, t + target));
    let words = |text: &str| text.split(' ').count();
    let target_words: usize = split.training.pairs().iter().map(|pair| words(&pair.target)).sum();
    println!(
        "{} pieces: {:.3} a source word, {:.3} a target word; {} source and {} target tokens; longest {} and {}",
        tokenizer.vocabulary(),
        f64::from(sides.0) / split.training.source_words() as f64,
        f64::from(sides.1) / target_words as f64,
        sides.0,
        sides.1,
        lengths.iter().map(|(source, _)| source).max().unwrap_or(&0),
        lengths.iter().map(|(_, target)| target).max().unwrap_or(&0),
    );
    let json = tokenizer.to_json()?;
    println!("corpus {}", corpus.digest());
    println!("tokenizer {}", protocol::Digest::of_bytes(json.as_bytes()));
    println!("encoded {} ({} bytes)", encoded.digest(), encoded.to_bytes().len());
    if let Some(out) = rest.get(1).map(PathBuf::from) {
        fs::create_dir_all(&out)?;
        fs::write(out.join("corpus.tsv"), split.training.to_tsv())?;
        let held_out: Corpus = split.held_out.into_iter().collect();
        fs::write(out.join("held-out.tsv"), held_out.to_tsv())?;
        fs::write(out.join("tokenizer.json"), json)?;
        fs::write(out.join("encoded"), encoded.to_bytes())?;
    }
    Ok(())
}

fn copied(pairs: &[Pair]) -> Result<Bleu> {
    let sources: Vec<&str> = pairs.iter().map(|pair| pair.source.as_str()).collect();
    let targets: Vec<&str> = pairs.iter().map(|pair| pair.target.as_str()).collect();
    Ok(Bleu::of(&sources, &targets)?)
}

fn collect(folder: &Path, language: &str) -> Result<Vec<Pair>> {
    let mut collected = catalogues::Collected::default();
    for package in catalogues::PACKAGES {
        let root = folder.join(package);
        let before = collected.pairs.len();
        for path in files(&root)? {
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            collected.add(package, &name, &fs::read(&path)?, language)?;
        }
        println!("{package}: {} pairs", collected.pairs.len() - before);
    }
    println!("{} catalogues; left out: {}", collected.catalogues, collected.left_out);
    for unread in &collected.unread {
        println!("passed over: {unread}");
    }
    if collected.pairs.is_empty() {
        bail!("no catalogue of {language}; there are {:?}", collected.languages);
    }
    Ok(collected.pairs)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
