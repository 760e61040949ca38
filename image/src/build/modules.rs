//! The kernel's modules and the firmware that they ask for: all of the image's in the root, those
//! that come before it in the initramfs too.

use crate::{
    cpio::{Node, PathError, Tree},
    elf,
    error::{At, Error},
    firmware,
    kernel::{Kernel, Kind},
    kmod::{self, Module, NoModule},
    packages::Package,
    recipe::Recipe,
    report::Report,
};
use protocol::boot::INITRAMFS_DRIVERS;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where modules lie that are not of the kernel's own tree, as depmod has it.
const EXTRA: &str = "extra/";

/// An image's modules, read.
pub(crate) struct Modules {
    release: String,
    /// By name.
    all: BTreeMap<String, Module>,
    /// By path below `/lib/modules/RELEASE`.
    contents: BTreeMap<String, Vec<u8>>,
    /// `modules.builtin`, as the kernel's build made it.
    builtin: String,
}

impl Modules {
    /// Reads the modules that the recipe wants of a kernel, and what they need.
    pub(crate) fn read(recipe: &Recipe, kernel: &Kernel, release: &str) -> Result<Self, Error> {
        let folder = kernel.modules(release)?;
        let list = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).at(&path)
        };
        let builtin = list("modules.builtin")?;
        let index = kmod::index(&list("modules.order")?);
        let wanted = match kernel.kind {
            Kind::Prebuilt => recipe.kernel.modules.clone(),
            // Its options say what it has.
            Kind::Source => index.keys().cloned().collect(),
        };
        let mut contents = BTreeMap::new();
        let read = |path: &str| -> Result<Module, BuildOrModule> {
            let bytes = read_module(&folder.join(path))?;
            let info = elf::modinfo(&bytes).map_err(|error| Error::bad_file(path, error))?;
            contents.insert(path.to_string(), bytes);
            Ok(Module::new(path.into(), &info))
        };
        let all =
            kmod::closure(&wanted, &index, &kmod::index(&builtin), read).map_err(|error| {
                match error {
                    BuildOrModule::Build(error) => error,
                    BuildOrModule::Module(error) => {
                        kernel.lacks(&error.to_string(), "correct kernel.modules in image.toml")
                    }
                }
            })?;
        Ok(Self { release: release.into(), all, contents, builtin })
    }

    /// Adds a module that is not of the kernel's own tree; gives its path in the root.
    pub(super) fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<String, Error> {
        let path = format!("{EXTRA}{name}.ko");
        let info = elf::modinfo(&bytes).map_err(|error| Error::bad_file(&path, error))?;
        let module = Module::new(path.clone(), &info);
        let known = |name: &String| {
            self.all.contains_key(name) || kmod::index(&self.builtin).contains_key(name)
        };
        if let Some(lacking) = module.depends.iter().find(|name| !known(name)) {
            return Err(Error::bad_file(path, format!("it needs {lacking}, which is not there")));
        }
        let below = format!("lib/modules/{}/{path}", self.release);
        self.contents.insert(path, bytes);
        self.all.insert(module.name(), module);
        Ok(below)
    }

    /// Every module's name.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.all.keys().cloned().collect()
    }

    /// The names of those that the initramfs holds, by what the recipe says of it.
    pub(super) fn early(&self, recipe: &Recipe) -> Result<BTreeSet<String>, Error> {
        let below = |module: &Module| {
            recipe.initramfs.below.iter().any(|folder| module.path.starts_with(folder.as_str()))
        };
        let drivers = self.all.iter().filter(|(_, module)| below(module)).map(|(name, _)| name);
        let builtin = kmod::index(&self.builtin);
        let mut wanted: Vec<String> = drivers.cloned().collect();
        let maybe = recipe.initramfs.where_there.iter().map(|name| kmod::name(name));
        wanted.extend(maybe.filter(|name| self.all.contains_key(name)));
        for name in recipe.initramfs.modules.iter().map(|name| kmod::name(name)) {
            if self.all.contains_key(&name) {
                wanted.push(name);
            } else if !builtin.contains_key(&name) {
                return Err(Error::Missing {
                    what: format!("the module {name:?} of initramfs.modules"),
                    packages: format!("the image's modules of Linux {}", self.release),
                    mend: "add it to kernel.modules, or to the options of the source kernel",
                });
            }
        }
        let paths = self.all.iter().map(|(name, module)| (name.clone(), module.path.clone()));
        let by_path: BTreeMap<&str, &Module> =
            self.all.values().map(|module| (module.path.as_str(), module)).collect();
        let closure =
            kmod::closure(&wanted, &paths.collect(), &builtin, |path| -> Result<_, NoModule> {
                by_path
                    .get(path)
                    .map(|module| (*module).clone())
                    .ok_or_else(|| NoModule { name: path.into(), needed_by: String::new() })
            });
        let closure = closure.map_err(|error| Error::bad_file("modules.order", error))?;
        Ok(closure.into_keys().collect())
    }

    /// Puts the modules of these names, with indices of their own, in a tree; of those that stand in
    /// `before`, which the initramfs has, links to there.
    pub(super) fn put(
        &self,
        names: &BTreeSet<String>,
        before: &BTreeSet<String>,
        tree: &mut Tree,
    ) -> Result<(), PathError> {
        let modules = self.of(names);
        let below = format!("/lib/modules/{}", self.release);
        for (name, module) in &modules {
            let path = format!("modules/{}/{}", self.release, module.path);
            if before.contains(name) {
                tree.put(&format!("/lib/{path}"), early(&path))?;
            } else if let Some(bytes) = self.contents.get(&module.path) {
                tree.file(&format!("/lib/{path}"), bytes.clone(), false)?;
            }
        }
        for (name, text) in [
            ("modules.dep", kmod::dep_file(&modules)),
            ("modules.alias", kmod::alias_file(&modules)),
            ("modules.softdep", kmod::softdep_file(&modules)),
            ("modules.builtin", self.builtin.clone()),
        ] {
            tree.file(&format!("{below}/{name}"), text.into_bytes(), false)?;
        }
        Ok(())
    }

    fn of(&self, names: &BTreeSet<String>) -> BTreeMap<String, Module> {
        let modules = self.all.iter().filter(|(name, _)| names.contains(*name));
        modules.map(|(name, module)| (name.clone(), module.clone())).collect()
    }

    /// Puts the firmware that the modules of these names may ask for in a tree; gives the names of
    /// what no package has. What modules of `before` ask for the initramfs has: links to there.
    pub(super) fn put_firmware(
        &self,
        names: &BTreeSet<String>,
        before: &BTreeSet<String>,
        packages: &[Package],
        tree: &mut Tree,
        from: &mut BTreeMap<String, String>,
    ) -> Result<Vec<String>, Error> {
        let asked = |names| -> BTreeSet<String> {
            self.of(names).into_values().flat_map(|module| module.firmware).collect()
        };
        let there = asked(before);
        let mut absent = Vec::new();
        for name in asked(names) {
            match firmware::find(&name, packages)? {
                Some(found) => {
                    let path = format!("firmware/{name}");
                    let node = match there.contains(&name) {
                        true => early(&path),
                        false => Node::File { bytes: found.bytes, executable: false },
                    };
                    tree.put(&format!("/lib/{path}"), node)
                        .map_err(|error| Error::bad_file(&name, error))?;
                    from.insert(format!("lib/{path}"), found.package);
                }
                None => absent.push(name),
            }
        }
        Ok(absent)
    }

    /// Counts them all in a report.
    pub(super) fn report(&self, report: &mut Report) {
        for (path, bytes) in &self.contents {
            let extra = path.starts_with(EXTRA);
            report.add(if extra { "extra modules" } else { "modules" }, bytes);
        }
        report.modules = self.all.keys().cloned().collect();
    }
}

/// What the initramfs has below `/lib`, as the root finds it.
fn early(path: &str) -> Node {
    Node::Link(format!("{INITRAMFS_DRIVERS}/{path}"))
}

enum BuildOrModule {
    Build(Error),
    Module(NoModule),
}

impl From<NoModule> for BuildOrModule {
    fn from(error: NoModule) -> Self {
        Self::Module(error)
    }
}

impl From<Error> for BuildOrModule {
    fn from(error: Error) -> Self {
        Self::Build(error)
    }
}

/// A module's bytes, unpacked: the kernel's package has it with `.xz` at the end or as it is.
pub(crate) fn read_module(path: &Path) -> Result<Vec<u8>, Error> {
    let packed = PathBuf::from(format!("{}.xz", path.display()));
    if !packed.exists() {
        return fs::read(path).at(path);
    }
    kmod::unpacked(fs::File::open(&packed).at(&packed)?).at(&packed)
}
