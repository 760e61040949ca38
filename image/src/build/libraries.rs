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

/// Libraries on their way into a tree.
struct Shelf<'a> {
    packages: &'a [Package],
    tree: &'a mut Tree,
    report: &'a mut Report,
    from: &'a mut BTreeMap<String, String>,
}

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
    let mut shelf = Shelf { packages, tree, report, from };
    let needed_by = path.display().to_string();
    let mut seen = BTreeSet::new();
    if let Some(loader) = &needs.interpreter {
        let name = loader.rsplit('/').next().unwrap_or(loader);
        let found = shelf.find(name, &needed_by)?;
        shelf.put(loader, found, true)?;
        // Libraries name the loader too; it is in memory already by then.
        seen.insert(name.to_string());
    }
    shelf.follow(needs.libraries, &needed_by, seen)
}

/// Puts libraries in the tree that programs load by name, and every one that these need.
pub(super) fn put_loaded(
    packages: &[Package],
    names: &[String],
    tree: &mut Tree,
    report: &mut Report,
    from: &mut BTreeMap<String, String>,
) -> Result<(), Error> {
    // The program that loads them brought the loader.
    let seen = BTreeSet::from(["ld-linux-x86-64.so.2".to_string()]);
    Shelf { packages, tree, report, from }.follow(names.to_vec(), "the flavour", seen)
}

impl Shelf<'_> {
    fn find(&self, name: &str, needed_by: &str) -> Result<(Vec<u8>, String), Error> {
        for package in self.packages {
            for folder in LIBRARY_FOLDERS {
                let inside = Path::new(folder).join(name);
                if let Some(path) = firmware::resolve(&package.root, &inside) {
                    let bytes = fs::read(&path).at(&path)?;
                    return Ok((bytes, package.origin.name.clone()));
                }
            }
        }
        let names: Vec<&str> = self.packages.iter().map(|p| p.origin.name.as_str()).collect();
        Err(Error::Missing {
            what: format!("the library {name:?}, which {needed_by} needs,"),
            packages: names.join(", "),
            mend: "add its package to libraries.packages in image.toml",
        })
    }

    fn put(
        &mut self,
        path: &str,
        (bytes, package): (Vec<u8>, String),
        executable: bool,
    ) -> Result<(), Error> {
        if self.tree.has(path) {
            // Another program needs it too.
            return Ok(());
        }
        self.report.add("libraries", &bytes);
        self.from.insert(path.trim_start_matches('/').into(), package);
        self.tree.file(path, bytes, executable).map_err(|error| Error::bad_file(path, error))
    }

    fn follow(
        &mut self,
        names: Vec<String>,
        needed_by: &str,
        mut seen: BTreeSet<String>,
    ) -> Result<(), Error> {
        let by = |name: &str, list: Vec<String>| {
            list.into_iter().map(|library| (library, name.to_string())).collect::<Vec<_>>()
        };
        let mut queue = by(needed_by, names);
        while let Some((library, needed_by)) = queue.pop() {
            if !seen.insert(library.clone()) {
                continue;
            }
            let (bytes, package) = self.find(&library, &needed_by)?;
            let needs = elf::needs(&bytes).map_err(|error| Error::bad_file(&library, error))?;
            queue.extend(by(&library, needs.libraries));
            self.put(&format!("{LIBRARIES}/{library}"), (bytes, package), false)?;
        }
        Ok(())
    }
}
