//! Which entries fit a request, and what they come to together.

use super::{
    Applied, Quirks,
    table::{Entry, Match, Set, Table, TableError},
};
use crate::{
    dhcp::{classify::is_ipxe, packet::Request},
    dhcp6,
    groups::Configured,
    machine::Mac,
};
use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, fmt, path::Path, sync::Arc};

/// What is set for one machine by hand.
#[derive(Clone, Debug, Default)]
pub struct Hand {
    /// Values of its own.
    pub set: Set,
    /// Entries that it names, strongest first.
    pub names: Vec<String>,
}

/// All that is known about firmware.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    hand: BTreeMap<Mac, Hand>,
    configured: Option<Arc<Configured>>,
    operator: Table,
    built_in: Table,
}

/// A machine's table names an entry that is nowhere.
#[derive(Debug, thiserror::Error)]
#[error("machine {mac} names the unknown quirk {name:?}: did you mean {nearest:?}?")]
pub struct UnknownQuirk {
    /// The machine.
    pub mac: Mac,
    /// The name.
    pub name: String,
    /// The one most like it.
    pub nearest: String,
}

/// The rules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A table is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A name is unknown.
    #[error(transparent)]
    Unknown(#[from] UnknownQuirk),
}

/// What a request tells of who asks, by whatever family.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// The machine.
    pub mac: Mac,
    /// Its vendor class.
    pub vendor_class: &'a [u8],
    /// Its architectures.
    pub architectures: &'a [u16],
    /// Whether it is iPXE.
    pub ipxe: bool,
}

impl<'a> From<&'a Request> for Asks<'a> {
    fn from(request: &'a Request) -> Self {
        Self {
            mac: request.mac,
            vendor_class: &request.vendor_class,
            architectures: &request.architectures,
            ipxe: is_ipxe(request),
        }
    }
}

impl<'a> From<&'a dhcp6::packet::Request> for Asks<'a> {
    fn from(request: &'a dhcp6::packet::Request) -> Self {
        Self {
            mac: request.mac,
            vendor_class: &request.vendor_class,
            architectures: &request.architectures,
            ipxe: request.ipxe,
        }
    }
}

/// How much an entry says of a machine; more outweighs less.
type Weight = (usize, usize, usize, bool);

impl Rules {
    /// The built-in table, an operator's file where there is one, and what is set by hand.
    pub fn load(operator: Option<&Path>, hand: BTreeMap<Mac, Hand>) -> Result<Self, RulesError> {
        let operator = operator.map(Table::read).transpose()?.unwrap_or_default();
        Ok(Self::new(Table::built_in()?, operator, hand)?)
    }

    /// Rules of tables that are read already.
    pub fn new(
        built_in: Table,
        operator: Table,
        hand: BTreeMap<Mac, Hand>,
    ) -> Result<Self, UnknownQuirk> {
        let rules = Self { hand, configured: None, operator, built_in };
        for (&mac, hand) in &rules.hand {
            if let Some(name) = hand.names.iter().find(|name| rules.named(name).is_none()) {
                let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
                let nearest = rules.names().min_by_key(distance).unwrap_or_default().into();
                return Err(UnknownQuirk { mac, name: name.clone(), nearest });
            }
        }
        Ok(rules)
    }

    /// These rules with what is set by hand as the configuration has it, in which the file is.
    pub fn configured(self, configured: Arc<Configured>) -> Self {
        Self { configured: Some(configured), ..self }
    }

    fn hand(&self, mac: Mac) -> Option<Cow<'_, Hand>> {
        match &self.configured {
            Some(configured) => configured.hand(mac).map(Cow::Owned),
            None => self.hand.get(&mac).map(Cow::Borrowed),
        }
    }

    /// What the machine behind a request needs.
    pub fn quirks<'a>(&self, request: impl Into<Asks<'a>>) -> Quirks {
        let request = &request.into();
        let mut settled = Settled::default();
        if let Some(hand) = self.hand(request.mac) {
            settled.take(&hand.set, None, || "set by hand".into());
            for name in &hand.names {
                if let Some(entry) = self.named(name) {
                    settled.take(&entry.set, Some(&entry.name), || "by hand".into());
                }
            }
        }
        // An operator's entry takes the place of the built-in one of its name.
        let replaced = |entry: &&Entry| self.operator.named(&entry.name).is_none();
        for (entry, found) in fitting(self.operator.entries.iter(), request) {
            settled.take(&entry.set, Some(&entry.name), || format!("operator's file, {found}"));
        }
        for (entry, found) in fitting(self.built_in.entries.iter().filter(replaced), request) {
            settled.take(&entry.set, Some(&entry.name), || found.to_string());
        }
        settled.quirks()
    }

    fn named(&self, name: &str) -> Option<&Entry> {
        self.operator.named(name).or_else(|| self.built_in.named(name))
    }

    /// The names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let entries = self.operator.entries.iter().chain(&self.built_in.entries);
        entries.map(|entry| entry.name.as_str())
    }
}

