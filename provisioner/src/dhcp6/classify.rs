//! Who asks by DHCPv6: the same kinds of clients as by DHCPv4, told by other options.

use super::packet::Request;
use crate::dhcp::classify::{Able, Client, Way, platform};

/// Tells who asks. What an iPXE can do it does not say in DHCPv6, so it gets the benefit of the
/// doubt.
pub fn classify(request: &Request) -> Client {
    let class = |prefix: &[u8]| request.vendor_class.starts_with(prefix);
    let way = match (class(b"HTTPClient"), class(b"PXEClient")) {
        (true, _) => Some(Way::Http),
        (_, true) => Some(Way::Pxe),
        _ => None,
    };
    if !request.ipxe && way.is_none() {
        return Client::System;
    }
    let Some(platform) = request.architectures.iter().find_map(|&arch| platform(arch)) else {
        return Client::Unsupported(request.architectures.first().copied());
    };
    match (request.ipxe, way) {
        (true, _) => Client::Ipxe(platform, Able::Yes),
        (false, Some(way)) => Client::Firmware(platform, way),
        (false, None) => Client::System,
    }
}
