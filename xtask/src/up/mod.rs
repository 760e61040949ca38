//! `cargo xtask up`: the whole path on one machine, from firmware to proof.
//!
//! Outside: what is missing is installed and fetched, programs and image are built. Then the rest
//! runs [`inside`] a sandbox that leaves nothing behind.

pub mod corpus;
pub mod inside;
pub mod network;
pub mod picture;
pub mod plan;
pub mod summary;
pub mod view;
pub mod watchers;

use crate::{
    build::{self, KernelFrom},
    hardening, setup,
    setup::Sources,
    workspace,
};
use anyhow::{Context, bail};
use lab::{
    accel,
    machine::Firmware,
    net::SERVER,
    sandbox::{self, Relay},
};
use network::{PAGE_PORT, RPC_PORT, SERVER_PORT};
use plan::{Corpus, MachineKind, Plan, Size};
use protocol::SecretKey;
use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use summary::Stage;
use text::catalogues::PACKAGES;

/// Boots machines from real firmware, trains a translation model on them, and proves their work.
///
/// By default the corpus is English-German from the gettext catalogues of distribution packages,
/// and the job takes about 12 minutes on two cores. One UEFI machine, one BIOS machine and a
/// worker on this host do it. It ends with the model, its BLEU, five sentences translated by the
/// workers, and a receipt proven from its block; then it runs until Ctrl-C.
#[derive(clap::Args, Debug)]
pub struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// The language of the catalogues: de, fr, es, pt_BR, …
    #[arg(long, value_name = "CODE", default_value = "de", conflicts_with_all = ["corpus", "source"])]
    lang: String,
    /// A corpus of one's own: `source<TAB>target` lines.
    #[arg(long, value_name = "FILE.tsv", conflicts_with_all = ["source", "target"])]
    corpus: Option<PathBuf>,
    /// A corpus of one's own: sentences, one a line; with --target.
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Their translations.
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    /// The kernel of the machines that boot.
    #[arg(long, value_enum, default_value = "prebuilt")]
    kernel: KernelFrom,
    /// Train on all of the corpus.
    #[arg(long)]
    full: bool,
    /// Train a tiny model on the project's own grammar instead: seconds, and no corpus to fetch. It
    /// shows the path and learns nothing to speak of.
    #[arg(long, conflicts_with_all = ["full", "corpus", "source"])]
    small: bool,
    /// The machines that boot.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIRMWARE,…",
          default_values = ["uefi", "bios"])]
    machines: Vec<MachineKind>,
    /// Boot no machine.
    #[arg(long, conflicts_with = "machines")]
    no_machines: bool,
    /// Run no worker on the host: the machines do all of it.
    #[arg(long)]
    no_host_worker: bool,
    /// Hold the host's worker to an instruction set: portable, avx2 or avx512.
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// Be a ProxyDHCP beside a foreign DHCP server instead of the DHCP server.
    #[arg(long)]
    proxy: bool,
    /// End when all is shown instead of running on.
    #[arg(long)]
    exit_when_done: bool,
    /// Write the summary there, for scripts (docs/up.md).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Data, logs and results of this run; emptied first.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Port of page and API on 127.0.0.1; another one where it is taken.
    #[arg(long, value_name = "PORT", default_value_t = PAGE_PORT)]
    port: u16,
    /// Take programs and image as they were built last.
    #[arg(long, hide = true)]
    no_build: bool,
}

/// The most machines of a run.
const MAX_MACHINES: usize = 64;
/// A file that says whose a run's folder is.
const MARK: &str = ".alia-up";

