//! Which modules drive a device: depmod's text files, and the order to load in.
//!
//! Formats: `modules.alias`, `modules.dep` and `modules.softdep` as depmod(8) writes them;
//! patterns are those of fnmatch(3) without flags.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::OnceLock,
};

/// The modules of one kernel release, as depmod lists them.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    aliases: String,
    /// Where things stand in `aliases`; made when it is first asked for, since loading by name
    /// needs none of it and it is most of the work.
    index: OnceLock<Index>,
    /// By name: the file below `/lib/modules/RELEASE`, and the names of what it needs.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// By name: what is loaded before and after it where it is there.
    soft: BTreeMap<String, Soft>,
}

/// By the part of the pattern before the first colon (the bus): where pattern and module's name are.
type Index = BTreeMap<String, Vec<(Range<usize>, Range<usize>)>>;

#[derive(Clone, Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// Reads `alias PATTERN MODULE`, line by line. Lines that say nothing to us are passed over.
fn index(aliases: &str) -> Index {
    let mut index = Index::new();
    // Lines of one bus follow one another.
    let (mut of, mut lines) = ("", Vec::new());
    let within = |part: &str| {
        let from = part.as_ptr() as usize - aliases.as_ptr() as usize;
        from..from + part.len()
    };
    for line in aliases.lines() {
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let (Some("alias"), Some(pattern), Some(module)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if bus(pattern) != of {
            index.entry(of.to_owned()).or_default().append(&mut lines);
            of = bus(pattern);
        }
        lines.push((within(pattern), within(module)));
    }
    index.entry(of.to_owned()).or_default().append(&mut lines);
    index
}

impl Catalogue {
    /// Reads the three files. Lines that say nothing to us are passed over.
    pub fn parse(aliases: String, dep: &str, softdep: &str) -> Self {
        let mut catalogue = Self { aliases, ..Self::default() };
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_ascii_whitespace().map(name_of_file).collect();
            catalogue.files.insert(name_of_file(file), (file.to_owned(), needs));
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let soft = catalogue.soft.entry(normal(module)).or_default();
            let mut after = false;
            for word in words {
                match word {
                    "pre:" => after = false,
                    "post:" => after = true,
                    _ if after => soft.after.push(normal(word)),
                    _ => soft.before.push(normal(word)),
                }
            }
        }
        catalogue
    }

    /// The modules that say they drive a device of this modalias, in depmod's order, by the names
    /// that it writes.
    pub fn matching(&self, modalias: &str) -> Vec<&str> {
        let index = self.index.get_or_init(|| index(&self.aliases));
        let same_bus = index.get(bus(modalias)).into_iter().flatten();
        // A pattern whose bus is itself a pattern matches any.
        let any_bus = index.get("*").into_iter().flatten();
        same_bus
            .chain(any_bus)
            .filter(|(pattern, _)| matches(&self.aliases[pattern.clone()], modalias))
            .map(|(_, module)| &self.aliases[module.clone()])
            .collect()
    }

    /// The module's file below `/lib/modules/RELEASE`.
    pub fn file(&self, module: &str) -> Option<&str> {
        Some(&self.files.get(&normal(module))?.0)
    }

    /// Whether the module's file is there.
    pub fn has(&self, module: &str) -> bool {
        self.file(module).is_some()
    }

    /// The files to load for a module, in order: what it needs first. Those whose names stand in
    /// `loaded` are left out, and the rest are added to it. A circle of needs is cut, not followed.
    pub fn load_order(&self, module: &str, loaded: &mut BTreeSet<String>) -> Vec<(&str, &str)> {
        let mut order = Vec::new();
        self.visit(&normal(module), loaded, &mut order);
        order
    }

    fn visit<'a>(
        &'a self,
        module: &str,
        loaded: &mut BTreeSet<String>,
        order: &mut Vec<(&'a str, &'a str)>,
    ) {
        let Some((name, (file, needs))) = self.files.get_key_value(module) else { return };
        if !loaded.insert(name.clone()) {
            return;
        }
        let soft = self.soft.get(module);
        let before = soft.map(|soft| soft.before.as_slice()).unwrap_or_default();
        for needed in before.iter().chain(needs) {
            self.visit(needed, loaded, order);
        }
        order.push((name, file));
        for after in soft.map(|soft| soft.after.as_slice()).unwrap_or_default() {
            self.visit(after, loaded, order);
        }
    }
}

/// Dashes and underscores are one in module names.
fn normal(module: &str) -> String {
    module.replace('-', "_")
}

/// `kernel/drivers/net/virtio_net.ko` is of `virtio_net`.
fn name_of_file(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    normal(name.split_once(".ko").map_or(name, |(name, _)| name))
}

fn bus(alias: &str) -> &str {
    let bus = alias.split(':').next().unwrap_or(alias);
    if bus.contains(['*', '?', '[']) { "*" } else { bus }
}

/// Whether an fnmatch(3) pattern (`*`, `?`, `[a-f0-9]`, `[!x]`, `\`) matches the whole text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the text after the last `*` does not fit: the pattern after that star,
    // with one more byte of text swallowed by it.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if let Some(next) = one(pattern, p, text[t]) {
            (p, t) = (next, t + 1);
            continue;
        }
        let Some((after_star, swallowed)) = retry else { return false };
        (p, t) = (after_star, swallowed + 1);
        retry = Some((after_star, swallowed + 1));
    }
    pattern[p.min(pattern.len())..].iter().all(|byte| *byte == b'*')
}

