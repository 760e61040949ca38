//! Whether what is named is there: files, the interface, the user. The edge.

use super::{Reach, report::Finding};
use crate::{
    config::{Options, Part, Part6},
    image::{Image, MANIFEST},
    net, net6,
    quirks::Rules,
    run,
    store::Place,
    tls::{
        ca::{Ca, Kind},
        start,
    },
};
use nix::unistd::{User, geteuid};
use std::{
    error::Error,
    fs::{self, File},
    path::Path,
};

/// Looks at all of it.
pub(super) fn look(options: &Options, reach: Reach) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    found.image(options, reach);
    found.files(options);
    found.database(options);
    found.user(options);
    if reach == Reach::All {
        found.network(options);
    }
    found.0
}

struct Found(Vec<Finding>);

impl Found {
    fn mistake(&mut self, key: &str, error: &(dyn Error + 'static)) {
        self.0.push(Finding::mistake(key, protocol::told(error).to_string()));
    }

    fn failed<T, E: Error + 'static>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.mistake(key, &error)).ok()
    }

    fn readable(&mut self, key: &str, what: &'static str, path: &Path, mend: &'static str) -> bool {
        self.failed(key, run::readable(what, path, mend)).is_some()
    }

    fn image(&mut self, options: &Options, reach: Reach) {
        let image = options.image.iter().map(|folder| ("image", folder));
        let flavours = options.flavour.iter().map(|flavour| ("flavour", &flavour.folder));
        for (key, folder) in image.chain(flavours) {
            match reach {
                Reach::All => {
                    self.failed(key, Image::open(folder));
                }
                Reach::BeforeStart => {
                    self.readable(key, "the image's", &folder.join(MANIFEST), "");
                }
            }
        }
    }

    fn files(&mut self, options: &Options) {
        if let Some(folder) = &options.ipxe {
            let (bios, uefi) = run::ipxe_files(options);
            for file in [bios, uefi] {
                self.readable("ipxe", "iPXE", &folder.join(file), run::NO_IPXE);
            }
        }
        if let Some(uki) = &options.uki {
            self.readable("uki", "the UKI", uki, run::NO_UKI);
        }
        if let Some(medium) = &options.medium {
            self.readable("medium", "the medium", medium, "");
        }
        self.failed("quirks", Rules::load(options.quirks.as_deref(), options.hands()));
        let named = [("key", &options.key), ("delegation", &options.delegation)];
        let there = named.iter().filter_map(|(key, path)| Some((*key, path.as_deref()?)));
        let missing = there.filter(|(key, path)| !self.readable(key, key, path, "")).count();
        // Where only some are given, that is told already.
        if missing == 0 && options.key.is_some() && options.delegation.is_some() {
            let whole = options.chain.is_some();
            if whole {
                self.failed("delegation", run::authority(options));
            }
        }
        let pair = [
            ("tls-certificate", "the certificate", &options.tls_certificate),
            ("tls-key", "the key", &options.tls_key),
            ("database-ca", "the database's authority", &options.database_ca),
        ];
        for (key, what, path) in pair {
            if let Some(path) = path {
                self.readable(key, what, path, "");
            }
        }
        let folder =
            start::folder(options.tls.as_deref(), &options.database.clone().unwrap_or_default());
        if folder.exists() && fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
            self.failed("tls", Ca::open(&folder));
            if folder.join(Kind::Rsa.files().0).exists() {
                self.failed("tls", Ca::open_of(Kind::Rsa, &folder));
            }
        }
    }

    fn database(&mut self, options: &Options) {
        let Place::File(path) = options.database.clone().unwrap_or_default() else { return };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let text = format!("the database's folder {} is not there: make it", folder.display());
            self.0.push(Finding::mistake("database", text));
        }
        if path.exists()
            && let Err(error) = File::options().read(true).write(true).open(&path)
        {
            let text = format!("the database {}: {error}", path.display());
            self.0.push(Finding::mistake("database", text));
        }
    }

    fn user(&mut self, options: &Options) {
        match &options.user {
            Some(name) => match User::from_name(name) {
                Ok(Some(user)) if user.uid.is_root() => {
                    let text = "user names root, whose rights are to be given up: name another";
                    self.0.push(Finding::mistake("user", text));
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let text = format!(
                        "there is no user {name:?} on this host: useradd --system {name} makes one"
                    );
                    self.0.push(Finding::mistake("user", text));
                }
                Err(error) => self.mistake("user", &error),
            },
            None if geteuid().is_root() => {
                let text = "it runs as root, and goes on so: name a user without rights by user, \
                            which it becomes once it has its ports";
                self.0.push(Finding::warning("user", text));
            }
            None => {}
        }
    }

    /// The interface, and what is to fit its network.
    fn network(&mut self, options: &Options) {
        let given = net::interface(options.interface.as_deref(), options.address);
        let Some(interface) = self.failed("interface", given) else { return };
        if let Some(mode) = options.dhcp.and_then(Part::mode) {
            let none = String::new;
            self.failed("pool", run::settings(options, mode, interface.network, none(), none()));
        }
        if options.dhcp == Some(Part::Full) {
            let network = interface.network;
            for router in options.router.iter().filter(|&&router| !network.contains(router)) {
                let text = format!(
                    "the router {router} is not within our network, that of {}",
                    network.address
                );
                self.0.push(Finding::warning("router", text));
            }
        }
        if options.dhcp6 == Some(Part6::Full) || options.address6.is_some() {
            self.failed("address6", net6::find(&interface.name, options.address6));
        }
    }
}
