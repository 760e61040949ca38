//! A miner's medium, made as `cargo xtask medium` and `alia medium get` make it.

use cli::medium;
use image::uki::{self, Site};
use lab::services::Provisioner;
use protocol::{SecretKey, boot::ImageManifest};
use std::{
    future::Future,
    path::{Path, PathBuf},
};
use tokio::runtime::Runtime;

/// A UKI whose machines find the provisioner at `url`, and know it by its key.
pub(crate) fn uki(image: &Path, stub: &Path, served: &Provisioner, url: &str) -> Vec<u8> {
    let site = |manifest: &ImageManifest| Site {
        provisioner: url.into(),
        key: served.key().unwrap(),
        chain: served.chain.clone(),
        release: manifest.digest(),
        consoles: vec!["ttyS0,115200".into()],
        arguments: Vec::new(),
    };
    uki::of_image(image, stub, false, site).unwrap().bytes
}

/// Asks the running provisioner for a medium, makes it the miner's, and registers it.
pub(crate) fn get(
    runtime: &Runtime,
    served: &Provisioner,
    server: &medium::Provisioner,
    miner: &SecretKey,
    folder: &Path,
) -> PathBuf {
    let offer = ask(runtime, medium::offer(server, &served.chain));
    let signed = medium::sign(&served.chain, miner, server.key(), offer.unix_time, 3_600);
    let record = signed.unwrap();
    let content = ask(runtime, medium::fetch(server, &offer, |_| ()));
    ask(runtime, medium::register(server, &record));
    let stick = folder.join("mine.img");
    medium::write(&stick, content, &record).unwrap();
    stick
}

/// What a question to the provisioner comes to.
pub(crate) fn ask<T>(
    runtime: &Runtime,
    asked: impl Future<Output = Result<T, medium::MediumError>>,
) -> T {
    runtime.block_on(asked).unwrap_or_else(|error| panic!("{error}"))
}
