//! The kernel's packet filter, spoken to by netlink.

use super::{Firewall, encode, rules};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

/// Replaces the rules by these: all of them stand, or those before.
pub fn replace(firewall: &Firewall) -> io::Result<()> {
    let mut batch = Vec::new();
    for message in encode::batch(&rules(firewall)) {
        let at = batch.len();
        batch.resize(at + message.buffer_len(), 0);
        message.serialize(&mut batch[at..]);
        // Messages begin at multiples of four bytes.
        batch.resize(batch.len().next_multiple_of(4), 0);
    }
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let sent = socket.send(&batch, 0)?;
    if sent != batch.len() {
        return Err(io::Error::other("the kernel took a part of the rules"));
    }
    // It has done its work when `send` returns: what it has to say waits already.
    let mut acknowledged = false;
    loop {
        let mut answers = Vec::with_capacity(64 << 10);
        match socket.recv(&mut answers, libc::MSG_DONTWAIT) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        let mut rest = answers.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if let NetlinkPayload::Error(error) = &answer.payload {
                match error.code {
                    None => acknowledged = true,
                    Some(_) => return Err(error.to_io()),
                }
            }
            let length = (answer.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    if acknowledged {
        Ok(())
    } else {
        Err(io::Error::other("the kernel does not say that it took the rules"))
    }
}
