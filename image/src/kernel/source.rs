//! A kernel built from the distribution's source with the recipe's options.
//!
//! In the cache, below `kernels/`: `source-SHA256/`, the source unpacked, and a folder for each
//! kernel, named by what it was made of: the source, the options, the compiler, and the key that
//! its modules are signed with; in it `build/`, what modules of others are built with. These fix
//! every byte of it: time, user and host that a kernel tells of are set, and `cargo xtask test --long
//! reproducible` holds two builds against each other. A build that was cut off goes on from its `.partial` folder:
//! make holds an object to be made once the command that made it stands beside it.

use super::{
    Built, Kernel, Kind, kept,
    options::{Options, Unmet},
};
use crate::{
    error::{At, Error},
    packages::{Package, Progress},
};
use protocol::Digest;
use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How often people hear how far it is.
const TELL: Duration = Duration::from_secs(20);
/// Last lines of a failed build that are shown.
const SHOWN: usize = 15;
/// For how long a key for modules is valid; a kernel asks nothing about it.
const KEY_DAYS: &str = "36500";

/// What a kernel is built from.
pub struct Inputs<'a> {
    /// The distribution's source package.
    pub package: &'a Package,
    /// Its options.
    pub options: &'a Options,
    /// Signs its modules: a private key and its certificate, PEM. The kernel trusts it and no other.
    pub key: &'a Path,
    /// The cache's folder.
    pub cache: &'a Path,
    /// Compilers that run at a time.
    pub jobs: usize,
    /// Tells people how far it is.
    pub say: Progress,
}

/// Makes a key for modules, where there is none at `path`; true where it made one.
///
/// # Errors
/// [`Error`]: the disk, or openssl.
pub fn ensure_key(path: &Path) -> Result<bool, Error> {
    if path.exists() {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).at(folder)?;
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    // Nobody else's to read, from the first byte on.
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).at(&partial)?;
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-new", "-x509", "-newkey", "rsa:4096", "-nodes", "-sha512", "-batch"])
        .args(["-days", KEY_DAYS, "-subj", "/CN=aliaOS modules"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "keyUsage=digitalSignature"])
        .arg("-keyout")
        .arg(&partial);
    let certificate = said(&mut openssl, "openssl")?;
    fs::OpenOptions::new()
        .append(true)
        .open(&partial)
        .and_then(|mut file| file.write_all(&certificate))
        .at(&partial)?;
    fs::rename(&partial, path).at(path)?;
    Ok(true)
}

/// What `make allnoconfig` takes as `KCONFIG_ALLCONFIG`: the options, and the key that modules are
/// signed with.
///
/// # Errors
/// Where there is no such key.
pub fn fragment(options: &Options, key: &Path) -> Result<String, Error> {
    let key = key.canonicalize().at(key)?;
    Ok(format!("{}CONFIG_MODULE_SIG_KEY=\"{}\"\n", options.fragment(), key.display()))
}

/// Holds a configuration against the options that it was made of.
///
/// # Errors
/// [`Error::Options`] with those that it has otherwise.
pub fn check(options: &Options, configuration: &Path) -> Result<(), Error> {
    let configuration = fs::read_to_string(configuration).at(configuration)?;
    let unmet: Vec<String> = options.unmet(&configuration).iter().map(Unmet::to_string).collect();
    match unmet.is_empty() {
        true => Ok(()),
        false => Err(Error::Options { unmet: unmet.join("\n") }),
    }
}

/// Builds a kernel, or takes it from the cache.
///
/// # Errors
/// [`Error`]: options that the kernel does not take, the compiler, the disk.
pub fn build(inputs: &Inputs<'_>) -> Result<Kernel, Error> {
    let folder = inputs.cache.join("kernels");
    // Of a name that is no text make is asked; it says so itself.
    if folder.to_string_lossy().contains([' ', '\t', ':']) {
        return Err(Error::NoFolderForMake(folder));
    }
    fs::create_dir_all(&folder).at(&folder)?;
    let lock = folder.join("lock");
    let _lock = fs::File::create(&lock).and_then(|file| file.lock().map(|()| file)).at(&lock)?;
    let name = name(inputs)?;
    let root = folder.join(&name);
    if !root.exists() {
        let work = folder.join(format!("{name}.partial"));
        if work.exists() {
            (inputs.say)("going on with a build of this kernel that was cut off");
        }
        let made = make(inputs, &source(inputs, &folder)?, &work)?;
        fs::rename(&made, &root).at(&root)?;
        fs::remove_dir_all(&work).at(&work)?;
    }
    let built =
        Built { source: source(inputs, &folder)?, key: inputs.key.canonicalize().at(inputs.key)? };
    let origin = inputs.package.origin.clone();
    let package = inputs.package.root.clone();
    Ok(Kernel { kind: Kind::Source, root, origin, package, built: Some(built) })
}

