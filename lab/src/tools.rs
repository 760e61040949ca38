//! What the test bed needs: of the host, by distribution package, and in the cache.

use crate::{
    error::{At, Error},
    machine::Firmware,
};
use image::{
    Package, Packages,
    bios::{self, Loader},
    stick, uki,
};
use nix::unistd::geteuid;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a tool is for; asking for one kind asks for those before it too, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Building and booting: `up`.
    Up,
    /// The tests beyond that.
    Test,
    /// Comparing with others.
    Bench,
    /// A kernel from source, beside [`Purpose::Up`].
    Kernel,
    /// Everything by Buildroot, beside [`Purpose::Kernel`].
    Buildroot,
}

impl Purpose {
    /// Whether who asks for this kind needs a tool of another.
    fn needs(self, other: Self) -> bool {
        match (self, other) {
            (Self::Buildroot, other) => other == Self::Buildroot || Self::Kernel.needs(other),
            (Self::Kernel, other) => matches!(other, Self::Kernel | Self::Up),
            (_, Self::Kernel | Self::Buildroot) => false,
            _ => other <= self,
        }
    }
}

/// A package of the host's own distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The package.
    pub package: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// When it is needed.
    pub purpose: Purpose,
    /// Files any of which shows that it is there, whatever it was installed by. Else dpkg knows.
    shown_by: &'static [&'static str],
}

/// Everything needed of the host. What a Debian machine always has is not listed: apt, dpkg,
/// util-linux (unshare, nsenter, renice), coreutils.
pub const TOOLS: &[Tool] = &[
    Tool {
        package: "qemu-system-x86",
        why: "the machines that boot",
        purpose: Purpose::Up,
        shown_by: &["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"],
    },
    Tool {
        package: "seabios",
        why: "the firmware of BIOS machines",
        purpose: Purpose::Up,
        shown_by: &["/usr/share/seabios/bios-256k.bin", "/usr/local/share/qemu/bios-256k.bin"],
    },
    Tool {
        package: "ipxe-qemu",
        why: "the network boot ROM of BIOS machines",
        purpose: Purpose::Up,
        shown_by: &["/usr/lib/ipxe/qemu/efi-virtio.rom", "/usr/local/share/qemu/efi-virtio.rom"],
    },
    Tool {
        package: "iproute2",
        why: "the machines' network",
        purpose: Purpose::Up,
        shown_by: &["/usr/sbin/ip", "/sbin/ip", "/bin/ip", "/usr/bin/ip"],
    },
    Tool {
        package: "dnsmasq-base",
        why: "a foreign DHCP server, and a TFTP server to compare with",
        purpose: Purpose::Test,
        shown_by: &["/usr/sbin/dnsmasq"],
    },
    Tool {
        package: "cpio",
        why: "checking the image's archive",
        purpose: Purpose::Test,
        shown_by: &["/usr/bin/cpio", "/bin/cpio"],
    },
    Tool {
        package: "python3-venv",
        why: "the real sacreBLEU, to compare with",
        purpose: Purpose::Test,
        shown_by: &[],
    },
    Tool {
        package: "libopenblas0",
        why: "a matrix product to compare with",
        purpose: Purpose::Bench,
        shown_by: &["/usr/lib/x86_64-linux-gnu/libopenblas.so.0"],
    },
    Tool {
        package: "strace",
        why: "the system calls that the compute service makes",
        purpose: Purpose::Bench,
        shown_by: &["/usr/bin/strace"],
    },
    Tool {
        package: "gcc",
        why: "compiling the kernel",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/gcc"],
    },
    Tool {
        package: "make",
        why: "building the kernel",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/make"],
    },
    Tool {
        package: "flex",
        why: "the kernel's configuration language",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/flex"],
    },
    Tool {
        package: "bison",
        why: "the kernel's configuration language",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/bison"],
    },
    Tool {
        package: "bc",
        why: "constants of the kernel's timers",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/bc"],
    },
    Tool {
        package: "xz-utils",
        why: "unpacking the kernel's source",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/xz"],
    },
    Tool {
        package: "zstd",
        why: "packing the kernel",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/zstd"],
    },
    Tool {
        package: "openssl",
        why: "the key that modules are signed with",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/bin/openssl"],
    },
    Tool {
        package: "libssl-dev",
        why: "signing modules",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/include/openssl/ssl.h"],
    },
    Tool {
        package: "libelf-dev",
        why: "checking the kernel's object code",
        purpose: Purpose::Kernel,
        shown_by: &["/usr/include/libelf.h"],
    },
    Tool {
        package: "g++",
        why: "Buildroot's own tools",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/g++"],
    },
    Tool {
        package: "perl",
        why: "Buildroot's own scripts",
        purpose: Purpose::Buildroot,
        shown_by: &[],
    },
    Tool {
        package: "python3",
        why: "Buildroot's own scripts",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/python3"],
    },
    Tool {
        package: "rsync",
        why: "Buildroot's copy of our source",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/rsync"],
    },
    Tool {
        package: "wget",
        why: "Buildroot's downloads",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/wget"],
    },
    Tool {
        package: "file",
        why: "Buildroot asks what files are",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/file"],
    },
    Tool {
        package: "patch",
        why: "Buildroot changes its packages",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/patch"],
    },
    Tool {
        package: "unzip",
        why: "Buildroot asks for it",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/unzip"],
    },
    Tool {
        package: "cpio",
        why: "Buildroot asks for it",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/cpio", "/bin/cpio"],
    },
    Tool {
        package: "bzip2",
        why: "unpacking sources",
        purpose: Purpose::Buildroot,
        shown_by: &["/usr/bin/bzip2", "/bin/bzip2"],
    },
];

