//! The options of a kernel that is built from source, and whether a configuration has them. Pure.
//!
//! A kernel's configuration grows out of `make allnoconfig`: what is not asked for is off. What is
//! asked for is asked for with a reason, and what the kernel's own rules then make of it
//! (Documentation/kbuild/kconfig-language.rst) is held against it: an option that another one
//! forbids, or that this kernel no longer has, is an error and not a silent difference.

use protocol::Digest;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{collections::BTreeMap, fmt};

/// What an option is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Built in, or on.
    Yes,
    /// A module.
    Module,
    /// Off.
    No,
    /// A number, or a text in quotes, as it stands in a configuration.
    Word(String),
}

impl Value {
    fn parse(text: &str) -> Option<Self> {
        let is_number = text.parse::<i64>().is_ok();
        let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let is_text = inside.is_some_and(|inside| !inside.contains(['"', '\\', '\n']));
        match text {
            "y" => Some(Self::Yes),
            "m" => Some(Self::Module),
            "n" => Some(Self::No),
            _ if is_number || is_text => Some(Self::Word(text.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "y",
            Self::Module => "m",
            Self::No => "n",
            Self::Word(word) => word,
        })
    }
}

/// An option with why it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is to be.
    pub value: Value,
    /// Why.
    pub reason: String,
}

/// Options by name, without `CONFIG_`.
///
/// In a recipe: reasons, each with its options, `"NAME"` for one that is on and `"NAME=VALUE"`
/// for any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, Wanted>);

/// An option that a configuration has otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Its name.
    pub name: String,
    /// What it was to be.
    pub wanted: Value,
    /// What it is.
    pub found: Value,
    /// Why it was wanted.
    pub reason: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, wanted, found, reason } = self;
        write!(f, "{name} is {found}, not {wanted} ({reason})")
    }
}

impl Options {
    /// Reads reasons with their options.
    ///
    /// # Errors
    /// What is no option, and what is there twice.
    pub fn new(groups: BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut options = BTreeMap::new();
        for (reason, entries) in groups {
            for entry in entries {
                let (name, value) = entry.split_once('=').unwrap_or((&entry, "y"));
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || name.starts_with("CONFIG_") || !name.chars().all(is_name) {
                    return Err(format!(
                        "{entry:?} is no option: its name without CONFIG_ is wanted, or NAME=VALUE"
                    ));
                }
                let value = Value::parse(value).ok_or_else(|| {
                    format!("{entry:?}: y, m, n, a number or a text in quotes is wanted")
                })?;
                let wanted = Wanted { value, reason: reason.clone() };
                if let Some(before) = options.insert(name.to_string(), wanted) {
                    return Err(format!(
                        "the option {name} is there twice: for {:?} and for {reason:?}",
                        before.reason
                    ));
                }
            }
        }
        Ok(Self(options))
    }

    /// Every option, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Wanted)> {
        self.0.iter().map(|(name, wanted)| (name.as_str(), wanted))
    }

    /// What `make allnoconfig` takes as `KCONFIG_ALLCONFIG`.
    pub fn fragment(&self) -> String {
        let line = |(name, wanted): (&str, &Wanted)| match &wanted.value {
            Value::No => format!("# CONFIG_{name} is not set\n"),
            value => format!("CONFIG_{name}={value}\n"),
        };
        self.iter().map(line).collect()
    }

    /// Names them by their digest, for [`kept_of`].
    fn named(&self) -> String {
        format!("{OF}{}", Digest::of_bytes(self.fragment().as_bytes()))
    }

    /// Those that a configuration has otherwise.
    pub fn unmet(&self, configuration: &str) -> Vec<Unmet> {
        let set: BTreeMap<&str, &str> = configuration
            .lines()
            .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
            .collect();
        let found = |name: &str| match set.get(name) {
            None => Value::No,
            Some(text) => Value::parse(text).unwrap_or_else(|| Value::Word((*text).into())),
        };
        self.iter()
            .map(|(name, wanted)| (name, wanted, found(name)))
            .filter(|(_, wanted, found)| wanted.value != *found)
            .map(|(name, wanted, found)| Unmet {
                name: name.into(),
                wanted: wanted.value.clone(),
                found,
                reason: wanted.reason.clone(),
            })
            .collect()
    }
}

/// What the line has that names a configuration's kernel.
pub const TITLE: &str = "Kernel Configuration";
/// What the line has that names the options that a kept configuration came of.
const OF: &str = "# Of the options of digest ";
/// What follows from the host's compiler and its linker, and differs from host to host.
const OF_TOOLS: [&str; 14] = [
    "AS_",
    "CC_",
    "CLANG_",
    "GCC",
    "LD_",
    "LLD_",
    "RUSTC_",
    "PAHOLE_",
    "TOOLS_",
    "TOOLCHAIN_",
    "MODULE_SIG_KEY",
    "RUST_IS",
    "HAVE_RUST",
    "ARCH_HAS_ELFCORE",
];

