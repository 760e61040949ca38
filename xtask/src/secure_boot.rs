//! `cargo xtask uki` and `cargo xtask stick`: what firmware verifies and boots, and its keys.

use crate::{
    image::manifest,
    setup::{self, Sources},
    workspace,
};
use anyhow::Context;
use image::{
    Packages, bios, medium,
    packages::Origin,
    report::{MADE, OWNER},
    sbom::{self, Around},
    secure_boot::{Key, Keys, Tools},
    stick,
    uki::{self, Site},
};
use lab::tools::{self, SecureBootFiles};
use protocol::{ChainId, PublicKey, boot::ImageManifest};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Makes the site's unified kernel image: kernel, initramfs and command line in one EFI program,
/// signed with the site's key (keys/secure-boot/db.key, made where it is not there). The
/// provisioner gives it to UEFI firmware by --uki.
#[derive(clap::Args, Debug)]
pub struct UkiFlags {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    site: SiteFlags,
    /// Where it is written; NAME.sbom.json beside it says where its bytes come from.
    #[arg(long, value_name = "FILE", default_value = "target/aliaos.efi")]
    out: PathBuf,
}

/// Makes a stick that boots the site's UKI: through the distribution's shim, signed by Microsoft,
/// for PCs that keep Microsoft's keys; the UKI is signed with keys/secure-boot/MOK.key, which its
/// user enrols once at the machine's screen.
#[derive(clap::Args, Debug)]
pub struct StickFlags {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    site: SiteFlags,
    /// For machines with the site's own keys in their firmware: no shim, the UKI signed with
    /// keys/secure-boot/db.key.
    #[arg(long)]
    own_keys: bool,
    /// Where it is written; NAME.sbom.json beside it says where its bytes come from.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes the medium for miners at home, which the provisioner gives out by --medium (docs/home.md):
/// a stick of the site's UKI with a place for its owner's record. The provisioner's address is one
/// that a home reaches, by TLS: `https://boot.example:8443`.
#[derive(clap::Args, Debug)]
pub struct MediumFlags {
    #[command(flatten)]
    stick: StickFlags,
}

/// What a UKI is made of and tells its machines.
#[derive(clap::Args, Debug)]
struct SiteFlags {
    /// The image's folder.
    #[arg(long, value_name = "FOLDER")]
    image: Option<PathBuf>,
    /// The provisioner's address, as machines reach it: http://10.0.0.1:8080, or by TLS and its key
    /// alone, https://boot.example:8443.
    #[arg(long, value_name = "URL")]
    provisioner: String,
    /// Its public key, as `provisioner key FILE` prints it.
    #[arg(long, value_name = "HEX")]
    key: PublicKey,
    /// The chain's id.
    #[arg(long, value_name = "ID")]
    chain: ChainId,
    /// Kernel consoles; the last is where node-init writes.
    #[arg(long, value_name = "CONSOLE", default_values = ["tty1", "ttyS0,115200"])]
    console: Vec<String>,
    /// More kernel arguments.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    kernel_argument: Vec<String>,
    /// Leave microcode out, which is more than half of the file: processors keep what their
    /// board's firmware has.
    #[arg(long)]
    no_microcode: bool,
}

impl SiteFlags {
    /// The image's folder.
    fn folder(&self) -> PathBuf {
        self.image.clone().unwrap_or_else(workspace::image)
    }

    /// The UKI, unsigned.
    fn uki(&self, stub: &Path) -> anyhow::Result<Vec<u8>> {
        let folder = self.folder();
        let site = |manifest: &ImageManifest| Site {
            provisioner: self.provisioner.clone(),
            key: self.key,
            chain: self.chain.clone(),
            release: manifest.digest(),
            consoles: self.console.clone(),
            arguments: self.kernel_argument.clone(),
        };
        let uki = uki::of_image(&folder, stub, !self.no_microcode, site)
            .with_context(|| format!("the image in {}: `cargo xtask image`", folder.display()))?;
        println!("command line: {}", uki.command_line);
        Ok(uki.bytes)
    }

