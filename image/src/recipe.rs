//! `image.toml`: what an image is made of. Unknown keys are errors.

use crate::{
    error::{At, Error},
    kernel::{Kind, options::Options},
};
use protocol::sandbox::Sandboxes;
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The distribution's suite that packages come from.
    pub suite: String,
    /// zstd's level for the initramfs, 1 to 19: higher ones need more memory to unpack.
    pub compression_level: i32,
    /// Empty folders.
    pub folders: Vec<String>,
    /// The kernel.
    pub kernel: Kernel,
    /// What comes before the root.
    pub initramfs: Initramfs,
    /// The root file system.
    pub root: Root,
    /// Firmware for the modules.
    pub firmware: FromPackages,
    /// Microcode for processors.
    pub microcode: Microcode,
    /// Shared libraries that the programs may need.
    pub libraries: FromPackages,
    /// The two programs of ours.
    pub programs: Programs,
    /// What each service may do on a node.
    pub sandboxes: Sandboxes,
    /// What images there are, by name.
    pub flavours: BTreeMap<String, Flavour>,
}

/// An image for one kind of work: what it has beside what all have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavour {
    /// What it is for.
    pub what: String,
    /// What it does not do yet, in a sentence for people; empty where that is nothing.
    #[serde(default)]
    pub lacks: String,
    /// Whether it can be built.
    #[serde(default = "yes")]
    pub built: bool,
    /// Programs by name, with their paths in the root.
    #[serde(default)]
    pub programs: BTreeMap<String, String>,
    /// More modules of the prebuilt kernel.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Components of the suite's archive that its own packages below are of, beside the usual.
    #[serde(default)]
    pub components: Vec<String>,
    /// More packages to look firmware up in.
    #[serde(default)]
    pub firmware: Vec<String>,
    /// More packages to look libraries up in.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Libraries that its programs load by name while they run.
    #[serde(default)]
    pub loaded: Vec<String>,
    /// NVIDIA's driver.
    pub nvidia: Option<Nvidia>,
    /// What its services may do beside what they may in all images, by name.
    #[serde(default)]
    pub sandboxes: BTreeMap<String, MoreSandbox>,
    /// What a machine may have to download, in bytes.
    pub budget: Budget,
}

/// NVIDIA's driver: open modules, built for the kernel from source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvidia {
    /// The package of the modules' source.
    pub source: String,
    /// Those that are built, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// The package that lists which driver drives which card.
    pub ids: String,
}

/// What a service of one flavour may do beside what it may in all images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoreSandbox {
    /// Device files of cards.
    #[serde(default)]
    pub cards: Vec<String>,
    /// System calls, and why.
    #[serde(default)]
    pub rare_calls: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// What kernel, initramfs and root may have together, in bytes, without microcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// With the kernel that is built from source.
    pub source: u64,
    /// With the distribution's.
    pub prebuilt: u64,
}

impl Budget {
    /// For a kernel of this kind.
    pub fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Source => self.source,
            Kind::Prebuilt => self.prebuilt,
        }
    }
}

/// The kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The metapackage that depends on the suite's current kernel.
    pub package: String,
    /// Modules of it; what they need comes along.
    pub modules: Vec<String>,
    /// Drivers that are left out, by reason; held against the kernel's by `xtask image --drivers`.
    pub left_out: BTreeMap<String, Vec<String>>,
    /// The kernel that is built from source instead.
    pub source: Source,
}

/// A kernel that is built from source; every module that it has goes into the image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The package of the source.
    pub package: String,
    /// Its options, by reason.
    pub options: Options,
    /// What kernel-hardening-checker would have otherwise, and why it is as it is.
    pub unhardened: BTreeMap<String, String>,
}

/// What the initramfs holds beside PID 1: modules, with their firmware and what they need.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initramfs {
    /// All of the image's modules below these folders of the kernel's own tree:
    /// `kernel/drivers/net/`.
    pub below: Vec<String>,
    /// And these, where the kernel does not have them built in.
    pub modules: Vec<String>,
    /// And these, where the kernel has them as modules.
    #[serde(default)]
    pub where_there: Vec<String>,
}

/// The root file system: EROFS under zstd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// Bytes that are compressed together at most: a read of one takes them all.
    pub cluster: u32,
}

/// Files that are looked up in packages, in this order, when they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromPackages {
    /// Their names.
    pub packages: Vec<String>,
}

/// The packages of microcode, by the maker of the processors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Microcode {
    /// AMD's.
    pub amd: String,
    /// Intel's.
    pub intel: String,
}

/// Where the two programs lie.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// node-init, static.
    pub init: String,
    /// The compute service.
    pub compute: String,
}