/// A configuration as the repository keeps it: a head of `#` lines, whose options they are, and what
/// [`kept`] has.
pub fn kept_of(options: &Options, head: &str, configuration: &str) -> String {
    let head = head.lines().filter(|line| !line.starts_with(OF));
    let of = options.named();
    head.chain([of.as_str()])
        .chain(kept(configuration))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// A configuration's lines without its comments, the builder's key and the compiler's words of
/// itself: what a repository can keep, and the checker can read.
pub fn kept(configuration: &str) -> impl Iterator<Item = &str> {
    let not_ours = ["CONFIG_MODULE_SIG_KEY=", "CONFIG_CC_VERSION_TEXT="];
    configuration.lines().filter(move |line| {
        let is_set = line.starts_with("CONFIG_") && !not_ours.iter().any(|l| line.starts_with(l));
        // Of some the checker wants to read that they are off.
        let is_off = line.starts_with("# CONFIG_") && line.ends_with(" is not set");
        is_set || is_off || line.contains(TITLE)
    })
}

/// The lines of a configuration that are the same with every compiler.
pub fn resolved(configuration: &str) -> impl Iterator<Item = &str> {
    configuration.lines().filter(|line| {
        let name = line.strip_prefix("CONFIG_");
        name.is_some_and(|name| !OF_TOOLS.iter().any(|tool| name.starts_with(tool)))
    })
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(entries: &[&str]) -> Result<Options, String> {
        let entries = entries.iter().map(ToString::to_string).collect();
        Options::new(BTreeMap::from([("a reason".to_string(), entries)]))
    }

    #[test]
    fn a_fragment_says_what_was_wanted() {
        let options = options(&["SMP", "E1000E=m", "AIO=n", "NR_CPUS=512", "LSM=\"a,b\""]).unwrap();
        assert_eq!(
            options.fragment(),
            "# CONFIG_AIO is not set\nCONFIG_E1000E=m\nCONFIG_LSM=\"a,b\"\nCONFIG_NR_CPUS=512\n\
             CONFIG_SMP=y\n"
        );
        assert_eq!(options.unmet(&options.fragment()), []);
    }

    #[test]
    fn what_the_kernel_made_otherwise_is_named_with_its_reason() {
        let options = options(&["SMP", "E1000E=m", "AIO=n", "PANIC_TIMEOUT=-1"]).unwrap();
        let unmet = options.unmet("CONFIG_SMP=y\nCONFIG_E1000E=y\nCONFIG_AIO=y\n# CONFIG_X is\n");
        let told: Vec<String> = unmet.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "AIO is y, not n (a reason)",
                "E1000E is y, not m (a reason)",
                "PANIC_TIMEOUT is n, not -1 (a reason)"
            ]
        );
    }

    #[test]
    fn the_recipes_options_come_to_what_is_kept_of_them() {
        let recipe = crate::recipe::Recipe::parse(include_str!("../../image.toml")).unwrap();
        let kept = include_str!("../../kernel.config");
        let options = recipe.kernel.source.options;
        let unmet: Vec<_> = options.unmet(kept).iter().map(ToString::to_string).collect();
        assert_eq!(unmet, [""; 0], "build it and see: cargo xtask test --long kernel");
        // An option that is gone leaves what it was for behind, which nothing above asks for.
        let of = kept.lines().find(|line| line.starts_with(OF));
        assert_eq!(of, Some(options.named().as_str()), "have --long kernel write it anew");
        assert!(resolved(kept).count() > 1_000);
    }

    #[test]
    fn what_differs_from_host_to_host_is_not_held_against_another() {
        let built = "# Linux/x86 6.12.1 Kernel Configuration\n# CONFIG_A is not set\nCONFIG_SMP=y\n\
                     CONFIG_GCC_VERSION=120200\nCONFIG_CC_VERSION_TEXT=\"gcc\"\n\
                     CONFIG_MODULE_SIG_KEY=\"/a/b.pem\"\n";
        assert_eq!(resolved(built).collect::<Vec<_>>(), ["CONFIG_SMP=y"]);
        let wanted = [
            "# Linux/x86 6.12.1 Kernel Configuration",
            "# CONFIG_A is not set",
            "CONFIG_SMP=y",
            "CONFIG_GCC_VERSION=120200",
        ];
        assert_eq!(kept(built).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for bad in ["CONFIG_SMP", "", "=y", "A B", "SMP=yes", "LSM=\"a\"b\"", "A=\"", "A\nB=y"] {
            let error = options(&[bad]).unwrap_err();
            assert!(error.contains("wanted"), "{bad}: {error}");
        }
        assert!(options(&["SMP", "SMP=n"]).unwrap_err().contains("there twice"));
    }
}
