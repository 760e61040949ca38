//! Which switch, and which of its ports, we are at: LLDP (IEEE 802.1AB) and Cisco's CDP.

use super::text::said;

/// SNAP of CDP: Cisco's identifier, and its protocol.
const CDP: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0];

/// What a switch says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its name, or its address where it has none.
    pub(super) switch: String,
    /// Its port that we are at.
    pub(super) port: String,
}

/// Reads LLDP; none where it names neither a switch nor a port.
pub(super) fn lldp(bytes: &[u8]) -> Option<Neighbour> {
    let (mut chassis, mut port, mut about, mut name) = (None, None, None, None);
    let mut rest = bytes;
    while let [first, second, tail @ ..] = rest {
        // Seven bits of type, nine of length.
        let length = usize::from(first & 1) << 8 | usize::from(*second);
        let Some((value, tail)) = tail.split_at_checked(length) else { break };
        match first >> 1 {
            0 => break,
            1 => chassis = identifier(value, 4),
            2 => port = identifier(value, 3),
            4 => about = said(value),
            5 => name = said(value),
            _ => {}
        }
        rest = tail;
    }
    let switch = name.or(chassis)?;
    Some(Neighbour { switch, port: about.or(port)? })
}

/// An identifier after its kind; where that says Ethernet address, as one.
fn identifier(value: &[u8], ethernet: u8) -> Option<String> {
    match value {
        [kind, address @ ..] if *kind == ethernet && address.len() == 6 => {
            Some(address.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
        }
        [_, text @ ..] => said(text),
        [] => None,
    }
}

/// Reads an LLC frame with CDP; none where it is none.
pub(super) fn cdp(llc: &[u8]) -> Option<Neighbour> {
    // Version, time to live, checksum.
    let mut rest = llc.strip_prefix(CDP)?.get(4..)?;
    let (mut switch, mut port) = (None, None);
    while let [a, b, c, d, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let Some((field, tail)) = rest.split_at_checked(length) else { break };
        // Its length counts its own header.
        let Some(value) = field.get(4..) else { break };
        match u16::from_be_bytes([*a, *b]) {
            1 => switch = said(value),
            3 => port = said(value),
            _ => {}
        }
        rest = tail;
    }
    Some(Neighbour { switch: switch?, port: port? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lldp_names_switch_and_port() {
        let bytes = b"\x02\x07\x04\x02\xb0\0\0\0\x05\x04\x04\x05ge3\x06\x02\0\x78\x0a\x04sw-7\0\0";
        let expected = Neighbour { switch: "sw-7".into(), port: "ge3".into() };
        assert_eq!(lldp(bytes), Some(expected));
        // Without a name of its own it is its address.
        assert_eq!(lldp(&bytes[..18]).unwrap().switch, "02:b0:00:00:00:05");
    }

    #[test]
    fn cdp_names_switch_and_port() {
        let bytes = [CDP, b"\x02\xb4\0\0\0\x01\0\x08sw-9\0\x03\0\x09Gi0/1"].concat();
        let expected = Neighbour { switch: "sw-9".into(), port: "Gi0/1".into() };
        assert_eq!(cdp(&bytes), Some(expected));
        assert_eq!(cdp(&[CDP, b"\x02\xb4\0\0\0\x01\0\0"].concat()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = lldp(&bytes);
            let _ = cdp(&[CDP, &bytes].concat());
        }
    }
}