/// Entries that fit, the one that says most first.
fn fitting<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    request: &Asks<'_>,
) -> Vec<(&'a Entry, Found)> {
    let fits = |entry: &'a Entry| Some((entry, entry.matches.as_ref()?.fits(request)?));
    let mut found: Vec<(&Entry, Found)> = entries.filter_map(fits).collect();
    found.sort_by_key(|(_, found)| Reverse(found.weight));
    found
}

/// By what an entry fits.
struct Found {
    weight: Weight,
    by: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by.join(", "))
    }
}

impl Match {
    /// How it fits, if it does: everything given must.
    fn fits(&self, request: &Asks<'_>) -> Option<Found> {
        let mut found = Found { weight: (0, 0, 0, false), by: Vec::new() };
        if !self.mac.is_empty() {
            let fitting = self.mac.iter().filter(|prefix| prefix.fits(request.mac));
            let prefix = fitting.max_by_key(|prefix| prefix.bytes())?;
            found.weight.0 = prefix.bytes();
            found.by.push(format!("MAC {prefix}"));
        }
        if let Some(class) = &self.vendor_class {
            if !request.vendor_class.starts_with(class.as_bytes()) {
                return None;
            }
            found.weight.1 = class.len();
            found.by.push(format!("class {class}"));
        }
        if !self.architectures.is_empty() {
            let listed = |arch: &&u16| self.architectures.contains(arch);
            let arch = request.architectures.iter().find(listed)?;
            found.weight.2 = 1;
            found.by.push(format!("architecture {arch}"));
        }
        if let Some(wanted) = self.ipxe {
            if request.ipxe != wanted {
                return None;
            }
            found.weight.3 = true;
            found.by.push(if wanted { "iPXE" } else { "no iPXE" }.into());
        }
        Some(found)
    }
}

/// What is settled so far; the first to set a value has the say.
#[derive(Default)]
struct Settled {
    set: Set,
    applied: Vec<Applied>,
}

impl Settled {
    fn take(&mut self, more: &Set, name: Option<&str>, why: impl Fn() -> String) {
        fn first<T: Copy>(mine: &mut Option<T>, more: Option<T>) -> bool {
            let counts = mine.is_none() && more.is_some();
            if counts {
                *mine = more;
            }
            counts
        }
        let set = &mut self.set;
        let mut counts = first(&mut set.boot_method, more.boot_method);
        counts |= first(&mut set.replace_ipxe, more.replace_ipxe);
        counts |= first(&mut set.https, more.https);
        counts |= first(&mut set.architecture, more.architecture);
        counts |= first(&mut set.blksize, more.blksize);
        counts |= first(&mut set.window, more.window);
        counts |= first(&mut set.rate, more.rate);
        // Of one option the first to name it says whether it is sent, and with what.
        let settled = |set: &Set, code: u8| {
            set.drop_options.contains(&code) || set.add_options.iter().any(|add| add.code == code)
        };
        for add in &more.add_options {
            if !settled(set, add.code) {
                set.add_options.push(add.clone());
                counts = true;
            }
        }
        for &code in &more.drop_options {
            if !settled(set, code) {
                set.drop_options.push(code);
                counts = true;
            }
        }
        if counts {
            self.applied.push(Applied { name: name.map(String::from), why: why() });
        }
    }

    fn quirks(self) -> Quirks {
        let set = self.set;
        Quirks {
            method: set.boot_method.unwrap_or_default(),
            replace_ipxe: set.replace_ipxe.unwrap_or_default(),
            https: set.https,
            architecture: set.architecture,
            care: set.care(),
            add_options: set.add_options,
            drop_options: set.drop_options,
            applied: self.applied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::{parse, settings::BootMethod};

    const MAC: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 9]);

