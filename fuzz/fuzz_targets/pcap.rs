//! A capture, from the file's bytes to what a replay says of it.
#![no_main]

use fuzz::{switches, target};
use provisioner::{
    config::{Options, Part},
    dhcp::answerer::Answerer,
    quirks::Rules,
    replay::{capture, frame, scene::Scene, walk},
    store::{Place, Store},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// One database for all inputs: what an answer says may then hang on those before, but whether it
/// panics does not.
fn store() -> Arc<Store> {
    static STORE: OnceLock<(tempfile::TempDir, Arc<Store>)> = OnceLock::new();
    let made = || {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&Place::File(folder.path().join("p.sqlite")), BTreeMap::new());
        (folder, Arc::new(store.expect("a store")))
    };
    STORE.get_or_init(made).1.clone()
}

target!(|bytes: &[u8]| {
    let Some((switch, file)) = switches(bytes) else { return };
    let Ok(capture) = capture::read(file) else { return };
    assert!(capture.frames.len() * 16 <= file.len(), "frames out of nothing");
    let datagrams = frame::datagrams(&capture);
    assert!(datagrams.iter().all(|datagram| datagram.payload.len() <= file.len()));
    let part = match (switch(0), switch(1)) {
        (true, _) => Some(Part::Full),
        (_, true) => Some(Part::Proxy),
        _ => None,
    };
    let address = switch(2).then(|| [10, 77, 0, 1].into());
    let options = Options { dhcp: part, address, ..Options::default() };
    let scene = Scene::of(&datagrams, &options);
    let Ok(settings) = scene.settings(&options) else { return };
    let rules = Rules::load(None, BTreeMap::new()).expect("the built-in table");
    let answerer = Answerer::new(settings, rules, store());
    let report = walk::walk(&capture, &datagrams, &scene, &answerer, None);
    assert!(report.steps.len() <= datagrams.len());
    let text = report.to_string();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "it goes to a terminal");
});
