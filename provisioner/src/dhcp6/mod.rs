//! DHCPv6 for machines that boot (RFC 8415, 5970, 6939; UEFI 2.10 section 24).
//!
//! A packet goes `packet::parse` -> `classify` -> `decide` -> `reply`; all four are pure. Only
//! `server` has sockets, and it only carries. There is no ProxyDHCP in DHCPv6: where another server
//! gives the addresses, that one names our files, or machines boot by IPv4.
//!
//! A machine is its MAC address here too, whatever its DUID: [`whose`].
//!
//! # What EDK2's firmware wants (its sources, `NetworkPkg`)
//! | what | why |
//! |---|---|
//! | preference 255 in every ADVERTISE | without it firmware waits for other servers until its first time-out, 4 s |
//! | no vendor class (16) for PXE | with `PXEClient` in it the offer is a boot server's, and firmware asks that one first |
//! | vendor class `HTTPClient` for HTTP boot, beside the URL | without it the offer counts as an address alone |
//! | the URL is never the last option | the HTTP driver reads it up to the next zero byte, which is the next option's code |
//! | no boot file parameter (60) | the PXE driver takes the first one for the file's size in blocks of 512 bytes, and gives up where it is none |
//! | the server as an address in brackets, and no port for TFTP | names cost a DNS server; the PXE driver takes no port |
//!
//! # Known deviations from specifications
//! | what | why |
//! |---|---|
//! | A client that renews an address of our pool that nobody holds gets it | we are the network's one server; NoBinding would cost each machine a new address after our database was lost (RFC 8415 18.3.4 leaves it to us) |
//! | Requests sent to our own address are answered | UseMulticast (RFC 8415 18.4) would cost a round trip, and RFC 9915 takes it away |
//! | One address a client: of several IA_NA the first is served | firmware, iPXE and systems ask for one |
//! | A machine that comes with ever new DUIDs or IAIDs gets its own oldest address back | EDK2's HTTP boot makes up an IAID at every boot |
//! | Clients without a MAC address to be known by are not served | all that we know of a machine goes by it |

pub mod boot;
pub mod classify;
pub mod decide;
pub mod lease;
pub mod packet;
pub mod pool;
pub mod reply;
pub mod server;
pub mod settings;
pub mod whose;

pub use classify::classify;
pub use decide::{Answer, decide};
pub use packet::{Refused, Request, parse};