/// How long the program inside may take to end after an interrupt.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `up`.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stages = Vec::new();
    let mut stage = |name: &str, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        println!("{name}: {seconds:.1} s");
        stages.push(Stage { name: name.into(), seconds });
    };
    check(&flags)?;
    let corpus_files = corpus_of(&flags)?;
    let size = match (flags.small, flags.full) {
        (true, _) => Size::Small,
        (_, true) => Size::Full,
        _ => Size::Default,
    };
    let catalogues = format!("{}: the corpus", PACKAGES.join(", "));
    let more: &[&str] = if corpus_files.is_none() { &[&catalogues] } else { &[] };
    if !flags.no_build && !setup::announce(&flags.sources, flags.kernel.purpose(), more)? {
        return Ok(());
    }
    // What cannot work is said before an hour goes into it.
    let folder = flags.folder.clone().unwrap_or_else(|| workspace::target().join("up"));
    let (folder, _held) = hold_folder(&folder)?;
    let privilege = sandbox::privilege()?;
    if let Some(corpus) = &corpus_files {
        check_corpus(corpus, size)?;
    }
    if let Some(path) = &flags.json {
        // Now, and not after the training; what an earlier run left there is not this one's.
        let file = fs::File::create(path);
        file.with_context(|| format!("the summary cannot be written to {}", path.display()))?;
    }

    let at = Instant::now();
    setup::install(flags.kernel.purpose())?;
    let packages = setup::packages(&flags.sources)?;
    let (files, comet) = setup::tools(&packages)?;
    stage("tools", at);
    let at = Instant::now();
    let corpus = match corpus_files {
        Some(corpus) => corpus,
        None => {
            let fetched = packages.fetch(&PACKAGES)?;
            let roots = fetched.into_iter().map(|each| (each.origin.name.clone(), each.root));
            let packages = roots.collect();
            let corpus = Corpus::Catalogues { language: flags.lang.clone(), packages };
            check_corpus(&corpus, size)?;
            corpus
        }
    };
    stage("catalogues", at);
    let image = workspace::image();
    if !flags.no_build {
        let at = Instant::now();
        println!("building the programs");
        build::programs()?;
        stage("programs", at);
        let at = Instant::now();
        let built = build::image(&packages, flags.kernel)?;
        let manifest = &built.manifest;
        println!(
            "image: kernel {}, {:.1} MB, digest {}",
            manifest.kernel_release,
            manifest.bytes() as f64 / 1e6,
            manifest.digest()
        );
        let kernel = build::kernel(flags.kernel, &packages)?;
        println!("{}", hardening::beside_source(&flags.sources, &setup::recipe()?.suite, &kernel));
        stage("image", at);
    }
    let at = Instant::now();
    let choice = accel::probe(Some(&image));
    println!("machines run by {}: {}", choice.accelerator, choice.reason);
    stage("accelerator", at);

    empty_folder(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    let Firmware::Ovmf { code, variables } = files.ovmf else { bail!("OVMF is not there") };
    let mut held = Vec::new();
    let mut relay = |name: &str, wanted: u16, inside: u16| Relay {
        name: name.into(),
        port: free_port(wanted, &mut held),
        inside: SocketAddr::from((SERVER, inside)),
    };
    let relays = vec![
        relay("page", flags.port, PAGE_PORT),
        relay("parameter-server", SERVER_PORT, SERVER_PORT),
        relay("ledger", RPC_PORT, RPC_PORT),
    ];
    drop(held);
    let address = |relay: &Relay| (relay.name.clone(), format!("127.0.0.1:{}", relay.port));
    let plan = Plan {
        folder: folder.clone(),
        corpus,
        size,
        machines: if flags.no_machines { Vec::new() } else { flags.machines },
        host_worker: !flags.no_host_worker,
        isa: flags.isa,
        proxy: flags.proxy,
        accelerator: choice.accelerator.to_string(),
        accelerator_reason: choice.reason,
        ovmf: (code, variables),
        ipxe: files.ipxe,
        comet,
        image,
        stages,
        elapsed: begun.elapsed().as_secs_f64(),
        exit_when_done: flags.exit_when_done,
        json: flags.json.map(std::path::absolute).transpose()?,
        addresses: relays.iter().map(address).collect(),
    };
    let path = folder.join("plan.json");
    fs::write(&path, serde_json::to_vec_pretty(&plan)?)?;
    let arguments = ["up-inside".into(), path.into_os_string()];
    let mut sandbox = sandbox::enter(privilege, &arguments, relays)?;
    let interrupted = interrupts()?;
    let status = loop {
        match sandbox.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
        // Ctrl-C reaches the program inside too, which ends; a signal to this one alone does not.
        let since = interrupted.get().map(Instant::elapsed);
        if since.is_some_and(|since| since > GRACE) {
            sandbox.end();
            bail!("interrupted; logs are in {}", folder.display());
        }
    };
    match status.code() {
        Some(0) => Ok(()),
        _ => bail!("the run ended with {status}; logs are in {}", folder.display()),
    }
}