/// Names a kernel by everything that its bytes follow from.
fn name(inputs: &Inputs<'_>) -> Result<String, Error> {
    let pem = fs::read_to_string(inputs.key).at(inputs.key)?;
    let certificate = certificate(&pem)
        .ok_or_else(|| Error::bad_file(inputs.key, "it has no certificate (PEM)"))?;
    let tools = ["gcc", "ld"].map(version).into_iter().collect::<Result<Vec<_>, _>>()?;
    let parts = (&inputs.package.origin.sha256, inputs.options.fragment(), certificate, tools);
    Ok(Digest::of("aliaOS kernel build v1", &parts).to_string())
}

/// The certificate of a PEM file.
fn certificate(pem: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let from = pem.find("-----BEGIN CERTIFICATE-----")?;
    let length = pem.get(from..)?.find(END)? + END.len();
    pem.get(from..from + length)
}

/// What a tool says of its version, in one line.
fn version(tool: &'static str) -> Result<String, Error> {
    let stdout = said(Command::new(tool).arg("--version").env("LC_ALL", "C"), tool)?;
    Ok(String::from_utf8_lossy(&stdout).lines().next().unwrap_or_default().to_string())
}

/// What a tool that ends soon wrote.
pub(super) fn said(command: &mut Command, tool: &'static str) -> Result<Vec<u8>, Error> {
    let output = command.output().at(tool)?;
    if !output.status.success() {
        let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(Error::Tool { tool, detail });
    }
    Ok(output.stdout)
}

/// The unpacked source.
fn source(inputs: &Inputs<'_>, folder: &Path) -> Result<PathBuf, Error> {
    let origin = &inputs.package.origin;
    let root = folder.join(format!("source-{}", origin.sha256));
    let tree = root.join(&origin.name);
    if tree.exists() {
        return Ok(tree);
    }
    let archive = inputs.package.root.join(format!("usr/src/{}.tar.xz", origin.name));
    (inputs.say)(&format!("unpacking the source of {} {}", origin.name, origin.version));
    let partial = folder.join(format!("source-{}.partial", origin.sha256));
    if partial.exists() {
        fs::remove_dir_all(&partial).at(&partial)?;
    }
    fs::create_dir_all(&partial).at(&partial)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--file"]).arg(&archive).current_dir(&partial);
    said(&mut tar, "tar")?;
    fs::rename(&partial, &root).at(&root)?;
    Ok(tree)
}

/// Builds below `work`; gives the folder with `boot/` and `lib/modules/`.
fn make(inputs: &Inputs<'_>, source: &Path, work: &Path) -> Result<PathBuf, Error> {
    let (objects, tree) = (work.join("objects"), work.join("tree"));
    let boot = tree.join("boot");
    fs::create_dir_all(&objects).at(&objects)?;
    fs::create_dir_all(&boot).at(&boot)?;
    let fragment = work.join("options");
    fs::write(&fragment, self::fragment(inputs.options, inputs.key)?).at(&fragment)?;
    let make = |targets: &[&str]| {
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(source)
            .arg(format!("O={}", objects.display()))
            .arg(format!("-j{}", inputs.jobs))
            .arg(format!("INSTALL_MOD_PATH={}", tree.display()))
            // Our own indices are made of the modules themselves.
            .args(["INSTALL_MOD_STRIP=1", "DEPMOD=true"])
            .args(targets)
            .env("LC_ALL", "C")
            .env("KCONFIG_ALLCONFIG", &fragment);
        stamps(&mut make, inputs.package.origin.unix_time);
        make
    };
    run(&mut make(&["allnoconfig"]), &inputs.say)?;
    check(inputs.options, &objects.join(".config"))?;
    (inputs.say)(&format!(
        "building the kernel of {} {} by {} compilers at a time: it takes a while, once",
        inputs.package.origin.name, inputs.package.origin.version, inputs.jobs
    ));
    let begun = Instant::now();
    run(&mut make(&["bzImage", "modules"]), &inputs.say)?;
    (inputs.say)(&format!("the kernel took {} s", begun.elapsed().as_secs()));
    run(&mut make(&["modules_install"]), &inputs.say)?;

    let path = objects.join("include/config/kernel.release");
    let release = fs::read_to_string(&path).at(&path)?.trim().to_string();
    let copy = |from: PathBuf, name: String| {
        let to = boot.join(name);
        fs::copy(&from, &to).map(|_| ()).at(&from)
    };
    copy(objects.join("arch/x86/boot/bzImage"), format!("vmlinuz-{release}"))?;
    copy(objects.join(".config"), format!("config-{release}"))?;
    kept::keep(&objects, &tree.join(kept::FOLDER))?;
    for link in ["build", "source"] {
        // They lead to where it was built.
        let _ = fs::remove_file(tree.join("lib/modules").join(&release).join(link));
    }
    Ok(tree)
}

