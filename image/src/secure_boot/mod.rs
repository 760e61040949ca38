//! Secure Boot with the user's own keys: keys and certificates, signed EFI programs, and what
//! firmware is enrolled with.
//!
//! Signing is sbsigntool's work and making keys is OpenSSL's, both of the newer suite's packages,
//! unpacked in the cache and run by the loader among them: nothing is installed.

mod keys;
mod lists;

pub use keys::{KEYS, Key, Keys, certificate_der};
pub use lists::{OWNER, signature_list};

use crate::{
    error::{At, Error},
    packages::Packages,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What is fetched.
pub const PACKAGES: [&str; 2] = ["sbsigntool", "openssl"];

/// Of the tree: where libraries are, and the loader.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// sbsigntool and OpenSSL, unpacked.
#[derive(Clone, Debug)]
pub struct Tools {
    tree: PathBuf,
}

impl Tools {
    /// Fetches and unpacks them.
    pub fn fetch(packages: &Packages) -> Result<Self, Error> {
        let tree = packages.with_libraries(&PACKAGES)?;
        for name in ["usr/bin/sbsign", "usr/bin/openssl", LOADER] {
            if !tree.join(name).exists() {
                return Err(Error::bad_file(tree.join(name), "the packages do not hold it"));
            }
        }
        Ok(Self { tree })
    }

    /// Signs an EFI program; the result takes the place of `output` whole.
    pub fn sign(&self, key: &Key, program: &Path, output: &Path) -> Result<(), Error> {
        let partial = output.with_extension("partial");
        let mut sbsign = self.command("sbsign");
        sbsign.arg("--key").arg(key.secret()).arg("--cert").arg(key.certificate());
        sbsign.arg("--output").arg(&partial).arg(program);
        said("sbsign", &mut sbsign)?;
        std::fs::rename(&partial, output).at(output)
    }

    /// Whether an EFI program carries a signature that holds under a certificate (PEM).
    pub fn verify(&self, certificate: &Path, program: &Path) -> Result<(), Error> {
        let mut sbverify = self.command("sbverify");
        said("sbverify", sbverify.arg("--cert").arg(certificate).arg(program)).map(drop)
    }

    /// Signs `list` as the new content of a firmware's variable: an `.auth` file, which firmware
    /// takes over the key that it trusts, or in its setup mode.
    pub fn sign_variable(
        &self,
        key: &Key,
        variable: &str,
        list: &Path,
        output: &Path,
    ) -> Result<(), Error> {
        let mut sbvarsign = self.command("sbvarsign");
        sbvarsign.arg("--key").arg(key.secret()).arg("--cert").arg(key.certificate());
        sbvarsign.arg("--attr").arg(
            "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS,\
             TIME_BASED_AUTHENTICATED_WRITE_ACCESS",
        );
        sbvarsign.arg("--output").arg(output).arg(variable).arg(list);
        said("sbvarsign", &mut sbvarsign).map(drop)
    }

    /// One of the programs, by the loader beside it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.tree.join(LOADER));
        // Of the host's libraries none.
        command.args(["--inhibit-cache", "--library-path"]).arg(self.tree.join(LIBRARIES));
        command.arg(self.tree.join("usr/bin").join(program));
        command.env("LC_ALL", "C");
        command.env("OPENSSL_CONF", self.tree.join("etc/ssl/openssl.cnf"));
        command.env("OPENSSL_MODULES", self.tree.join(LIBRARIES).join("ossl-modules"));
        command
    }
}

/// What a program says.
fn said(name: &'static str, command: &mut Command) -> Result<Vec<u8>, Error> {
    let output = command.output().at(name)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let both = [output.stderr, output.stdout].concat();
    let detail = String::from_utf8_lossy(&both).trim().to_string();
    Err(Error::Tool { tool: name, detail })
}