/// What else can be wrong with the flags.
fn check(flags: &Flags) -> anyhow::Result<()> {
    if let Some(name) = &flags.isa {
        let isa: kernels::Isa = name.parse()?;
        if !isa.is_available() {
            bail!("this processor has no {isa}; it has {}", kernels::Isa::detect());
        }
    }
    if flags.source.is_some() != flags.target.is_some() {
        bail!(
            "--source and --target go together: one has the sentences, the other their translations"
        );
    }
    if flags.machines.len() > MAX_MACHINES {
        bail!("{} machines: {MAX_MACHINES} at most", flags.machines.len());
    }
    if flags.no_machines && flags.no_host_worker {
        bail!("nobody would work: leave the host's worker or a machine");
    }
    Ok(())
}

/// That a job can be made of a corpus.
fn check_corpus(corpus: &Corpus, size: Size) -> anyhow::Result<()> {
    corpus::make_job(corpus, size, SecretKey::generate()?.public()).map(drop)
}

/// The user's own corpus, or the grammar's; none for the catalogues.
fn corpus_of(flags: &Flags) -> anyhow::Result<Option<Corpus>> {
    let there = |path: &PathBuf| {
        path.canonicalize().with_context(|| format!("the corpus {}", path.display()))
    };
    Ok(match (&flags.corpus, &flags.source, &flags.target) {
        _ if flags.small => Some(Corpus::Grammar),
        (Some(file), _, _) => Some(Corpus::Tsv(there(file)?)),
        (_, Some(source), Some(target)) => Some(Corpus::Parallel(there(source)?, there(target)?)),
        _ => None,
    })
}

/// When this program was first interrupted: it waits for the one inside, which is as well.
fn interrupts() -> anyhow::Result<Arc<OnceLock<Instant>>> {
    let first = Arc::new(OnceLock::new());
    let told = first.clone();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            told.get_or_init(Instant::now);
        }
    });
    // It lives as long as the process.
    std::mem::forget(runtime);
    Ok(first)
}

/// The wanted port, or a free one where it is taken; held, so that no other of ours gets it.
fn free_port(wanted: u16, held: &mut Vec<TcpListener>) -> u16 {
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let Ok(free) = listen(wanted).or_else(|_| listen(0)) else { return 0 };
    let port = free.local_addr().map_or(0, |address| address.port());
    held.push(free);
    port
}

/// Makes the run's folder where there is none, and takes it for this run alone, for as long as the
/// file lives.
fn hold_folder(folder: &Path) -> anyhow::Result<(PathBuf, fs::File)> {
    let said = || format!("the run's folder {}", folder.display());
    if folder.to_str().is_none() {
        bail!("{}: its name is not UTF-8: name another --folder", said());
    }
    fs::create_dir_all(folder).with_context(said)?;
    let folder = folder.canonicalize().with_context(said)?;
    let path = folder.join(MARK);
    if !path.exists() && fs::read_dir(&folder).with_context(said)?.next().is_some() {
        bail!("{} holds something else: name another --folder", folder.display());
    }
    let mut mark = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(said)?;
    if let Err(error) = mark.try_lock() {
        bail!(
            "{}: {error}: another `up` runs in it; end that one, or name another --folder",
            said()
        );
    }
    mark.set_len(0).with_context(said)?;
    mark.write_all(b"`cargo xtask up` made this folder and will empty it.\n").with_context(said)?;
    Ok((folder, mark))
}

/// Empties a folder that is held, but for the mark by which it is.
fn empty_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == MARK => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_s_folder_is_its_own_while_it_runs_and_nobody_else_s_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("up");
        let (held, first) = hold_folder(&path).unwrap();
        fs::create_dir(held.join("chain")).unwrap();
        let second = hold_folder(&path).unwrap_err().to_string();
        assert!(second.contains("another `up` runs in it"), "{second}");
        drop(first);
        let (held, _second) = hold_folder(&path).unwrap();
        empty_folder(&held).unwrap();
        assert!(!held.join("chain").exists() && held.join(MARK).exists());
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("thesis.txt"), "years").unwrap();
        let refused = hold_folder(&other).unwrap_err().to_string();
        assert!(refused.contains("holds something else"), "{refused}");
        assert!(!other.join(MARK).exists());
    }
}
