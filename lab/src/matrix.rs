//! Every way to boot, on every kind of network: the cells of a table, what became of each, and the
//! table as people read it. Pure; `tests/matrix.rs` boots them.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// By what a machine is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// SeaBIOS and the boot ROM of its network card.
    BiosRom,
    /// UEFI's own PXE.
    Pxe,
    /// UEFI's HTTP boot.
    Http,
    /// The same by HTTPS, with our CA in the firmware.
    Https,
    /// A stick with a miner's medium (`cargo xtask medium`).
    Stick,
    /// An EFI file in the EFI system partition of a disk.
    EfiFile,
    /// The same stick, and no UEFI.
    BiosStick,
    /// The same bytes as a CD.
    Cd,
    /// The same, and no UEFI.
    BiosCd,
}

/// What the network has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// We are its DHCP server.
    Ours,
    /// A foreign server gives the addresses, and we say what to boot.
    Proxy,
    /// The machine is behind a router, whose relay asks us.
    Relay,
    /// Addresses from a foreign server or router, and not a word from us.
    Silent,
}

/// By which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 alone.
    V6,
}

const WAYS: [Way; 9] = [
    Way::BiosRom,
    Way::Pxe,
    Way::Http,
    Way::Https,
    Way::Stick,
    Way::EfiFile,
    Way::BiosStick,
    Way::Cd,
    Way::BiosCd,
];
const NETWORKS: [Network; 4] = [Network::Ours, Network::Proxy, Network::Relay, Network::Silent];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BiosRom => "SeaBIOS, ROM of the card",
            Self::Pxe => "OVMF, PXE",
            Self::Http => "OVMF, HTTP",
            Self::Https => "OVMF, HTTPS",
            Self::Stick => "OVMF, stick",
            Self::EfiFile => "OVMF, EFI file",
            Self::BiosStick => "SeaBIOS, stick",
            Self::Cd => "OVMF, CD",
            Self::BiosCd => "SeaBIOS, CD",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "our DHCP",
            Self::Proxy => "ProxyDHCP",
            Self::Relay => "relay",
            Self::Silent => "no options",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One of them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// By which of the two.
    pub family: Family,
    /// By what it is started.
    pub way: Way,
    /// What the network has.
    pub network: Network,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.way, self.network, self.family)
    }
}

impl Cell {
    /// All of them, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.into_iter().flat_map(|family| {
            WAYS.into_iter().flat_map(move |way| {
                NETWORKS.into_iter().map(move |network| Self { family, way, network })
            })
        })
    }

    /// Whether firmware fetches what it starts.
    pub fn fetches(&self) -> bool {
        matches!(self.way, Way::BiosRom | Way::Pxe | Way::Http | Way::Https)
    }

    /// Why there is nothing to boot; none where there is.
    pub fn nothing(&self) -> Option<Nothing> {
        match (self.way, self.network, self.family) {
            (Way::BiosRom, _, Family::V6) => Some(Nothing::OldBios),
            (_, Network::Proxy, Family::V6) => Some(Nothing::NoProxy),
            (_, Network::Silent, _) if self.fetches() => Some(Nothing::Untold),
            // The system that it starts is the stick's, and so is all that follows.
            (Way::Cd | Way::BiosCd, network, family)
                if (network, family) != (Network::Silent, Family::V4) =>
            {
                Some(Nothing::AsStick)
            }
            _ => None,
        }
    }
}

/// Why a cell is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nothing {
    /// The firmware.
    OldBios,
    /// The protocol.
    NoProxy,
    /// The network.
    Untold,
    /// Nothing that another cell does not show.
    AsStick,
}

const NOTHINGS: [Nothing; 4] =
    [Nothing::Untold, Nothing::NoProxy, Nothing::OldBios, Nothing::AsStick];

impl Nothing {
    /// As it stands in a cell.
    fn mark(self) -> &'static str {
        match self {
            Self::Untold => "a",
            Self::NoProxy => "b",
            Self::OldBios => "c",
            Self::AsStick => "d",
        }
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untold => {
                "a: nothing on the network names us to firmware. A stick or an EFI file knows us."
            }
            Self::NoProxy => {
                "b: DHCPv6 has no proxy: a server's answer is taken whole or not at all \
                 ([ipv6.md](ipv6.md) says what another server has to name)."
            }
            Self::OldBios => {
                "c: BIOS has no IPv6. The iPXE in a card's ROM may; it is not counted on."
            }
            Self::AsStick => {
                "d: could be, and was not booted: from its kernel on a CD is the stick of the same bytes."
            }
        })
    }
}

/// Seconds from power-on to each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// We first hear of it: firmware's first DHCP packet, or what the medium's system asks.
    pub heard: f64,
    /// Firmware has fetched its boot loader.
    pub loader: Option<f64>,
    /// The boot loader begins to fetch the kernel.
    pub fetching: Option<f64>,
    /// The kernel says its first word.
    pub kernel: f64,
    /// The node is taken in.
    pub enrolled: f64,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = [self.loader, self.fetching, Some(self.kernel), Some(self.enrolled)];
        let stages = stages.map(|at| at.map_or("-".into(), |at| format!("{at:.0}")));
        // A medium's system is heard of after its kernel.
        match self.loader.is_some() || self.fetching.is_some() {
            true => write!(f, "{:.0} / {}", self.heard, stages.join(" / ")),
            false => write!(f, "- / {}", stages.join(" / ")),
        }
    }
}

