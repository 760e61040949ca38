//! The image by way of Buildroot: its tree and ours (`image/buildroot`) build kernel and programs,
//! and the same builder as ever makes the image of what they left.

use crate::{
    build,
    crates::{self, Compilers, LIBC},
    keys, release,
    setup::recipe,
    workspace,
};
use ::image::{
    Packages,
    build::{self as builder, Build, Inputs},
    buildroot::Built,
    kernel::source,
    recipe::Flavour,
    sbom::Origins,
    toolchain::{TRIPLET, Toolchain},
};
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names the folder of Buildroot's tree.
pub const TREE: &str = "ALIA_BUILDROOT";
/// What cargo tells the programs that it runs, and what is not Buildroot's to know.
const OF_CARGO: [&str; 4] = ["LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTFLAGS"];

/// Buildroot, told where all is that the files below `image/buildroot` ask for by name.
pub struct Buildroot {
    tree: PathBuf,
    output: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Buildroot {
    /// With the output folder of a flavour: fetches the toolchain's packages, the kernel's source and
    /// the crates of `Cargo.lock`.
    pub fn prepare(packages: &Packages, tree: &Path, flavour: &str) -> anyhow::Result<Self> {
        let tree = tree.canonicalize().with_context(|| tree.display().to_string())?;
        version(&tree)?;
        let output = workspace::target().join("buildroot").join(flavour);
        fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
        let output = output.canonicalize()?;
        let toolchain = Toolchain::fetch(packages)?;
        let source = build::kernel_source(packages)?;
        let options = output.join("linux.options");
        let fragment = source::fragment(&recipe()?.kernel.source.options, &build::modules_key()?)?;
        // Its time says whether the kernel is to be configured anew.
        if fs::read_to_string(&options).ok().as_deref() != Some(fragment.as_str()) {
            fs::write(&options, fragment)?;
        }
        let archive = source.root.join(format!("usr/src/{}.tar.xz", source.origin.name));
        build::run(&["fetch", "--quiet", "--locked"], &[])?;
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo")));
        let downloads = env::var_os("BR2_DL_DIR")
            .unwrap_or_else(|| workspace::cache().join("buildroot").into_os_string());
        let environment = vec![
            ("ALIA_TOOLCHAIN", toolchain.path().into()),
            ("TAR", toolchain.tar().into()),
            ("ALIA_LINUX_TARBALL", format!("file://{}", archive.display()).into()),
            ("ALIA_LINUX_SOURCE_VERSION", source.origin.version.into()),
            ("ALIA_LINUX_TIME", source.origin.unix_time.to_string().into()),
            ("ALIA_LINUX_OPTIONS", options.into()),
            ("ALIA_CARGO_HOME", cargo_home.context("no home folder: set CARGO_HOME")?.into()),
            ("ALIA_XTASK", env::current_exe()?.into()),
            ("BR2_DL_DIR", downloads),
        ];
        Ok(Self { tree, output, environment })
    }

    /// Its tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Its output folder.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// A command of its tree, from a folder: its `make`, or a script.
    pub fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env("LC_ALL", "C").env("BR2_EXTERNAL", external());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in OF_CARGO {
            command.env_remove(name);
        }
        command
    }

    /// `make` in its tree.
    pub fn make(&self, targets: &[&str]) -> Command {
        let mut make = self.command("make", &self.tree);
        make.arg(format!("O={}", self.output.display())).args(targets);
        make.arg(format!("BR2_EXTERNAL={}", external().display()));
        make
    }

    /// What `make` says, where it succeeds: its output, and then its errors' and warnings'.
    pub fn said(&self, targets: &[&str]) -> anyhow::Result<(String, String)> {
        let output = self.make(targets).stdin(Stdio::null()).output().context("running make")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            let lines: Vec<&str> = out.lines().chain(errors.lines()).collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            bail!("Buildroot's `make {}` failed:\n{last}", targets.join(" "));
        }
        Ok((out, errors))
    }
}

/// Our tree beside Buildroot's.
pub fn external() -> PathBuf {
    workspace::root().join("image/buildroot")
}

/// Buildroot's version, as its tree has it.
pub fn version(tree: &Path) -> anyhow::Result<String> {
    let path = tree.join("Makefile");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("export BR2_VERSION := "));
    let line = line.with_context(|| format!("{} is no tree of Buildroot's", tree.display()))?;
    Ok(line.trim().to_string())
}