    fn request(mac: Mac, options: &[(u8, &[u8])]) -> Request {
        let mut bytes = vec![0; 240];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[28..34].copy_from_slice(&mac.0);
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, 1]);
        for (code, value) in options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(*value);
        }
        bytes.push(255);
        parse(&bytes).unwrap()
    }

    fn uefi() -> Request {
        request(MAC, &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])])
    }

    fn table(text: &str) -> Table {
        Table::parse(Path::new("test"), text).unwrap()
    }

    fn entry(name: &str, matches: &str, set: &str) -> String {
        format!("[[quirk]]\nname = '{name}'\nabout = 'x'\nmatch = {matches}\nset = {set}\n")
    }

    #[test]
    fn by_hand_outweighs_the_operators_file_and_that_the_built_in_table() {
        let built_in = entry(
            "b",
            "{ mac = ['52:54:00:aa:00:09'] }",
            "{ window = 8, blksize = 1000, rate = 50000 }",
        );
        let operator = entry("o", "{ mac = ['52:54:00'] }", "{ window = 4, blksize = 900 }");
        let set = Set { window: Some(2), ..Set::default() };
        let hand = BTreeMap::from([(MAC, Hand { set, names: vec![] })]);
        let rules = Rules::new(table(&built_in), table(&operator), hand).unwrap();
        let quirks = rules.quirks(&uefi());
        let care = quirks.care;
        assert_eq!((care.window, care.blksize, care.rate), (Some(2), Some(900), Some(50_000)));
        assert_eq!(
            quirks.told().unwrap(),
            "quirks: set by hand, o (operator's file, MAC 52:54:00), b (MAC 52:54:00:aa:00:09)"
        );
        let other = request(Mac([2, 0, 0, 0, 0, 1]), &[]);
        assert_eq!(rules.quirks(&other), Quirks::default());
    }

    #[test]
    fn within_a_table_a_longer_prefix_outweighs_a_shorter_and_then_who_says_more() {
        let all = [
            entry("any", "{ ipxe = false }", "{ window = 1, rate = 10001 }"),
            entry("maker", "{ mac = ['52:54:00'] }", "{ window = 2, blksize = 600 }"),
            entry(
                "class",
                "{ mac = ['52:54:00'], vendor-class = 'PXEClient' }",
                "{ window = 3, blksize = 700, boot-method = 'boot-server' }",
            ),
            entry("block", "{ mac = ['52:54:00:aa'] }", "{ window = 4 }"),
            entry("elsewhere", "{ mac = ['52:54:00:aa'], architectures = [0] }", "{ window = 5 }"),
        ];
        let rules = Rules::new(table(&all.concat()), Table::default(), BTreeMap::new()).unwrap();
        let quirks = rules.quirks(&uefi());
        let names: Vec<_> = quirks.applied.iter().filter_map(|a| a.name.clone()).collect();
        assert_eq!(names, ["block", "class", "any"], "and who had no say is not told");
        let care = quirks.care;
        assert_eq!((care.window, care.blksize, care.rate), (Some(4), Some(700), Some(10_001)));
        assert_eq!(quirks.method, BootMethod::BootServer);
    }

    #[test]
    fn an_operators_entry_takes_the_place_of_the_built_in_one_of_its_name() {
        let built_in = entry("x", "{ mac = ['52:54:00'] }", "{ window = 1, https = true }");
        let operator = entry("x", "{ mac = ['52:54:01'] }", "{ window = 2 }");
        let rules = Rules::new(table(&built_in), table(&operator), BTreeMap::new()).unwrap();
        assert_eq!(rules.quirks(&uefi()), Quirks::default());
    }

    #[test]
    fn a_machine_names_entries_that_fit_nobody_by_themselves() {
        let built_in = Table::built_in().unwrap();
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| name.to_string()).collect();
            let hand = BTreeMap::from([(MAC, Hand { set: Set::default(), names })]);
            Rules::new(built_in.clone(), Table::default(), hand)
        };
        let rules = named(&["no-blksize", "https-only"]).unwrap();
        let quirks = rules.quirks(&uefi());
        assert!(quirks.https == Some(true) && quirks.care.blksize == Some(512));
        assert_eq!(quirks.told().unwrap(), "quirks: no-blksize (by hand), https-only (by hand)");
        let error = named(&["no-blcksize"]).unwrap_err().to_string();
        assert!(error.contains("\"no-blksize\""), "{error}");
    }

    #[test]
    fn a_raspberry_pi_that_calls_itself_a_bios_is_taken_for_what_it_is() {
        let rules = Rules::load(None, BTreeMap::new()).unwrap();
        let bios: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
        let pi = request(Mac([0xdc, 0xa6, 0x32, 1, 2, 3]), bios);
        let quirks = rules.quirks(&pi);
        assert_eq!(quirks.corrected(pi).architectures, [41]);
        let pc = request(MAC, bios);
        assert_eq!(rules.quirks(&pc), Quirks::default());
    }

    #[test]
    fn of_one_option_the_stronger_says_whether_it_is_sent() {
        let built_in = entry(
            "b",
            "{ ipxe = false }",
            "{ drop-options = [66, 60], add-options = [{ code = 67, text = 'b' }] }",
        );
        let operator = entry(
            "o",
            "{ ipxe = false }",
            "{ drop-options = [67], add-options = [{ code = 66, text = 'o' }] }",
        );
        let rules = Rules::new(table(&built_in), table(&operator), BTreeMap::new()).unwrap();
        let quirks = rules.quirks(&uefi());
        let added: Vec<u8> = quirks.add_options.iter().map(|add| add.code).collect();
        assert_eq!((added, quirks.drop_options), (vec![66], vec![67, 60]));
    }
}