    /// Writes beside what firmware starts where its bytes come from: the image's bill, and `around`.
    fn bill(
        &self,
        packages: &Packages,
        files: &SecureBootFiles,
        (out, content): (&Path, &[u8]),
        around: &[Around<'_>],
    ) -> anyhow::Result<()> {
        let folder = self.folder();
        let path = folder.join("sbom.json");
        let said = || path.display().to_string();
        let image: Value =
            serde_json::from_slice(&fs::read(&path).with_context(said)?).with_context(said)?;
        let origins = files.packages.iter().map(|package| &package.origin);
        let is_used = |origin: &&Origin| around.iter().any(|file| file.from == origin.name);
        let origins: Vec<&Origin> = origins.filter(is_used).collect();
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let bill = sbom::around(
            &image,
            &manifest(&folder)?,
            (&*name, content),
            around,
            &origins,
            packages.suite(),
        );
        let stray = || format!("{} is of another image: `cargo xtask image`", path.display());
        let bill = serde_json::to_vec_pretty(&bill.with_context(stray)?)?;
        let path = out.with_extension("sbom.json");
        fs::write(&path, bill).with_context(|| path.display().to_string())?;
        println!("{} says where its bytes come from", path.display());
        Ok(())
    }
}

/// What a UKI has beside the image's own files.
fn beside_image<'a>(
    program: &'a [u8],
    stub: &'a [u8],
    certificate: &'a [u8],
) -> anyhow::Result<Vec<Around<'a>>> {
    let mut parts = vec![
        Around { name: uki::STUB, bytes: stub, from: uki::STUB_PACKAGE },
        Around { name: "certificate of the signature", bytes: certificate, from: OWNER },
    ];
    for section in uki::sections(program)? {
        // The others are the stub's own, or files of the image.
        let mut texts = [".osrel", ".cmdline", ".uname"].into_iter();
        if let Some(name) = texts.find(|name| *name == section.name) {
            parts.push(Around { name, bytes: &program[section.content], from: MADE });
        }
    }
    Ok(parts)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// The keys of Secure Boot below keys/secure-boot, made where they are not there.
pub fn keys(packages: &Packages) -> anyhow::Result<(Keys, Tools)> {
    let tools = Tools::fetch(packages)?;
    let folder = workspace::keys().join("secure-boot");
    let (keys, made) = Keys::ensure(&folder, &tools)?;
    if !made.is_empty() {
        println!("  made the keys {} in {}", made.join(", "), folder.display());
    }
    Ok((keys, tools))
}

/// Makes a UKI.
pub fn uki(flags: UkiFlags) -> anyhow::Result<()> {
    let packages = setup::packages(&flags.sources)?;
    let files = tools::secure_boot_files(&packages)?;
    let (keys, tools) = keys(&packages)?;
    let (uki, key) = (flags.site.uki(&files.stub)?, keys.key("db"));
    let signed = sign(&tools, &key, &uki, &flags.out)?;
    println!("{}: {:.1} MB, signed with db", flags.out.display(), signed.len() as f64 / 1e6);
    let (stub, certificate) = (read(&files.stub)?, key.der()?);
    let parts = beside_image(&uki, &stub, &certificate)?;
    flags.site.bill(&packages, &files, (&flags.out, &signed), &parts)
}

/// Makes a stick.
pub fn stick(flags: StickFlags) -> anyhow::Result<()> {
    on_stick(flags, Kind::Stick)
}

/// Makes the medium for miners.
pub fn medium(flags: MediumFlags) -> anyhow::Result<()> {
    on_stick(flags.stick, Kind::Medium)
}

/// What a stick is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A site's machines: UEFI alone.
    Stick,
    /// Somebody's at home: a CD and BIOS, too.
    Medium,
}

fn on_stick(flags: StickFlags, kind: Kind) -> anyhow::Result<()> {
    let packages = setup::packages(&flags.sources)?;
    let mut files = tools::secure_boot_files(&packages)?;
    let loader = match kind {
        Kind::Stick => None,
        Kind::Medium => {
            let (loader, packages) = tools::bios_loader(&packages)?;
            files.packages.extend(packages);
            Some(loader)
        }
    };
    let (keys, tools) = keys(&packages)?;
    let uki = flags.site.uki(&files.stub)?;
    let key = keys.key(if flags.own_keys { "db" } else { "MOK" });
    let signed = sign(&tools, &key, &uki, &flags.out.with_extension("efi"))?;
    let (stub, certificate) = (read(&files.stub)?, key.der()?);
    let (shim, mok_manager) = (read(&files.shim)?, read(&files.mok_manager)?);
    let mut parts = beside_image(&uki, &stub, &certificate)?;
    if let Some(loader) = &loader {
        parts.extend([
            Around { name: bios::ISOLINUX, bytes: &loader.isolinux, from: bios::ISOLINUX_PACKAGE },
            Around { name: bios::MASTER, bytes: &loader.master, from: bios::ISOLINUX_PACKAGE },
            Around { name: bios::MODULE, bytes: &loader.module, from: bios::MODULES_PACKAGE },
        ]);
    }
    let bytes = if flags.own_keys {
        parts.push(Around { name: stick::STARTED, bytes: &signed, from: MADE });
        match &loader {
            Some(loader) => medium::owned(&signed, loader)?,
            None => stick::owned(&signed)?,
        }
    } else {
        parts.extend([
            Around { name: stick::STARTED, bytes: &shim, from: stick::SHIM_PACKAGE },
            Around {
                name: stick::MOK_MANAGER_FILE,
                bytes: &mok_manager,
                from: stick::MOK_MANAGER_PACKAGE,
            },
            Around { name: stick::SHIM_STARTS, bytes: &signed, from: MADE },
            Around { name: stick::MOK_FILE, bytes: &certificate, from: OWNER },
        ]);
        match &loader {
            Some(loader) => {
                medium::through_shim(&shim, &mok_manager, &signed, &certificate, loader)?
            }
            None => stick::through_shim(&shim, &mok_manager, &signed, &certificate)?,
        }
    };
    fs::write(&flags.out, &bytes).with_context(|| flags.out.display().to_string())?;
    flags.site.bill(&packages, &files, (&flags.out, &bytes), &parts)?;
    println!("{:.1} MB", bytes.len() as f64 / 1e6);
    let out = flags.out.display();
    println!("{out}: write it to a stick, `dd if={out} of=/dev/sdX bs=4M oflag=direct`");
    if !flags.own_keys {
        println!(
            "once at each machine: shim says that it does not know the key; then, in MokManager, \
             \"Enroll key from disk\", the stick, {}",
            stick::MOK_FILE
        );
    }
    Ok(())
}

/// Signs a program, and holds the signature against the certificate.
fn sign(tools: &Tools, key: &Key, program: &[u8], output: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let unsigned = output.with_extension("unsigned");
    fs::write(&unsigned, program).with_context(|| unsigned.display().to_string())?;
    tools.sign(key, &unsigned, output)?;
    tools.verify(&key.certificate(), output)?;
    fs::remove_file(&unsigned).with_context(|| unsigned.display().to_string())?;
    fs::read(output).with_context(|| output.display().to_string())
}