/// Builds the image of a flavour: kernel and programs by Buildroot, whose last step is
/// [`image_of`].
pub fn image(packages: &Packages, tree: &Path, flavour: &str, output: &Path) -> anyhow::Result<()> {
    possible(&recipe()?.flavoured(flavour)?.1).map_err(anyhow::Error::msg)?;
    let mut buildroot = Buildroot::prepare(packages, tree, flavour)?;
    println!("  Buildroot {}, in {}", version(tree)?, buildroot.output().display());
    fs::create_dir_all(output)?;
    buildroot.environment.push(("ALIA_OUTPUT", output.canonicalize()?.into()));
    buildroot.said(&[&defconfig(flavour)])?;
    // Buildroot looks at a package's source once: our members may have changed since.
    let configuration = fs::read_to_string(external().join("configs").join(defconfig(flavour)))?;
    let mut targets = rebuilt(&configuration);
    targets.push("all".into());
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let status = buildroot.make(&targets).status().context("running make")?;
    if !status.success() {
        bail!(
            "Buildroot failed; its last words are above. A source that it cannot fetch may be put \
             into {}, or named in {}/local.mk as NAME_OVERRIDE_SRCDIR",
            buildroot
                .environment
                .iter()
                .find(|(name, _)| *name == "BR2_DL_DIR")
                .map_or_else(String::new, |(_, folder)| folder.to_string_lossy().into_owned()),
            buildroot.output().display()
        );
    }
    Ok(())
}

/// Whether Buildroot can build a flavour, or why it cannot. Pure.
pub fn possible(flavour: &Flavour) -> Result<(), String> {
    if !flavour.built {
        return Err(format!("it cannot be built: {}", flavour.lacks));
    }
    match flavour.nvidia {
        None => Ok(()),
        Some(_) => Err("NVIDIA's modules are built for the kernel of `--kernel source` alone: \
                        leave `--builder buildroot` out"
            .into()),
    }
}

/// The targets that build our members of a configuration anew. Pure.
fn rebuilt(configuration: &str) -> Vec<String> {
    let ours = configuration
        .lines()
        .filter_map(|line| line.strip_prefix("BR2_PACKAGE_ALIA_")?.strip_suffix("=y"))
        .filter(|name| *name != "LINUX");
    ours.map(|name| format!("alia-{}-rebuild", name.to_lowercase())).collect()
}

/// The name of a flavour's configuration.
pub fn defconfig(flavour: &str) -> String {
    format!("aliaos_{flavour}_defconfig")
}

/// Makes the image of what Buildroot left in its output folder, and releases it.
pub fn image_of(
    packages: &Packages,
    folder: &Path,
    flavour: &str,
    output: &Path,
) -> anyhow::Result<Build> {
    let recipe = recipe()?;
    let built = Built::open(folder)?;
    let (flavoured, _) = recipe.flavoured(flavour)?;
    let libraries = packages.fetch(&flavoured.libraries.packages)?;
    let others = build::others(packages, flavour, |_, path| built.target(path))?;
    let image = builder::build(&Inputs {
        flavour,
        origins: &origins(packages, &built, &others)?,
        others: &others,
        recipe: &recipe,
        packages,
        kernel: built.kernel(&recipe.kernel.source.options, &build::kernel_source(packages)?)?,
        libraries: Some(built.libraries(&libraries)?),
        init: &built.target(&recipe.programs.init),
        compute: &built.target(&recipe.programs.compute),
        version: env!("CARGO_PKG_VERSION"),
        trust: &keys::ensure()?.root_json(),
        output,
    })?;
    release::of_image(output, None)?;
    Ok(image)
}

/// What the programs are made with: crates as cargo resolves them, Buildroot's compilers, and the C
/// library of their toolchain.
fn origins(
    packages: &Packages,
    built: &Built,
    others: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<Origins> {
    let said = |name: &str| {
        let program = built.host(name).display().to_string();
        crates::said(&program, &["--version"])
    };
    let libc = packages.fetch(&[LIBC])?.pop().context("the C library was not fetched")?;
    let compilers = Compilers {
        rustc: said("rustc")?,
        cc: said(&format!("{TRIPLET}-gcc"))?,
        kernel: None,
        libc: libc.origin.version,
    };
    crates::origins(others, compilers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_tells_its_version_and_another_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let error = version(folder.path()).unwrap_err().to_string();
        assert!(error.contains("Makefile"), "{error}");
        let makefile = folder.path().join("Makefile");
        fs::write(&makefile, "all:\n").unwrap();
        let error = version(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no tree of Buildroot's"), "{error}");
        fs::write(&makefile, "# x\nexport BR2_VERSION := 2026.08-rc1\n").unwrap();
        assert_eq!(version(folder.path()).unwrap(), "2026.08-rc1");
    }

    #[test]
    fn our_members_are_built_anew_and_the_kernel_is_not() {
        let configuration = "BR2_x86_64=y\nBR2_PACKAGE_ALIA_INIT=y\nBR2_PACKAGE_ALIA_LINUX=y\n";
        assert_eq!(rebuilt(configuration), ["alia-init-rebuild"]);
    }

    #[test]
    fn every_flavour_that_can_be_built_has_its_configuration_and_no_other_has_one() {
        let recipe = recipe().unwrap();
        let built = recipe.flavours.iter().filter(|(_, flavour)| possible(flavour).is_ok());
        let wanted: Vec<String> = built.map(|(name, _)| defconfig(name)).collect();
        let entries = fs::read_dir(external().join("configs")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> = names.collect();
        found.sort();
        assert_eq!(found, wanted);
    }
}
