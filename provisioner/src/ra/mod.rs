//! Router advertisements (RFC 4861 section 4.2, RFC 8106): what a network without a router lacks for
//! machines to boot by IPv6.
//!
//! iPXE asks for an address by DHCPv6 only where one says so (flag M); node-init's kernel makes its
//! address of the prefix in it (flag A). Where we are the DHCPv6 server and nobody else advertises, we do. We are no router by that:
//! the router's lifetime is 0, unless this host is the way out.
//!
//! `packet` and `schedule` are pure; `server` has the socket.

pub mod packet;
pub mod schedule;
pub mod server;