/// Those of [`TOOLS`] that the host lacks for a purpose.
pub fn missing(purpose: Purpose) -> Vec<Tool> {
    let absent = |tool: &&Tool| {
        purpose.needs(tool.purpose)
            && !tool.shown_by.iter().any(|path| Path::new(path).exists())
            && !is_installed(tool.package)
    };
    TOOLS.iter().filter(absent).copied().collect()
}

fn is_installed(package: &str) -> bool {
    let format = "--showformat=${db:Status-Status}";
    let output = Command::new("dpkg-query").args(["--show", format, package]).output();
    output.is_ok_and(|output| output.stdout == b"installed")
}

/// A list for people: one package a line, and what it is for.
pub fn list(tools: &[Tool]) -> String {
    let lines = tools.iter().map(|tool| format!("  {:<18} {}\n", tool.package, tool.why));
    lines.collect()
}

/// The command that installs packages; through sudo for those who are not root. Pure.
pub fn install_command(tools: &[Tool], root: bool) -> Vec<String> {
    let sudo: &[&str] = if root { &[] } else { &["sudo"] };
    let fixed = sudo.iter().chain(&["apt-get", "install", "--yes", "--no-install-recommends"]);
    let packages = tools.iter().map(|tool| &tool.package);
    fixed.chain(packages).map(|word| word.to_string()).collect()
}

