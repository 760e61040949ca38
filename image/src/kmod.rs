//! Kernel modules: which belong together, and the index files that a loader reads
//! (`modules.dep`, `modules.alias`, `modules.softdep`, as depmod(8) writes them). Pure.
//!
//! Written here rather than by the host's depmod, so that an image does not depend on the host's
//! version of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io::{self, BufReader, Read},
};

/// Largest kernel module once unpacked: amdgpu, the largest there is, has 30 MB.
const MAX_MODULE_LEN: u64 = 256 << 20;
/// What unpacking may take beside, in KiB: the dictionary of `xz -9`, 64 MiB, and some more. A
/// file may name one of 4 GiB.
const MAX_XZ_MEMORY: u32 = 80 << 10;

/// A module that a package has compressed, with `.xz` at the end of its name.
pub fn unpacked(packed: impl Read) -> io::Result<Vec<u8>> {
    let reader = lzma_rust2::XzReader::new_mem_limit(BufReader::new(packed), true, MAX_XZ_MEMORY);
    let mut bytes = Vec::new();
    reader.take(MAX_MODULE_LEN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MODULE_LEN {
        let why = format!("it unpacks to more than {MAX_MODULE_LEN} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Below `/lib/modules/RELEASE`, uncompressed: `kernel/drivers/net/virtio_net.ko`.
    pub path: String,
    /// Names of the modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Modules to load before or after it, as it puts it: `pre: realtek`.
    pub softdeps: Vec<String>,
    /// Patterns of the devices it drives.
    pub aliases: Vec<String>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
}

impl Module {
    /// From its path and its `.modinfo`.
    pub fn new(path: String, modinfo: &[(String, String)]) -> Self {
        // A value goes on a line of its own: one of several lines would become lines of others.
        let lines = || modinfo.iter().filter(|(_, value)| !value.contains('\n'));
        let all = |key: &str| -> Vec<String> {
            lines().filter(|(k, _)| k == key).map(|(_, value)| value.clone()).collect()
        };
        let depends = all("depends")
            .iter()
            .flat_map(|list| list.split(','))
            .map(name)
            .filter(|name| !name.is_empty())
            .collect();
        Self {
            path,
            depends,
            softdeps: all("softdep"),
            aliases: all("alias"),
            firmware: all("firmware"),
        }
    }

    /// Its name as the kernel has it.
    pub fn name(&self) -> String {
        name(file_stem(&self.path))
    }

    /// The modules that its softdeps name.
    pub fn soft_names(&self) -> impl Iterator<Item = String> {
        let words = self.softdeps.iter().flat_map(|line| line.split_whitespace());
        words.filter(|word| !word.ends_with(':')).map(name)
    }
}

fn file_stem(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem)
}

/// A module's name as the kernel has it: `-` is `_`.
pub fn name(text: &str) -> String {
    text.trim().replace('-', "_")
}

/// Name to path, of a list such as `modules.order` or `modules.builtin`.
pub fn index(list: &str) -> BTreeMap<String, String> {
    list.lines().map(|path| (name(file_stem(path)), path.trim().to_string())).collect()
}

/// A module that nothing knows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel has no module {name:?}{needed_by}")]
pub struct NoModule {
    /// Its name.
    pub name: String,
    /// Who wants it.
    pub needed_by: String,
}

/// The modules of `wanted` and all that they need, by name, read by `read`.
///
/// What is built into the kernel needs nothing. A softdep that does not exist is left out, as
/// modprobe does.
pub fn closure<E: From<NoModule>>(
    wanted: &[String],
    order: &BTreeMap<String, String>,
    builtin: &BTreeMap<String, String>,
    mut read: impl FnMut(&str) -> Result<Module, E>,
) -> Result<BTreeMap<String, Module>, E> {
    let mut found = BTreeMap::new();
    let mut queue: Vec<(String, Option<String>)> =
        wanted.iter().map(|wanted| (name(wanted), None)).collect();
    while let Some((next, parent)) = queue.pop() {
        if found.contains_key(&next) || builtin.contains_key(&next) {
            continue;
        }
        let Some(path) = order.get(&next) else {
            let needed_by = parent.map(|parent| format!(", which {parent} needs"));
            return Err(NoModule { name: next, needed_by: needed_by.unwrap_or_default() }.into());
        };
        let module = read(path)?;
        queue.extend(module.depends.iter().map(|name| (name.clone(), Some(next.clone()))));
        let soft = module.soft_names().filter(|name| order.contains_key(name));
        queue.extend(soft.map(|name| (name, Some(next.clone()))));
        found.insert(next, module);
    }
    Ok(found)
}

/// `modules.dep`: each module's path, then the paths of all that it needs, what must be loaded
/// first last.
pub fn dep_file(modules: &BTreeMap<String, Module>) -> String {
    let mut text = String::new();
    for module in modules.values() {
        let mut order = Vec::new();
        visit(module, modules, &mut BTreeSet::new(), &mut order);
        // The last one visited is the module itself.
        order.pop();
        let _ = write!(text, "{}:", module.path);
        for path in order.iter().rev() {
            let _ = write!(text, " {path}");
        }
        text.push('\n');
    }
    text
}

/// Depth first: what a module needs comes before it. The kernel's build refuses cycles; `seen`
/// ends them all the same.
fn visit<'a>(
    module: &'a Module,
    modules: &'a BTreeMap<String, Module>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    if seen.insert(&module.path) {
        for needed in module.depends.iter().filter_map(|name| modules.get(name)) {
            visit(needed, modules, seen, order);
        }
        order.push(&module.path);
    }
}

