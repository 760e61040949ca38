//! The keys of Secure Boot, as PEM files that are made once and never written over.

use super::{Tools, lists::signature_list, said};
use crate::error::{At, Error};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Every key, by the name of the variable that its certificate goes into, and what it is for.
///
/// RSA-2048, because that is what every firmware and shim knows.
pub const KEYS: [(&str, &str); 4] = [
    ("PK", "the platform key: whose machine it is; signs KEK"),
    ("KEK", "signs db"),
    ("db", "signs what firmware loads: our UKI"),
    ("MOK", "signs what the distribution's shim loads, on PCs that keep Microsoft's keys"),
];
/// Firmware looks at no dates; people and other tools do. Fifty years.
const DAYS: &str = "18262";

/// One key pair: `NAME.key` (secret), `NAME.crt` (certificate, PEM) and `NAME.cer` (the same, DER).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    folder: PathBuf,
    name: &'static str,
}

impl Key {
    /// `db`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The secret key's file.
    pub fn secret(&self) -> PathBuf {
        self.folder.join(format!("{}.key", self.name))
    }

    /// The certificate's file, PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join(format!("{}.crt", self.name))
    }

    /// The certificate's file, DER: what firmware's menus and `mokutil --import` take.
    pub fn binary(&self) -> PathBuf {
        self.folder.join(format!("{}.cer", self.name))
    }

    /// The certificate, DER.
    pub fn der(&self) -> Result<Vec<u8>, Error> {
        certificate_der(&self.certificate())
    }

    fn make(&self, tools: &Tools) -> Result<(), Error> {
        let secret = self.secret();
        let (new_secret, new_public) =
            (secret.with_extension("key.partial"), secret.with_extension("crt.partial"));
        let _ = fs::remove_file(&new_secret);
        // Nobody else's to read, from the first byte on.
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&new_secret).at(&new_secret)?;
        let subject = format!("/CN=aliaOS Secure Boot {}", self.name);
        let mut openssl = tools.command("openssl");
        openssl
            .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-batch"])
            .args(["-days", DAYS, "-subj", &subject])
            // None of them may vouch for other certificates.
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-addext", "keyUsage=digitalSignature"])
            .arg("-keyout")
            .arg(&new_secret)
            .arg("-out")
            .arg(&new_public);
        said("openssl", &mut openssl)?;
        let der = certificate_der(&new_public)?;
        let binary = self.binary();
        fs::File::create(&binary).and_then(|mut file| file.write_all(&der)).at(&binary)?;
        // The secret last: where it is, the others are.
        fs::rename(&new_public, self.certificate()).at(self.certificate())?;
        fs::rename(&new_secret, &secret).at(&secret)
    }
}

/// The keys below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// The keys below `folder`; those that are not there are made. Gives the names of those too.
    pub fn ensure(folder: &Path, tools: &Tools) -> Result<(Self, Vec<&'static str>), Error> {
        fs::create_dir_all(folder).at(folder)?;
        let keys = Self { folder: folder.into() };
        let mut made = Vec::new();
        for (name, _) in KEYS {
            let key = keys.key(name);
            if !key.secret().exists() {
                key.make(tools)?;
                made.push(name);
            }
        }
        if !made.is_empty() {
            keys.write_enrolment(tools)?;
        }
        Ok((keys, made))
    }

    /// One of [`KEYS`].
    pub fn key(&self, name: &'static str) -> Key {
        Key { folder: self.folder.clone(), name }
    }

    /// What firmware in its setup mode is given, in the order in which it must be: `db.auth`,
    /// `KEK.auth`, `PK.auth`, each signed by the key above it, and the bare lists (`.esl`) for
    /// firmware that takes those.
    fn write_enrolment(&self, tools: &Tools) -> Result<(), Error> {
        for (name, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
            let list = self.folder.join(format!("{name}.esl"));
            fs::write(&list, signature_list(&self.key(name).der()?)).at(&list)?;
            let signed = self.folder.join(format!("{name}.auth"));
            tools.sign_variable(&self.key(signer), name, &list, &signed)?;
        }
        Ok(())
    }
}

/// The first certificate of a PEM file, DER.
pub fn certificate_der(path: &Path) -> Result<Vec<u8>, Error> {
    let text = fs::read_to_string(path).at(path)?;
    let body = text
        .split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"))
        .map(|(body, _)| body.split_whitespace().collect::<String>());
    let der = body.and_then(|body| BASE64_STANDARD.decode(body).ok());
    der.ok_or_else(|| Error::bad_file(path, "it holds no certificate in PEM"))
}
