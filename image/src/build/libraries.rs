//! The loader and the shared libraries of the programs in the root.

use super::{LIBRARIES, LIBRARY_FOLDERS};
use crate::{
    cpio::Tree,
    elf,
    error::{At, Error},
    firmware,
    packages::Package,
    report::Report,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Puts the loader and every library that `program` and its libraries need in the tree.
pub(super) fn put(
    packages: &[Package],
    path: &Path,
    program: &[u8],
    tree: &mut Tree,
    report: &mut Report,
    from: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    let needs = elf::needs(program).map_err(|error| Error::bad_file(path, error))?;
    let find = |name: &str, needed_by: &str| -> Result<(Vec<u8>, String), Error> {
        for package in packages {
            for folder in LIBRARY_FOLDERS {
                let inside = Path::new(folder).join(name);
                if let Some(path) = firmware::resolve(&package.root, &inside) {
                    let bytes = fs::read(&path).at(&path)?;
                    return Ok((bytes, package.origin.name.clone()));
                }
            }
        }
        Err(Error::Missing {
            what: format!("the library {name:?}, which {needed_by} needs,"),
            packages: packages
                .iter()
                .map(|p| p.origin.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            mend: "add its package to libraries.packages in image.toml",
        })
    };
    let mut put = |path: &str, (bytes, package): (Vec<u8>, String), executable| {
        if tree.has(path) {
            // Another program needs it too.
            return Ok(());
        }
        report.add("libraries", &bytes);
        from.insert(path.trim_start_matches('/').into(), package);
        tree.file(path, bytes, executable).map_err(|error| Error::bad_file(path, error))
    };
    let mut seen = BTreeSet::new();
    if let Some(loader) = &needs.interpreter {
        let name = loader.rsplit('/').next().unwrap_or(loader);
        put(loader, find(name, &path.display().to_string())?, true)?;
        // Libraries name the loader too; it is in memory already by then.
        seen.insert(name.to_string());
    }
    let from = |name: &str, list: Vec<String>| {
        list.into_iter().map(|library| (library, name.to_string())).collect::<Vec<_>>()
    };
    let mut queue = from(&path.display().to_string(), needs.libraries);
    while let Some((library, needed_by)) = queue.pop() {
        if !seen.insert(library.clone()) {
            continue;
        }
        let (bytes, package) = find(&library, &needed_by)?;
        let needs = elf::needs(&bytes).map_err(|error| Error::bad_file(&library, error))?;
        queue.extend(from(&library, needs.libraries));
        put(&format!("{LIBRARIES}/{library}"), (bytes, package), false)?;
    }
    Ok(())
}