/// `modules.alias`.
pub fn alias_file(modules: &BTreeMap<String, Module>) -> String {
    let mut text = String::from("# Aliases extracted from modules themselves.\n");
    for (name, module) in modules {
        for alias in &module.aliases {
            let _ = writeln!(text, "alias {alias} {name}");
        }
    }
    text
}

/// `modules.softdep`. A softdep by alias (`pre: crc32c`) names the modules here that have it, as
/// whoever reads it looks for modules alone.
pub fn softdep_file(modules: &BTreeMap<String, Module>) -> String {
    let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
    for (name, module) in modules {
        for softdep in &module.softdeps {
            let _ = write!(text, "softdep {name}");
            for word in softdep.split_whitespace() {
                let mut stand_ins = modules
                    .iter()
                    .filter(|(_, module)| module.aliases.iter().any(|alias| alias == word))
                    .map(|(name, _)| name.as_str())
                    .peekable();
                if modules.contains_key(&self::name(word)) || stand_ins.peek().is_none() {
                    let _ = write!(text, " {word}");
                }
                for name in stand_ins {
                    let _ = write!(text, " {name}");
                }
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        (
            index(
                "kernel/a/nic.ko\nkernel/b/phy-lib.ko\nkernel/c/mdio.ko\nkernel/d/real.ko\nkernel/e/unused.ko\n",
            ),
            index("kernel/x/pci.ko\n"),
        )
    }

    fn read(path: &str) -> Result<Module, NoModule> {
        let pairs: &[(&str, &str)] = match path {
            "kernel/a/nic.ko" => &[
                ("alias", "pci:v00001AF4d*"),
                ("depends", "phy_lib,mdio"),
                ("softdep", "pre: real gone any"),
                ("firmware", "nic/a.fw"),
            ],
            "kernel/b/phy-lib.ko" => &[("depends", "mdio"), ("alias", "mdio:*")],
            "kernel/c/mdio.ko" => &[("depends", "")],
            "kernel/d/real.ko" => &[("depends", "phy-lib"), ("alias", "any")],
            _ => &[("depends", "nothing")],
        };
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Ok(Module::new(path.into(), &pairs))
    }

    #[test]
    fn a_module_brings_what_it_needs_and_what_it_would_like_to_have() {
        let (order, builtin) = kernel();
        let modules = closure(&["nic".into(), "pci".into()], &order, &builtin, read).unwrap();
        let names: Vec<_> = modules.keys().map(String::as_str).collect();
        assert_eq!(names, ["mdio", "nic", "phy_lib", "real"]);
        assert_eq!(modules["nic"].firmware, ["nic/a.fw"]);
        assert_eq!(
            dep_file(&modules),
            "kernel/c/mdio.ko:\n\
             kernel/a/nic.ko: kernel/b/phy-lib.ko kernel/c/mdio.ko\n\
             kernel/b/phy-lib.ko: kernel/c/mdio.ko\n\
             kernel/d/real.ko: kernel/b/phy-lib.ko kernel/c/mdio.ko\n"
        );
        assert!(
            alias_file(&modules)
                .ends_with("alias pci:v00001AF4d* nic\nalias mdio:* phy_lib\nalias any real\n")
        );
        assert!(softdep_file(&modules).ends_with("\nsoftdep nic pre: real gone real\n"));
    }

    #[test]
    fn a_value_of_several_lines_makes_no_lines_of_other_modules() {
        let pairs = [("alias", "pci:*\nalias usb:* evil"), ("alias", "pci:v1*")];
        let pairs = pairs.map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(Module::new("kernel/a/nic.ko".into(), &pairs).aliases, ["pci:v1*"]);
    }

    #[test]
    fn a_module_is_unpacked_and_one_that_wants_gigabytes_is_refused() {
        let packed = |dictionary: u32| {
            let mut options = lzma_rust2::XzOptions::with_preset(1);
            options.lzma_options.dict_size = dictionary;
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            io::Write::write_all(&mut writer, b"a module").unwrap();
            writer.finish().unwrap()
        };
        assert_eq!(unpacked(&packed(64 << 20)[..]).unwrap(), b"a module");
        let error = unpacked(&packed(512 << 20)[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
        assert!(unpacked(&b"no xz file"[..]).is_err());
    }

    #[test]
    fn an_unknown_module_is_an_error_that_says_who_wants_it() {
        let (order, builtin) = kernel();
        let error = |name: &str| closure(&[name.into()], &order, &builtin, read).unwrap_err();
        assert_eq!(error("typo").to_string(), "the kernel has no module \"typo\"");
        assert_eq!(
            error("unused").to_string(),
            "the kernel has no module \"nothing\", which unused needs"
        );
    }
}
