//! From what modules say of themselves to the tables in the image, and to the order in which a
//! node loads them: the one writes what the other reads.
#![no_main]

use fuzz::target;
use image::kmod::{self, Module, NoModule};
use node_init::modalias::Catalogue;
use std::collections::BTreeSet;

/// The most modules of one input.
const MOST: usize = 64;

target!(|text: &str| {
    // Modules in paragraphs: a path, then `key=value` lines.
    let mut told = std::collections::BTreeMap::new();
    for paragraph in text.split("\n\n").take(MOST) {
        let (path, pairs) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let pairs = pairs.lines().filter_map(|line| line.split_once('='));
        // As in a module, whose pairs are parted by zero bytes and may hold anything else.
        let pair = |(key, value): (&str, &str)| (key.to_string(), value.replace('\r', "\n"));
        if is_plain(path) {
            told.insert(path.to_string(), pairs.map(pair).collect::<Vec<_>>());
        }
    }
    let list: String = told.keys().map(|path| format!("{path}\n")).collect();
    let order = kmod::index(&list);
    let wanted: Vec<String> = order.keys().cloned().collect();
    let read = |path: &str| -> Result<Module, NoModule> {
        let pairs = told.get(path).map_or(&[][..], Vec::as_slice);
        Ok(Module::new(path.into(), pairs))
    };
    let Ok(modules) = kmod::closure(&wanted, &order, &Default::default(), read) else { return };
    let (alias, dep, softdep) =
        (kmod::alias_file(&modules), kmod::dep_file(&modules), kmod::softdep_file(&modules));
    let catalogue = Catalogue::parse(alias.clone(), &dep, &softdep);
    let aliases: usize = modules.values().map(|module| module.aliases.len()).sum();
    assert_eq!(alias.lines().count(), 1 + aliases, "a line an alias: {alias:?}");
    let mut loaded = BTreeSet::new();
    let mut place = Vec::new();
    for name in modules.keys() {
        assert!(catalogue.has(name), "{name:?} of {dep:?}");
        place.extend(
            catalogue.load_order(name, &mut loaded).iter().map(|(name, _)| name.to_string()),
        );
    }
    let distinct: BTreeSet<&String> = place.iter().collect();
    assert_eq!(distinct.len(), place.len(), "a module is loaded once");
    for device in ["pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "*:x", ""] {
        for module in catalogue.matching(device) {
            catalogue.load_order(module, &mut BTreeSet::new());
        }
    }
});

/// As the paths of modules are.
fn is_plain(path: &str) -> bool {
    path.ends_with(".ko")
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
}
