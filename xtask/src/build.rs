//! Building the programs and the image.

use crate::{
    crates::{self, Compilers},
    keys, release,
    setup::recipe,
    workspace,
};
use ::image::{
    Package, Packages,
    build::{self, Build, Inputs},
    kernel::{Kernel, source},
};
use anyhow::{Context, bail};
use lab::tools::{self, Purpose};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Cargo, as it was called.
pub fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Runs cargo in the workspace, with more environment.
pub fn run(arguments: &[&str], environment: &[(&str, OsString)]) -> anyhow::Result<()> {
    let status = Command::new(cargo())
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(workspace::root())
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// The whole workspace but for what only tests want: chosen packages would have their dependencies built
/// once more, with fewer features.
const PROGRAMS: &[&str] = &["build", "--release", "--workspace", "--exclude", "fuzz"];

/// Builds the programs that run on the host, and node-init for the image.
pub fn programs() -> anyhow::Result<()> {
    std::thread::scope(|both| {
        // Each ends in a long piece for one core alone: they are built side by side.
        let init = both.spawn(init);
        let host = run(PROGRAMS, &[]);
        let init = init.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        host.and(init)
    })
}

/// As [`programs`], those of the host alone and without a word: for commands whose output is read.
pub fn programs_quietly() -> anyhow::Result<()> {
    run(&[PROGRAMS, &["--quiet"]].concat(), &[])
}

/// Programs that run as PID 1 or beside it are built for this target by name, so that
/// [`STATIC`] is about them alone and not about what runs while they are built.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The environment that makes programs for [`TARGET`] static.
pub const STATIC: (&str, &str) =
    ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");

/// Builds node-init as images take it: static, and without a word unless it fails.
pub fn init() -> anyhow::Result<()> {
    init_with(&[])
}

/// As [`init`], with more flags for cargo; in the same place.
pub fn init_with(flags: &[&str]) -> anyhow::Result<()> {
    Place::ours()?.init(flags)
}

/// Where programs are built: a checkout, its target folder, and cargo's own.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) cargo_home: PathBuf,
}

impl Place {
    /// This checkout.
    pub(crate) fn ours() -> anyhow::Result<Self> {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        Ok(Self {
            root: workspace::root(),
            target: workspace::target(),
            cargo_home: home.context("neither CARGO_HOME nor HOME is set")?,
        })
    }

    /// node-init, static.
    pub(crate) fn init(&self, flags: &[&str]) -> anyhow::Result<()> {
        let build =
            ["build", "--quiet", "--profile", "init", "-p", "node-init", "--target", TARGET];
        self.cargo(&[&build, flags].concat(), true)
    }

    /// The compute service of a release; gives where it lies.
    pub(crate) fn compute(&self) -> anyhow::Result<PathBuf> {
        let build = ["build", "--quiet", "--release", "-p", "compute", "--target", TARGET];
        self.cargo(&build, false)?;
        Ok(self.target.join(TARGET).join("release/compute"))
    }

    /// Where node-init lies.
    pub(crate) fn init_path(&self) -> PathBuf {
        self.target.join(TARGET).join("init/node-init")
    }

    /// Runs cargo so that what it builds for [`TARGET`] is the same bytes wherever that is: the
    /// paths of this place, which panics tell of, become others. (By the flags' own environment,
    /// which has them apart from each other whatever is in a path.)
    fn cargo(&self, arguments: &[&str], is_static: bool) -> anyhow::Result<()> {
        // Of several that fit the last counts.
        let places =
            [(&self.cargo_home, "/cargo"), (&self.root, "/aliaos"), (&self.target, "/target")];
        let remap = |flag: &str| {
            let of = |(from, to): &(&PathBuf, &str)| format!("{flag}={}={to}", from.display());
            places.iter().map(of).collect::<Vec<_>>()
        };
        let mut rust = remap("--remap-path-prefix");
        if is_static {
            rust.extend(["-C".into(), "target-feature=+crt-static".into()]);
        }
        let status = Command::new(cargo())
            .args(arguments)
            .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f"))
            .env("CFLAGS_x86_64_unknown_linux_gnu", remap("-ffile-prefix-map").join(" "))
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_HOME", &self.cargo_home)
            .current_dir(&self.root)
            .status()
            .context("running cargo")?;
        if !status.success() {
            bail!("`cargo {}` failed", arguments.join(" "));
        }
        Ok(())
    }
}

/// The kernel of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KernelFrom {
    /// The distribution's own, as it is.
    #[default]
    Prebuilt,
    /// The distribution's source, with the options of image/image.toml: signed modules, hardened.
    Source,
}