/// What became of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It booted to enrolment.
    Booted(Times),
    /// It did not, and this was said.
    Failed(String),
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What ran the machines' processors.
    pub accelerator: String,
    /// The image's version.
    pub image: String,
    /// Each cell that was booted.
    pub cells: Vec<(Cell, Outcome)>,
}

impl Report {
    /// Notes what became of a cell, instead of what was noted of it before.
    pub fn note(&mut self, cell: Cell, outcome: Outcome) {
        self.cells.retain(|(each, _)| *each != cell);
        self.cells.push((cell, outcome));
        self.cells.sort_by_key(|(cell, _)| *cell);
    }

    /// Cells that failed, or were not booted though they could be.
    pub fn open(&self) -> Vec<String> {
        let outcomes: BTreeMap<Cell, &Outcome> =
            self.cells.iter().map(|(cell, outcome)| (*cell, outcome)).collect();
        let open = |cell: Cell| match outcomes.get(&cell) {
            Some(Outcome::Booted(_)) => None,
            Some(Outcome::Failed(said)) => Some(format!("{cell}: {said}")),
            None => cell.nothing().is_none().then(|| format!("{cell}: not booted")),
        };
        Cell::all().filter_map(open).collect()
    }

    /// The page of the documentation: Markdown.
    pub fn page(&self) -> String {
        let outcomes: BTreeMap<Cell, &Outcome> =
            self.cells.iter().map(|(cell, outcome)| (*cell, outcome)).collect();
        let text = |cell: Cell| match (outcomes.get(&cell), cell.nothing()) {
            (Some(Outcome::Booted(times)), _) => times.to_string(),
            (Some(Outcome::Failed(_)), _) => "**failed**".into(),
            (None, Some(nothing)) => nothing.mark().into(),
            (None, None) => "not run".into(),
        };
        let mut page = format!(
            "# Every way to boot\n\n\
             Written by `cargo xtask test --long matrix`, which boots each cell in QEMU: real firmware, \
             a real provisioner, from power-on until the node is taken in. The test is \
             `lab/tests/matrix.rs`, its cells are `lab/src/matrix.rs`.\n\n\
             Seconds from power-on: firmware's first DHCP packet / boot loader fetched / kernel being \
             fetched / kernel running / taken in. A stick or an EFI file brings the kernel along. \
             {}; image {}. Emulated processors are ten times slower than real ones and more, and other \
             work was on the host: the figures say what came after what.\n",
            self.accelerator, self.image
        );
        for family in FAMILIES {
            page += &format!("\n## {family}\n\n| |");
            page.extend(NETWORKS.map(|network| format!(" {network} |")));
            page += "\n|---|---|---|---|---|\n";
            for way in WAYS {
                page += &format!("| {way} |");
                let cells = NETWORKS.map(|network| Cell { family, way, network });
                page.extend(cells.map(|cell| format!(" {} |", text(cell))));
                page += "\n";
            }
        }
        page += "\n";
        page.extend(NOTHINGS.map(|nothing| format!("- {nothing}\n")));
        page += NETWORK_NOTES;
        page
    }
}

const NETWORK_NOTES: &str = "\n\
    Our DHCP: `--dhcp full`, or `--dhcp6 full`. ProxyDHCP: `--dhcp proxy` beside dnsmasq. Relay: \
    dnsmasq relays from a network behind a router, whose addresses are ours to give \
    (`--pool FIRST-LAST/PREFIX --router IP`; `--pool6`). No options: dnsmasq gives addresses, or \
    advertises a prefix; we answer no DHCP.\n\n\
    Stick and CD are one medium of a miner's, made his ([home.md](home.md)); the EFI file is that medium's, \
    as `alia medium get --esp` writes it.\n\n\
    OVMF is Debian's (trixie). It has no elliptic curves, so HTTPS is [by RSA keys](https.md#firmware-without-elliptic-curves).\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(way: Way, network: Network, family: Family) -> Cell {
        Cell { family, way, network }
    }

    #[test]
    fn what_cannot_be_says_why_and_all_else_is_booted() {
        let all: Vec<Cell> = Cell::all().collect();
        assert_eq!(all.len(), 9 * 4 * 2);
        assert_eq!(all.iter().filter(|cell| cell.nothing().is_none()).count(), 20 + 12 + 4 + 3 + 2);
        let silent = cell(Way::Pxe, Network::Silent, Family::V4);
        assert_eq!(silent.nothing(), Some(Nothing::Untold));
        assert_eq!(cell(Way::Stick, Network::Silent, Family::V6).nothing(), None);
    }

    #[test]
    fn a_page_has_each_cell_and_what_is_open_is_told() {
        let mut report = Report::default();
        let (good, bad) = (
            cell(Way::Pxe, Network::Ours, Family::V4),
            cell(Way::EfiFile, Network::Relay, Family::V6),
        );
        report.note(good, Outcome::Failed("once".into()));
        let times = Times {
            heard: 3.2,
            loader: Some(9.0),
            fetching: Some(12.7),
            kernel: 14.0,
            enrolled: 30.4,
        };
        report.note(good, Outcome::Booted(times));
        report.note(bad, Outcome::Failed("no route".into()));
        let page = report.page();
        assert!(page.contains("| OVMF, PXE | 3 / 9 / 13 / 14 / 30 | not run |"), "{page}");
        assert!(page.contains("| SeaBIOS, ROM of the card | c | c | c | c |"), "{page}");
        let open = report.open();
        assert_eq!(open.len(), 40);
        assert!(open.contains(&"OVMF, EFI file, relay, IPv6: no route".to_owned()), "{open:?}");
        let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(read, report);
    }
}
