//! Which ports the node could be spoken to at, from /proc: told, so that it can be held to what is
//! promised (none but the API's).

use crate::kernel::{self, Kernel};
use protocol::node_api::NodeSocket;
use std::net::IpAddr;

/// TCP's state of a socket that waits for connections.
const LISTENS: &str = "0A";
/// The files that sockets stand in, the protocol's name, and whether only those count that listen:
/// a UDP socket without a peer hears everybody.
const SOCKETS: [(&str, &str); 4] = [
    ("/proc/net/tcp", "tcp"),
    ("/proc/net/tcp6", "tcp6"),
    ("/proc/net/udp", "udp"),
    ("/proc/net/udp6", "udp6"),
];
/// The most that are told.
const MAX_SOCKETS: usize = 1_024;

/// Every socket that hears others.
pub fn listening(kernel: &dyn Kernel) -> Vec<NodeSocket> {
    let mut found = Vec::new();
    for (file, protocol) in SOCKETS {
        let table = kernel::text(kernel, file).unwrap_or_default();
        found.extend(table.lines().filter_map(|line| read(protocol, line)).take(MAX_SOCKETS));
    }
    found
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: number, local, remote, state; addresses are hexadecimal,
/// in words of the host's order.
fn read(protocol: &str, line: &str) -> Option<NodeSocket> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let hears = match protocol {
        "tcp" | "tcp6" => state == LISTENS,
        _ => remote.ends_with(":0000"),
    };
    let local = is_loopback(address);
    hears.then(|| NodeSocket { protocol: protocol.to_owned(), port, local })
}

fn is_loopback(address: &str) -> bool {
    let words = (0..address.len() / 8).map(|at| address.get(8 * at..8 * at + 8));
    let words: Option<Vec<u32>> =
        words.map(|word| u32::from_str_radix(word?, 16).ok().map(u32::from_le)).collect();
    let bytes: Vec<u8> = words.unwrap_or_default().into_iter().flat_map(u32::to_le_bytes).collect();
    let address = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).map(IpAddr::from),
    };
    address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn what_listens_is_told_and_what_is_connected_is_not() {
        let kernel = Fake::new(&[
            (
                "/proc/net/tcp",
                "  sl  local_address rem_address   st\n   0: 00000000:1D13 00000000:0000 0A 00\n \
                   1: 0F02000A:9C40 0102000A:1F90 01 00\n   2: 0100007F:0050 00000000:0000 0A 00",
            ),
            (
                "/proc/net/udp",
                "sl\n 9: 00000000:0044 00000000:0000 07\n 8: 0F02000A:0044 0102000A:0043 01",
            ),
        ]);
        let told: Vec<String> = listening(&kernel).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["tcp 7443", "tcp 80 for itself", "udp 68"]);
    }

    #[test]
    fn nobody_listens_where_nothing_is_said() {
        assert_eq!(listening(&Fake::new(&[])), []);
        assert!(read("tcp", "0: 0:zz 0:0 0A").is_none());
        assert!(is_loopback("00000000000000000000000001000000") && is_loopback("0100007F"));
        assert!(!is_loopback("é00007F") && !is_loopback(""));
    }
}
