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
    tools,
};
use std::{path::Path, process::Command};

/// What is fetched.
pub const PACKAGES: [&str; 2] = ["sbsigntool", "openssl"];

/// sbsigntool and OpenSSL, unpacked.
#[derive(Clone, Debug)]
pub struct Tools(tools::Tools);

impl Tools {
    /// Fetches and unpacks them.
    pub fn fetch(packages: &Packages) -> Result<Self, Error> {
        let tools = tools::Tools::fetch(packages, &PACKAGES)?;
        for program in ["usr/bin/sbsign", "usr/bin/openssl"] {
            tools.has(program)?;
        }
        Ok(Self(tools))
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
        let tree = self.0.tree();
        let mut command = self.0.command(&format!("usr/bin/{program}"));
        command.env("OPENSSL_CONF", tree.join("etc/ssl/openssl.cnf"));
        command.env("OPENSSL_MODULES", tree.join("usr/lib/x86_64-linux-gnu/ossl-modules"));
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