/// Installs packages of the host's distribution. Say what and why ([`list`]) before.
pub fn install(tools: &[Tool]) -> Result<(), Error> {
    if tools.is_empty() {
        return Ok(());
    }
    let root = geteuid().is_root();
    let words = install_command(tools, root);
    let by_hand = || words.join(" ");
    if !root && !Path::new("/usr/bin/sudo").exists() {
        return Err(Error::NeedsRoot {
            what: "installing packages",
            why: format!("there is no sudo; as root: {}", by_hand()),
            mend: "let somebody who is root install them",
        });
    }
    let run = |words: &[String]| -> Result<std::process::Output, Error> {
        // Not interactive: no question may hold the run up. (sudo asks on the terminal itself.)
        Command::new(&words[0])
            .args(&words[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .output()
            .at(&words[0])
    };
    if run(&words)?.status.success() {
        return Ok(());
    }
    // The host's lists may be missing or old.
    let mut update = words[..words.len() - tools.len() - 3].to_vec();
    update.push("update".into());
    run(&update)?;
    let output = run(&words)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("E:")).collect();
    let said = if errors.is_empty() { text.trim().to_string() } else { errors.join("; ") };
    let detail = format!("{said}\nby hand: {}", by_hand());
    Err(Error::Tool { tool: "apt-get install", detail })
}

/// Firmware and boot loaders for machines, from the newer suite's packages.
#[derive(Clone, Debug)]
pub struct BootFiles {
    /// UEFI firmware.
    pub ovmf: Firmware,
    /// A folder with iPXE's `undionly.kpxe`, `snponly.efi` and `ipxe.efi`.
    pub ipxe: PathBuf,
    /// Where they come from.
    pub packages: Vec<Package>,
}

/// Fetches [`BootFiles`].
pub fn boot_files(packages: &Packages) -> Result<BootFiles, Error> {
    let fetched = packages.fetch(&["ovmf", "ipxe"])?;
    let root = |name: &str| -> PathBuf {
        fetched.iter().find(|p| p.origin.name == name).map(|p| p.root.clone()).unwrap_or_default()
    };
    let folder = root("ovmf").join("usr/share/OVMF");
    let (code, variables) = (folder.join("OVMF_CODE_4M.fd"), folder.join("OVMF_VARS_4M.fd"));
    let ipxe = root("ipxe").join("usr/lib/ipxe");
    let loaders = ["undionly.kpxe", "snponly.efi", "ipxe.efi"].map(|name| ipxe.join(name));
    for path in [&code, &variables].into_iter().chain(&loaders) {
        if !path.exists() {
            let detail = "the package does not hold it".into();
            return Err(Error::BadFile { path: path.clone(), detail });
        }
    }
    Ok(BootFiles { ovmf: Firmware::Ovmf { code, variables }, ipxe, packages: fetched })
}

/// What machines boot by where firmware wants signatures, from the newer suite's packages.
#[derive(Clone, Debug)]
pub struct SecureBootFiles {
    /// OVMF with SMM.
    pub code: PathBuf,
    /// Its variables, with no keys: its setup mode.
    pub variables: PathBuf,
    /// Its variables with Microsoft's keys, as PCs are sold.
    pub microsoft: PathBuf,
    /// systemd's stub, of which UKIs are made.
    pub stub: PathBuf,
    /// The distribution's shim, signed by Microsoft.
    pub shim: PathBuf,
    /// shim's MokManager, signed by the distribution, whose key is in shim.
    pub mok_manager: PathBuf,
    /// Where they come from.
    pub packages: Vec<Package>,
}

/// Fetches [`SecureBootFiles`].
pub fn secure_boot_files(packages: &Packages) -> Result<SecureBootFiles, Error> {
    let names = ["ovmf", uki::STUB_PACKAGE, stick::SHIM_PACKAGE, stick::MOK_MANAGER_PACKAGE];
    let fetched = packages.fetch(&names)?;
    let file = |package: &str, inside: &str| {
        let package = fetched.iter().find(|each| each.origin.name == package);
        let path = package.map(|each| each.root.join(inside)).unwrap_or_default();
        match path.exists() {
            true => Ok(path),
            false => Err(Error::BadFile { path, detail: format!("the package has no {inside}") }),
        }
    };
    Ok(SecureBootFiles {
        code: file("ovmf", "usr/share/OVMF/OVMF_CODE_4M.secboot.fd")?,
        variables: file("ovmf", "usr/share/OVMF/OVMF_VARS_4M.fd")?,
        microsoft: file("ovmf", "usr/share/OVMF/OVMF_VARS_4M.ms.fd")?,
        stub: file(uki::STUB_PACKAGE, uki::STUB)?,
        shim: file(stick::SHIM_PACKAGE, stick::SHIM)?,
        mok_manager: file(stick::MOK_MANAGER_PACKAGE, stick::MOK_MANAGER)?,
        packages: fetched,
    })
}

/// What a miner's medium starts by BIOS, and the packages that it comes from.
pub fn bios_loader(packages: &Packages) -> Result<(Loader, Vec<Package>), Error> {
    let fetched = packages.fetch(&[bios::ISOLINUX_PACKAGE, bios::MODULES_PACKAGE])?;
    let read = |inside: &str| {
        let path =
            fetched.iter().map(|package| package.root.join(inside)).find(|path| path.exists());
        let missing = || Error::BadFile { path: inside.into(), detail: "no package has it".into() };
        let path = path.ok_or_else(missing)?;
        fs::read(&path).at(path.display())
    };
    let loader = Loader {
        isolinux: read(bios::ISOLINUX)?,
        master: read(bios::MASTER)?,
        module: read(bios::MODULE)?,
    };
    Ok((loader, fetched))
}

/// The CometBFT that the ledger's application is written for.
pub const COMETBFT_VERSION: &str = "0.38.25";
/// The Go that its go.mod asks for.
const GO_WANTED: (u32, u32, u32) = (1, 22, 11);
/// The Go of the newer suite: a new enough one.
const GO_PACKAGES: [&str; 2] = ["golang-1.24-go", "golang-1.24-src"];

/// CometBFT's path, built by `go install` into the cache when it is not there yet.
pub fn cometbft(packages: &Packages, say: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    let folder = packages.cache().join("bin");
    let program = folder.join("cometbft");
    let version = |program: &Path| {
        let output = Command::new(program).arg("version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    if version(&program).as_deref() == Some(COMETBFT_VERSION) {
        return Ok(program);
    }
    let go = go(packages, say)?;
    say(&format!("building CometBFT {COMETBFT_VERSION} by go install"));
    fs::create_dir_all(&folder).at(folder.display())?;
    let output = Command::new(&go)
        .args(["install", "-trimpath"])
        .arg(format!("github.com/cometbft/cometbft/cmd/cometbft@v{COMETBFT_VERSION}"))
        .env("GOBIN", &folder)
        .env("CGO_ENABLED", "0")
        // The Go at hand is new enough: no other is fetched.
        .env("GOTOOLCHAIN", "local")
        .current_dir(&folder)
        .output()
        .at(go.display())?;
    let found = version(&program);
    if output.status.success() && found.as_deref() == Some(COMETBFT_VERSION) {
        return Ok(program);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(6)..].join("; ");
    let detail = match found {
        Some(found) if output.status.success() => {
            format!("built CometBFT {found}, not {COMETBFT_VERSION}")
        }
        _ => format!("{tail}\nlook at GOPROXY and the network (`go env`)"),
    };
    Err(Error::Tool { tool: "go install", detail })
}

/// A Go that is new enough: the host's, or the newer suite's unpacked in the cache.
fn go(packages: &Packages, say: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    let output = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
    let found = output.ok().and_then(|o| go_version(&String::from_utf8_lossy(&o.stdout)));
    if found.is_some_and(|found| found >= GO_WANTED) {
        return Ok("go".into());
    }
    let (major, minor, patch) = GO_WANTED;
    say(&format!("the host has no Go {major}.{minor}.{patch} or newer: taking {}", GO_PACKAGES[0]));
    // Go's tree links from one package into the other.
    let root = packages.merged(&packages.fetch(&GO_PACKAGES)?)?;
    let go = root.join("usr/lib/go-1.24/bin/go");
    if go.exists() {
        return Ok(go);
    }
    Err(Error::BadFile { path: go, detail: "the package does not hold it".into() })
}

/// `go1.22.11` as numbers.
fn go_version(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.trim().strip_prefix("go")?;
    // Distributions add words: `go1.24.4-X:nodwarf5`.
    let text = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_compared_as_numbers() {
        assert_eq!(go_version("go1.22.11\n"), Some((1, 22, 11)));
        assert_eq!(go_version("go1.24"), Some((1, 24, 0)));
        assert_eq!(go_version("go1.24.4-X:nodwarf5"), Some((1, 24, 4)));
        assert_eq!(go_version("devel"), None);
        assert!(go_version("go1.9.7") < Some(GO_WANTED));
    }

    #[test]
    fn what_is_said_is_what_is_installed() {
        let tools = &TOOLS[..2];
        assert!(
            list(tools)
                .lines()
                .zip(tools)
                .all(|(line, tool)| { line.contains(tool.package) && line.contains(tool.why) })
        );
        let wanted = "sudo apt-get install --yes --no-install-recommends qemu-system-x86 seabios";
        assert_eq!(install_command(tools, false).join(" "), wanted);
        assert_eq!(install_command(tools, true).join(" "), &wanted[5..]);
    }

    #[test]
    fn every_purpose_asks_for_those_before_it_too() {
        assert!(missing(Purpose::Up).len() <= missing(Purpose::Test).len());
        assert!(missing(Purpose::Test).len() <= missing(Purpose::Bench).len());
        assert!(Purpose::Kernel.needs(Purpose::Up) && !Purpose::Kernel.needs(Purpose::Test));
        assert!(!Purpose::Bench.needs(Purpose::Kernel));
        assert!(Purpose::Buildroot.needs(Purpose::Kernel) && Purpose::Buildroot.needs(Purpose::Up));
        assert!(!Purpose::Kernel.needs(Purpose::Buildroot));
        assert!(!Purpose::Bench.needs(Purpose::Buildroot));
    }
}