impl Recipe {
    /// Reads the recipe in a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).at(path)?;
        Self::parse(&text).map_err(|detail| Error::Recipe { path: path.into(), detail })
    }

    /// The recipe of one flavour: what all have and what it adds.
    ///
    /// # Errors
    /// Where there is no such flavour, or it cannot be built yet.
    pub fn flavoured(&self, named: &str) -> Result<(Self, Flavour), Error> {
        let wrong = |detail| Error::Recipe { path: "image.toml".into(), detail };
        let Some(flavour) = self.flavours.get(named) else {
            let names: Vec<&str> = self.flavours.keys().map(String::as_str).collect();
            return Err(wrong(format!("no flavour {named:?}: there are {}", names.join(", "))));
        };
        if !flavour.built {
            return Err(wrong(format!("the flavour {named} cannot be built: {}", flavour.lacks)));
        }
        let mut recipe = self.clone();
        recipe.kernel.modules.extend_from_slice(&flavour.modules);
        for (name, more) in &flavour.sandboxes {
            let sandbox = recipe.sandboxes.get_mut(name).ok_or_else(|| {
                wrong(format!("flavours.{named}.sandboxes.{name}: no such sandbox"))
            })?;
            sandbox.cards.extend_from_slice(&more.cards);
            sandbox.rare_calls.extend(more.rare_calls.clone());
        }
        Ok((recipe, flavour.clone()))
    }

    /// Reads a recipe's text; the error names the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let recipe: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if !(1..=19).contains(&recipe.compression_level) {
            return Err(format!("compression_level = {}: 1 to 19", recipe.compression_level));
        }
        let Root { level, cluster } = recipe.root;
        if !(1..=19).contains(&level) {
            return Err(format!("root.level = {level}: 1 to 19"));
        }
        if !cluster.is_power_of_two() || !(4096..=1 << 20).contains(&cluster) {
            return Err(format!("root.cluster = {cluster}: a power of two, 4096 to 1048576"));
        }
        Ok(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../image.toml");

    #[test]
    fn our_own_recipe_is_read() {
        let recipe = Recipe::parse(OURS).unwrap();
        assert_eq!(recipe.programs.init, "/init");
        assert!(recipe.kernel.modules.iter().any(|module| module == "virtio_net"));
    }

    #[test]
    fn a_flavour_adds_to_what_all_have_and_one_that_is_not_there_is_named() {
        let recipe = Recipe::parse(OURS).unwrap();
        let (cpu, flavour) = recipe.flavoured("cpu").unwrap();
        assert_eq!(cpu, recipe);
        assert_eq!(flavour.budget.of(Kind::Source), 25_000_000);
        let (_, validator) = recipe.flavoured("validator").unwrap();
        assert!(validator.programs.contains_key("cometbft"));
        let error = recipe.flavoured("gpu").unwrap_err().to_string();
        assert!(error.contains("gpu") && error.contains("cpu, cuda, storage"), "{error}");
        // What there is no service for is declared, and not built as if there were.
        let error = recipe.flavoured("storage").unwrap_err().to_string();
        assert!(error.contains("cannot be built"), "{error}");
    }

    #[test]
    fn of_all_flavours_the_cuda_one_alone_opens_cards_to_the_compute_service() {
        let recipe = Recipe::parse(OURS).unwrap();
        let (cuda, flavour) = recipe.flavoured("cuda").unwrap();
        let sandbox = &cuda.sandboxes["compute"];
        assert!(sandbox.cards.iter().any(|card| card == "/dev/nvidiactl"));
        assert!(sandbox.rare_calls.contains_key("ioctl"));
        assert!(flavour.nvidia.is_some() && flavour.components.contains(&"non-free".into()));
        assert!(recipe.sandboxes["compute"].cards.is_empty());
        let wrong =
            OURS.replace("[flavours.cuda.sandboxes.compute]", "[flavours.cuda.sandboxes.x]");
        let error = Recipe::parse(&wrong).unwrap().flavoured("cuda").unwrap_err().to_string();
        assert!(error.contains("flavours.cuda.sandboxes.x: no such sandbox"), "{error}");
    }

    #[test]
    fn unknown_keys_are_errors_that_name_them() {
        let error =
            Recipe::parse(&OURS.replace("[kernel]", "[kernel]\npakage = \"x\"")).unwrap_err();
        assert!(error.contains("pakage") && error.contains("package"), "{error}");
        let twice = OURS.replace("    \"64BIT\",", "    \"64BIT\", \"SMP=n\",");
        assert!(Recipe::parse(&twice).unwrap_err().contains("SMP is there twice"));
        let error = Recipe::parse(&format!("colour = 1\n{OURS}")).unwrap_err();
        assert!(error.contains("colour"), "{error}");
    }
}
