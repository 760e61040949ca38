//! A provisioner's parts, each against its peer in the same run and on the same network.
//!
//! | file | work |
//! |---|---|
//! | [`http`] | the image by HTTP and HTTPS to 1, 100, 1,000 clients, against nginx |
//! | [`tftp`] | a file by TFTP at 1 ms of round trip ([`delay`]), against dnsmasq and tftpd-hpa |
//! | [`dhcp`] | DHCP exchanges, against dnsmasq and Kea |
//! | [`storm`] | a thousand machines at once, against one alone |
//! | [`fleet`] | ten thousand machines that run: CPU, the page, memory |
//!
//! Peers are the distribution's packages, unpacked in the cache ([`peers`]).

pub mod delay;
pub mod dhcp;
pub mod fleet;
pub mod http;
pub mod peers;
pub mod row;
pub mod storm;
pub mod tftp;
pub(crate) mod tls;

use crate::{
    sample::{self, Sizes},
    site::{self, Own, Parts},
};
use peers::Peers;
use row::Row;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is measured, found before the network is left behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Our program.
    pub provisioner: PathBuf,
    /// The peers.
    pub peers: Peers,
    /// Where the rows are kept, as JSON.
    pub result: PathBuf,
    /// Only the works of these names; all where it is empty.
    pub only: Vec<String>,
}

/// The works.
pub const WORKS: [&str; 5] = ["http", "tftp", "dhcp", "storm", "fleet"];

/// What the works share.
pub(crate) struct Bed {
    plan: Plan,
    folder: tempfile::TempDir,
    started: std::cell::Cell<u32>,
}

impl Bed {
    /// A provisioner with an image of these sizes, in a folder of its own.
    pub(crate) fn provisioner(&self, sizes: &Sizes) -> anyhow::Result<Own> {
        let folder = self.folder(&format!("provisioner-{}", self.count()))?;
        let parts = Parts {
            program: self.plan.provisioner.clone(),
            image: folder.join("image"),
            ipxe: folder.join("ipxe"),
        };
        sample::image(&parts.image, sizes)?;
        sample::boot_files(&parts.ipxe)?;
        Ok(Own::start(&parts, &folder)?)
    }

    pub(crate) fn program(&self) -> &Path {
        &self.plan.provisioner
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.plan.peers
    }

    /// A folder below the bed's.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn count(&self) -> u32 {
        self.started.set(self.started.get() + 1);
        self.started.get()
    }
}

/// Runs the works inside of the sandbox; each row is shown as it is there, and all are kept.
///
/// # Errors
/// Where our own part cannot be measured. A peer that cannot be had is a row that says so.
pub fn inside(plan: Plan, show: &mut dyn FnMut(&Row)) -> anyhow::Result<()> {
    site::network()?;
    let result = plan.result.clone();
    let folder = tempfile::Builder::new().prefix("alia-bench-").tempdir()?;
    let bed = Bed { plan, folder, started: Default::default() };
    let is_wanted =
        |name: &str| bed.plan.only.is_empty() || bed.plan.only.iter().any(|n| n == name);
    let mut rows = Vec::new();
    let mut keep = |row: Row| {
        show(&row);
        rows.push(row);
    };
    if is_wanted("http") {
        http::run(&bed, &mut keep)?;
    }
    if is_wanted("tftp") {
        tftp::run(&bed, &mut keep)?;
    }
    if is_wanted("dhcp") {
        dhcp::run(&bed, &mut keep)?;
    }
    if is_wanted("storm") {
        storm::run(&bed, &mut keep)?;
    }
    if is_wanted("fleet") {
        fleet::run(&bed, &mut keep)?;
    }
    fs::write(&result, serde_json::to_vec_pretty(&rows)?)?;
    Ok(())
}

/// A runtime for what is asked of servers.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