impl KernelFrom {
    /// What campaigns boot: the distribution's, or what ALIA_KERNEL names.
    ///
    /// # Errors
    /// Where that is neither.
    pub fn of_campaign() -> anyhow::Result<Self> {
        match env::var("ALIA_KERNEL").ok().as_deref() {
            None | Some("prebuilt") => Ok(Self::Prebuilt),
            Some("source") => Ok(Self::Source),
            Some(other) => bail!("ALIA_KERNEL is prebuilt or source, and not {other:?}"),
        }
    }

    /// What has to be on the host for it.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Prebuilt => Purpose::Up,
            Self::Source => Purpose::Kernel,
        }
    }
}

/// The flavour of machines that work on their processor.
pub const CPU: &str = "cpu";

/// Builds the image of the cpu flavour into its folder.
pub fn image(packages: &Packages, kernel: KernelFrom) -> anyhow::Result<Build> {
    image_into(packages, kernel, CPU, &workspace::image())
}

/// Builds an image into another folder, and releases it.
pub fn image_into(
    packages: &Packages,
    kernel: KernelFrom,
    flavour: &str,
    output: &Path,
) -> anyhow::Result<Build> {
    let compute = match kernel {
        KernelFrom::Prebuilt => workspace::program("compute"),
        // Of a release anybody can make the same bytes again.
        KernelFrom::Source => Place::ours()?.compute()?,
    };
    image_with(packages, kernel, flavour, &compute, output)
}

/// Builds an image with another program as its compute service, and releases it.
pub fn image_with(
    packages: &Packages,
    kernel: KernelFrom,
    flavour: &str,
    compute: &Path,
    output: &Path,
) -> anyhow::Result<Build> {
    let built = unsigned(packages, kernel, flavour, (&workspace::init(), compute), output)?;
    release::of_image(output, None)?;
    Ok(built)
}

/// Builds an image of node-init and compute service as they lie there, and does not release it.
pub(crate) fn unsigned(
    packages: &Packages,
    kernel: KernelFrom,
    flavour: &str,
    (init, compute): (&Path, &Path),
    output: &Path,
) -> anyhow::Result<Build> {
    let trust = keys::ensure()?.root_json();
    let others = others(packages, flavour, |name, _| workspace::program(name))?;
    Ok(build::build(&Inputs {
        flavour,
        others: &others,
        origins: &crates::origins(&others, Compilers::of_host(kernel == KernelFrom::Source)?)?,
        recipe: &recipe()?,
        packages,
        kernel: self::kernel(kernel, packages)?,
        libraries: None,
        init,
        compute,
        version: env!("CARGO_PKG_VERSION"),
        trust: &trust,
        output,
    })?)
}

/// A flavour's own programs: CometBFT is built by go install, ours lie where `place` says by name
/// and path in the root.
pub(crate) fn others(
    packages: &Packages,
    flavour: &str,
    place: impl Fn(&str, &str) -> PathBuf,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let (_, wanted) = recipe()?.flavoured(flavour)?;
    let mut others = BTreeMap::new();
    for (name, path) in &wanted.programs {
        let path = match name.as_str() {
            "cometbft" => tools::cometbft(packages, &|text| println!("  {text}"))?,
            name => place(name, path),
        };
        others.insert(name.clone(), path);
    }
    Ok(others)
}

/// The members of ours that an image with these other programs is made of.
pub(crate) fn ours(others: &BTreeMap<String, PathBuf>) -> Vec<&str> {
    let more = others.keys().map(String::as_str).filter(|name| *name != "cometbft");
    ["node-init", "compute"].into_iter().chain(more).collect()
}

/// The key that modules are signed with, made where there is none.
pub(crate) fn modules_key() -> anyhow::Result<PathBuf> {
    let key = workspace::keys().join("modules.pem");
    if source::ensure_key(&key)? {
        println!("  made the key that the kernel's modules are signed with: {}", key.display());
    }
    Ok(key)
}

/// The package of the kernel's source.
pub(crate) fn kernel_source(packages: &Packages) -> anyhow::Result<Package> {
    let mut fetched = packages.fetch(&[&recipe()?.kernel.source.package])?;
    fetched.pop().context("the kernel's source was not fetched")
}

/// The kernel of images.
pub fn kernel(from: KernelFrom, packages: &Packages) -> anyhow::Result<Kernel> {
    let recipe = recipe()?;
    if from == KernelFrom::Prebuilt {
        return Ok(build::prebuilt(&recipe, packages)?);
    }
    Ok(source::build(&source::Inputs {
        package: &kernel_source(packages)?,
        options: &recipe.kernel.source.options,
        key: &modules_key()?,
        cache: packages.cache(),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        say: Arc::new(|text| println!("  {text}")),
    })?)
}
