//! What a client is told to boot: in DHCPv6 always a URL (RFC 5970).

use super::settings::Settings;
use crate::{
    dhcp::{
        classify::{Client, Platform, Way},
        settings::HttpBoot,
    },
    machine::Mac,
    quirks::Quirks,
};
use std::fmt;

/// What a client is told to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Option 59.
    pub url: String,
    /// UEFI HTTP boot wants its own class back.
    pub http: bool,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.strip_prefix("tftp://") {
            Some(path) => f.write_str(path.rsplit('/').next().unwrap_or(path)),
            None => f.write_str(&self.url),
        }
    }
}

/// What `client`, the machine `mac`, is told to boot; `replace` makes an iPXE load ours. Nothing for a
/// running system.
pub fn boot(
    settings: &Settings,
    quirks: &Quirks,
    mac: Mac,
    client: Client,
    replace: bool,
) -> Option<Boot> {
    let file = |platform| match platform {
        Platform::Bios => &settings.bios_file,
        Platform::Uefi => &settings.uefi_file,
    };
    match client {
        Client::Firmware(platform, way) => {
            // Firmware verifies a UKI; iPXE is signed by nobody whom it knows.
            let uki = settings.uki.as_ref().filter(|_| platform == Platform::Uefi);
            Some(match (way, uki) {
                (Way::Pxe, Some(uki)) => by_tftp(settings, quirks, mac, uki),
                (Way::Pxe, None) => by_tftp(settings, quirks, mac, file(platform)),
                (Way::Http, Some(uki)) => by_http(settings, quirks, mac, "uki", uki),
                (Way::Http, None) => by_http(settings, quirks, mac, "ipxe", file(platform)),
            })
        }
        Client::Ipxe(platform, _) if replace => {
            Some(by_tftp(settings, quirks, mac, file(platform)))
        }
        Client::Ipxe(..) => {
            Some(Boot { url: format!("{}/boot.ipxe", settings.base_url), http: false })
        }
        Client::System | Client::Unsupported(_) => None,
    }
}

/// The machine's address in the name tells whose transfer it is, and what is behind it how gently.
fn by_tftp(settings: &Settings, quirks: &Quirks, mac: Mac, file: &str) -> Boot {
    let (server, mac) = (settings.server(), mac.hyphenated());
    let care = quirks.care.part().map(|part| format!("{part}/")).unwrap_or_default();
    Boot { url: format!("tftp://[{server}]/{mac}/{care}{file}"), http: false }
}

fn by_http(settings: &Settings, quirks: &Quirks, mac: Mac, folder: &str, file: &str) -> Boot {
    let base = match quirks.https.unwrap_or(settings.http_boot == HttpBoot::Https) {
        true => &settings.https_url,
        false => &settings.base_url,
    };
    Boot { url: format!("{base}/{folder}/{file}?mac={}", mac.hyphenated()), http: true }
}
