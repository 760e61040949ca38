//! Faults of cards, which their driver tells in the kernel's log as `NVRM: Xid`
//! (<https://docs.nvidia.com/deploy/xid-errors/>).

use protocol::node_api::KernelLine;

/// What every such line begins with.
const PREFIX: &str = "NVRM: Xid (PCI:";
/// The longest text that is kept of one.
const MAX_TEXT: usize = 200;
/// The most that are told at a time: a card that fails tells without end.
pub const MAX_TOLD: usize = 8;

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    /// The card's PCI address without the function: `0000:01:00`.
    pub address: String,
    /// Its number in NVIDIA's list.
    pub code: u32,
    /// What the driver says beside it.
    pub text: String,
}

/// Whose a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The program's that ran on the card, or one that the card got over.
    Work,
    /// The card's memory.
    Memory,
    /// The card's or its bus's: it works no more before the machine restarts.
    Card,
}

impl Xid {
    /// Whose it is, by NVIDIA's list.
    pub fn blame(&self) -> Blame {
        match self.code {
            // Double bit, page retirement failed, row remapping failed, contained, uncontained,
            // unrecovered.
            48 | 64 | 94 | 95 | 140 => Blame::Memory,
            // Halted processors of the card, NVLink, off the bus, GSP's time out and errors, and
            // that a reset is wanted.
            61 | 62 | 74 | 79 | 109 | 110 | 119 | 120 | 143 | 154 => Blame::Card,
            _ => Blame::Work,
        }
    }
}

/// For people.
impl std::fmt::Display for Xid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = match self.blame() {
            Blame::Work => "of the work on it",
            Blame::Memory => "of its memory",
            Blame::Card => "of the card: it works no more before a restart",
        };
        write!(f, "card {} tells fault {} ({whose}): {}", self.address, self.code, self.text)
    }
}

/// Reads a line of the kernel's log.
pub fn parse(line: &str) -> Option<Xid> {
    let (address, rest) = line.strip_prefix(PREFIX)?.split_once("): ")?;
    let plausible = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    if address.len() > 16 || !address.chars().all(plausible) {
        return None;
    }
    let (code, text) = rest.split_once(", ").unwrap_or((rest, ""));
    let text = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    Some(Xid { address: address.to_owned(), code: code.trim().parse().ok()?, text })
}

/// What of the kernel's log was looked at.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The sequence number of the last line.
    seen: Option<u64>,
}

impl Watch {
    /// The faults that are new among these lines, oldest first, [`MAX_TOLD`] of them at most; and
    /// how many more there were.
    pub fn step(&mut self, lines: &[KernelLine]) -> (Vec<Xid>, usize) {
        let seen = self.seen;
        let new = lines.iter().filter(|line| seen.is_none_or(|seen| line.sequence > seen));
        let mut told: Vec<Xid> = new.filter_map(|line| parse(&line.text)).collect();
        self.seen = lines.iter().map(|line| line.sequence).max().max(self.seen);
        let more = told.len().saturating_sub(MAX_TOLD);
        told.truncate(MAX_TOLD);
        (told, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOST: &str = "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.";

    fn line(sequence: u64, text: &str) -> KernelLine {
        KernelLine { level: 3, sequence, at_us: 0, text: text.into() }
    }

    #[test]
    fn a_fault_is_read_and_says_whose_it_is() {
        let lost = parse(LOST).unwrap();
        assert_eq!((lost.address.as_str(), lost.code), ("0000:01:00", 79));
        assert_eq!(lost.blame(), Blame::Card);
        assert!(lost.to_string().contains("fault 79 (of the card"), "{lost}");
        let page =
            parse("NVRM: Xid (PCI:0000:41:00): 31, pid=812, name=compute, MMU Fault").unwrap();
        assert_eq!((page.code, page.blame()), (31, Blame::Work));
        assert_eq!(parse("NVRM: Xid (PCI:0000:41:00): 48").unwrap().blame(), Blame::Memory);
        for other in ["NVRM: loading", "NVRM: Xid (PCI:xyz): 1, a", "NVRM: Xid (PCI:0): a, b", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn each_fault_is_told_once_and_a_flood_of_them_is_counted() {
        let mut watch = Watch::default();
        assert_eq!(watch.step(&[line(1, "x"), line(2, LOST)]).0.len(), 1);
        assert_eq!(watch.step(&[line(1, "x"), line(2, LOST)]), (Vec::new(), 0));
        let flood: Vec<_> = (2..30).map(|sequence| line(sequence, LOST)).collect();
        let (told, more) = watch.step(&flood);
        assert_eq!((told.len(), more), (MAX_TOLD, 27 - MAX_TOLD));
        assert_eq!(watch.step(&[]), (Vec::new(), 0));
        assert_eq!(watch.step(&flood).0.len(), 0, "an empty log forgets nothing");
    }

    proptest! {
        #[test]
        fn no_line_panics(text in "(NVRM: Xid |\\(PCI:|\\): |, |[0-9a-f:]|\\PC){0,20}") {
            if let Some(xid) = parse(&text) {
                prop_assert!(!xid.to_string().contains(char::is_control));
            }
        }
    }
}