/// Time, user and host that a kernel tells of, the same for whoever builds it.
pub(super) fn stamps(make: &mut Command, unix_time: u64) {
    make.env("KBUILD_BUILD_TIMESTAMP", format!("@{unix_time}"))
        .env("KBUILD_BUILD_USER", "alia")
        .env("KBUILD_BUILD_HOST", "alia")
        .env("KBUILD_BUILD_VERSION", "1");
}

/// Runs a command, telling people now and then how far it is, and what it said where it fails.
pub(super) fn run(command: &mut Command, say: &Progress) -> Result<(), Error> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // One pipe for both, so that a compiler's error stands beside the file that it is about.
    let (reader, writer) = std::io::pipe().at("pipe")?;
    command.stdout(writer.try_clone().at("pipe")?).stderr(writer);
    let mut child = command.spawn().at("make")?;
    // The command holds writing ends, too, and would keep the pipe open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut last: VecDeque<String> = VecDeque::new();
    let (mut files, mut told) = (0, Instant::now());
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.at("pipe")?).into_owned();
        if let Some(file) = compiled(&line) {
            files += 1;
            if told.elapsed() >= TELL {
                told = Instant::now();
                say(&format!("{files} files; now {file}"));
            }
        }
        last.push_back(line);
        if last.len() > SHOWN {
            last.pop_front();
        }
    }
    if child.wait().at("make")?.success() {
        return Ok(());
    }
    let detail = last.into_iter().collect::<Vec<_>>().join("\n");
    Err(Error::Tool { tool: "make", detail })
}

/// The file that a line of a kernel's build tells of: `  CC [M]  drivers/net/tun.o`.
fn compiled(line: &str) -> Option<&str> {
    let mut words = line.strip_prefix("  ")?.split_whitespace();
    let kind = words.next()?;
    matches!(kind, "CC" | "AS").then(|| words.last()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn lines_of_a_build_name_their_file() {
        assert_eq!(compiled("  CC [M]  drivers/net/tun.o"), Some("drivers/net/tun.o"));
        assert_eq!(compiled("  CC      init/main.o"), Some("init/main.o"));
        assert_eq!(compiled("  LD      vmlinux"), None);
        assert_eq!(compiled("make[1]: Entering"), None);
    }

    #[test]
    fn of_a_pem_file_the_certificate_counts_and_not_the_key() {
        let pem = "-----BEGIN PRIVATE KEY-----\nk\n-----END PRIVATE KEY-----\n\
                   -----BEGIN CERTIFICATE-----\nc\n-----END CERTIFICATE-----\n";
        let wanted = "-----BEGIN CERTIFICATE-----\nc\n-----END CERTIFICATE-----";
        assert_eq!(certificate(pem), Some(wanted));
        assert_eq!(certificate("-----BEGIN CERTIFICATE-----\n"), None);
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_last_lines() {
        let say: Progress = Arc::new(|_: &str| {});
        let mut good = Command::new("sh");
        run(good.args(["-c", "echo fine"]), &say).unwrap();
        let mut bad = Command::new("sh");
        let error = run(bad.args(["-c", "seq 100; echo broken >&2; exit 2"]), &say).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("broken") && text.contains("100") && !text.contains("\n80"),
            "{text}"
        );
    }
}