/// Matches one byte at `p`; gives where the pattern goes on.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'\\' => (*pattern.get(p + 1)? == byte).then_some(p + 2),
        b'[' => match set(pattern, p + 1, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            // Without an end it is a bracket like any character.
            None => (byte == b'[').then_some(p + 1),
        },
        literal => (literal == byte).then_some(p + 1),
    }
}

/// A bracket expression from after its `[`: whether it has the byte, and where it ends.
fn set(pattern: &[u8], mut p: usize, byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(p)?, b'!' | b'^');
    if negated {
        p += 1;
    }
    let first = p;
    let mut found = false;
    loop {
        let low = *pattern.get(p)?;
        if low == b']' && p > first {
            return Some((found != negated, p + 1));
        }
        let range = pattern.get(p + 1) == Some(&b'-') && !matches!(pattern.get(p + 2)?, b']');
        let high = if range { *pattern.get(p + 2)? } else { low };
        found |= (low..=high).contains(&byte);
        p += if range { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALIAS: &str = "# Aliases extracted from modules themselves.\n\
        alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n\
        alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
        alias virtio:d00000001v* virtio_net\n\
        alias input:b*v*p*e*-e*1,*k*r*a*m*l*s*f*w* evdev\n\
        alias acpi*:LNXPWRBN:* button\n";
    const DEP: &str = "kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko \
        kernel/drivers/net/net_failover.ko\n\
        kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
        kernel/net/core/failover.ko:\n\
        kernel/drivers/net/e1000e.ko:\n\
        kernel/drivers/a.ko: kernel/drivers/b.ko\n\
        kernel/drivers/b.ko: kernel/drivers/a.ko\n";
    const SOFTDEP: &str = "# Soft dependencies\nsoftdep e1000e pre: failover none post: b-b a\n";

    fn catalogue() -> Catalogue {
        Catalogue::parse(ALIAS.into(), DEP, SOFTDEP)
    }

    #[test]
    fn a_device_finds_its_driver_by_modalias() {
        let catalogue = catalogue();
        let device = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
        assert_eq!(catalogue.matching(device), ["e1000e"]);
        assert_eq!(catalogue.matching("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(catalogue.matching("acpi:LNXPWRBN:"), ["button"]);
        assert!(catalogue.matching("pci:v00001234d00001111sv*").is_empty());
        let keys = "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw";
        assert_eq!(catalogue.matching(keys), ["evdev"]);
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let catalogue = catalogue();
        let mut loaded = BTreeSet::new();
        let order = catalogue.load_order("virtio_net", &mut loaded);
        let names: Vec<_> = order.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["failover", "net_failover", "virtio_net"]);
        assert_eq!(order[2].1, "kernel/drivers/net/virtio_net.ko");
        assert!(catalogue.load_order("net_failover", &mut loaded).is_empty());
    }

    #[test]
    fn soft_dependencies_are_loaded_where_they_are_there_and_circles_are_cut() {
        let catalogue = catalogue();
        let order = catalogue.load_order("e1000e", &mut BTreeSet::new());
        let names: Vec<_> = order.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["failover", "e1000e", "b", "a"]);
    }

    #[test]
    fn a_module_that_the_image_lacks_is_not_in_the_order() {
        let catalogue = catalogue();
        assert!(!catalogue.has("virtio_pci"));
        assert!(catalogue.load_order("virtio_pci", &mut BTreeSet::new()).is_empty());
    }

    #[test]
    fn patterns_match_as_fnmatch_says() {
        for (pattern, text, wanted) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("v[0-9A-F]d", "vAd", true),
            ("v[0-9A-F]d", "vad", false),
            ("v[!0]d", "v1d", true),
            ("v[!0]d", "v0d", false),
            ("[]x]", "]", true),
            ("[", "[", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("?", "", false),
            ("**a", "bba", true),
            ("abc", "abcd", false),
            ("abcd", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern:?} on {text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_depmod_or_of_a_device_panics(
            alias in "(alias |[a-z*?\\[\\]\\\\:-]{0,12}[ \n]){0,20}",
            dep in "([a-z/.:-]{0,8}[ :\n]){0,20}",
            softdep in "(softdep |pre: |post: |[a-z]{1,3}[ \n]){0,20}",
            device in ".{0,40}",
        ) {
            let catalogue = Catalogue::parse(alias, &dep, &softdep);
            for module in catalogue.matching(&device) {
                catalogue.load_order(module, &mut BTreeSet::new());
            }
        }

        #[test]
        fn a_star_before_and_after_finds_any_part(
            before in "[a-z]{0,6}", part in "[a-z]{0,6}", after in "[a-z]{0,6}",
        ) {
            let pattern = format!("*{part}*");
            let text = format!("{before}{part}{after}");
            prop_assert!(matches(&pattern, &text));
        }

        #[test]
        fn matching_takes_bounded_time(pattern in "[a*?]{0,60}", text in "a{0,60}") {
            matches(&pattern, &text);
        }
    }
}
