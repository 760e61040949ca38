//! An owner of machines under Secure Boot: firmware that has the owner's keys, and UKIs signed with
//! them.

use image::{
    Packages,
    secure_boot::{Keys, Tools},
    uki::{self, Site},
};
use lab::{
    efi_variables::Variables,
    services::Provisioner,
    tools::{self, SecureBootFiles},
};
use protocol::boot::ImageManifest;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What an owner takes of the suite's packages. Inside there is no network to fetch it by.
pub(crate) fn fetched(packages: &Packages) -> (SecureBootFiles, Tools) {
    let files = tools::secure_boot_files(packages).unwrap_or_else(|error| panic!("{error}"));
    (files, Tools::fetch(packages).unwrap_or_else(|error| panic!("{error}")))
}

/// An owner, with what is booted and signed.
pub(crate) struct Owner {
    folder: PathBuf,
    pub(crate) files: SecureBootFiles,
    pub(crate) tools: Tools,
    pub(crate) keys: Keys,
}

impl Owner {
    /// One with new keys, in `folder`.
    pub(crate) fn new(folder: &Path, packages: &Packages) -> Self {
        let (files, tools) = fetched(packages);
        let (keys, made) = Keys::ensure(&folder.join("keys"), &tools).unwrap();
        assert_eq!(made.len(), 4);
        Self { folder: folder.into(), files, tools, keys }
    }

    /// Variables with the owner's keys, and Secure Boot on.
    pub(crate) fn variables(&self) -> PathBuf {
        let template = fs::read(&self.files.variables).unwrap();
        let mut variables = Variables::read(template).unwrap();
        let der = |name| self.keys.key(name).der().unwrap();
        variables.enrol(&der("PK"), &der("KEK"), &der("db")).unwrap();
        let path = self.folder.join("owned.vars");
        fs::write(&path, variables.bytes()).unwrap();
        path
    }

    /// A UKI of what a provisioner serves, unsigned, with `more` on its command line.
    pub(crate) fn uki(&self, served: &Provisioner, microcode: bool, more: &[&str]) -> Vec<u8> {
        let site = |manifest: &ImageManifest| Site {
            provisioner: format!("http://{}", served.http()),
            key: served.key().unwrap(),
            chain: served.chain.clone(),
            release: manifest.digest(),
            consoles: vec!["ttyS0,115200".into()],
            arguments: more.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        uki::of_image(&served.image, &self.files.stub, microcode, site).unwrap().bytes
    }

    /// A UKI signed with the key of that name.
    pub(crate) fn signed(&self, uki: &[u8], key: &'static str) -> Vec<u8> {
        let key = self.keys.key(key);
        let unsigned = self.folder.join("unsigned.efi");
        let signed = self.folder.join("signed.efi");
        fs::write(&unsigned, uki).unwrap();
        self.tools.sign(&key, &unsigned, &signed).unwrap();
        self.tools.verify(&key.certificate(), &signed).unwrap();
        fs::read(signed).unwrap()
    }
}
