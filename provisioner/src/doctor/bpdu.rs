//! What a bridge says to other bridges: IEEE 802.1D (STP), 802.1w (RSTP), 802.1s (MSTP), and
//! Cisco's PVST+, which is the same in a SNAP envelope with the VLAN behind it.

use crate::machine::Mac;

/// LLC of spanning tree (IEEE 802.2: both service access points 0x42, unnumbered information).
const LLC: &[u8] = &[0x42, 0x42, 3];
/// SNAP of PVST+: Cisco's identifier, and its protocol.
const PVST: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x01, 0x0b];
/// Configuration (802.1D 9.3.1), topology change notification (9.3.2), RST and MST (9.3.3).
const CONFIGURATION: u8 = 0;
const NOTIFICATION: u8 = 0x80;
const RAPID: u8 = 2;

/// Which spanning tree is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Classic: each port waits twice its forward delay.
    Stp,
    /// Rapid: so does each port that is not an edge, towards anything that is no bridge.
    Rstp,
    /// Rapid, with several trees.
    Mstp,
}

impl Version {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stp => "STP",
            Self::Rstp => "RSTP",
            Self::Mstp => "MSTP",
        }
    }
}

/// A bridge's message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bpdu {
    /// Which tree.
    pub(super) version: Version,
    /// A VLAN's own tree (PVST+).
    pub(super) vlan: Option<u16>,
    /// What it says; none in a bare notification of a change.
    pub(super) says: Option<Says>,
    /// The tree changes now: it notifies, or its flag says so.
    pub(super) changes: bool,
}

/// What a configuration message says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Says {
    /// The root bridge's Ethernet address.
    pub(super) root: Mac,
    /// The sender's own.
    pub(super) bridge: Mac,
    /// The sender's port.
    pub(super) port: u16,
    /// Seconds between two messages.
    pub(super) hello: f32,
    /// Seconds that a port listens, and then learns, before it forwards.
    pub(super) forward_delay: f32,
}

/// Reads an LLC frame; none where it is no BPDU.
pub(super) fn parse(llc: &[u8]) -> Option<Bpdu> {
    let (body, own_tree) = match (llc.strip_prefix(LLC), llc.strip_prefix(PVST)) {
        (Some(body), _) => (body, false),
        (_, Some(body)) => (body, true),
        _ => return None,
    };
    let [0, 0, version, kind, rest @ ..] = body else { return None };
    let version = match version {
        0 => Version::Stp,
        2 => Version::Rstp,
        // What is newer than MSTP is read as that (802.1D 9.3.4).
        3.. => Version::Mstp,
        1 => return None,
    };
    match *kind {
        NOTIFICATION => Some(Bpdu { version, vlan: None, says: None, changes: true }),
        CONFIGURATION | RAPID => {
            let fields: &[u8; 31] = rest.first_chunk()?;
            let address = |at: usize| {
                let mut mac = [0; 6];
                mac.copy_from_slice(&fields[at..at + 6]);
                Mac(mac)
            };
            let word = |at: usize| u16::from_be_bytes([fields[at], fields[at + 1]]);
            // Times are in 256ths of a second.
            let seconds = |at: usize| f32::from(word(at)) / 256.0;
            Some(Bpdu {
                version,
                vlan: own_tree.then(|| vlan(&rest[31..])).flatten(),
                says: Some(Says {
                    root: address(3),
                    bridge: address(15),
                    port: word(21),
                    hello: seconds(27),
                    forward_delay: seconds(29),
                }),
                changes: fields[0] & 1 != 0,
            })
        }
        _ => None,
    }
}

/// The VLAN behind a PVST+ message: type 0, length 2. RSTP has a length of its own before it.
fn vlan(rest: &[u8]) -> Option<u16> {
    let at = rest.windows(4).take(8).position(|window| window == [0, 0, 0, 2])?;
    let bytes = rest.get(at + 4..at + 6)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A configuration message of a bridge with usual times.
    fn message(version: u8, kind: u8, flags: u8) -> Vec<u8> {
        let bridge = [0x80, 0, 2, 0xb0, 0, 0, 0, 5];
        [
            &[0, 0, version, kind, flags][..],
            &bridge,
            &[0, 0, 0, 0],
            &bridge,
            &[0x80, 2, 0, 0, 20, 0, 2, 0, 15, 0],
        ]
        .concat()
    }

    #[test]
    fn delays_and_bridges_are_read() {
        let bpdu = parse(&[LLC, &message(0, 0, 1)].concat()).unwrap();
        let says = bpdu.says.unwrap();
        assert_eq!((bpdu.version, bpdu.changes, bpdu.vlan), (Version::Stp, true, None));
        assert_eq!((says.hello, says.forward_delay, says.port), (2.0, 15.0, 0x8002));
        assert_eq!(says.bridge, Mac([2, 0xb0, 0, 0, 0, 5]));
        assert_eq!(says.root, says.bridge);
        let rapid = parse(&[LLC, &message(2, 2, 0x3c), &[0]].concat()).unwrap();
        assert_eq!((rapid.version, rapid.changes), (Version::Rstp, false));
        assert_eq!(parse(&[LLC, &[0, 0, 0, 0x80]].concat()).map(|b| b.changes), Some(true));
    }

    #[test]
    fn ciscos_envelope_names_the_vlan() {
        let bytes = [PVST, &message(2, 2, 0), &[0, 0, 0, 0, 0, 2, 0, 42]].concat();
        assert_eq!(parse(&bytes).unwrap().vlan, Some(42));
        let bytes = [PVST, &message(0, 0, 0), &[0, 0, 0, 2, 0, 7]].concat();
        assert_eq!(parse(&bytes).unwrap().vlan, Some(7));
    }

    #[test]
    fn what_is_cut_off_or_no_spanning_tree_is_passed_over() {
        assert_eq!(parse(&[LLC, &message(0, 0, 0)[..34]].concat()), None);
        assert_eq!(parse(b"\xaa\xaa\x03\x00\x00\x0c\x20\x00"), None);
        assert_eq!(parse(&[LLC, &[1, 0, 0, 0x80]].concat()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(cisco: bool, bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&[if cisco { PVST } else { LLC }, &bytes].concat());
            let _ = parse(&bytes);
        }
    }
}
