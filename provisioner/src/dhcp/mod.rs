//! DHCP for machines that boot (RFC 2131, 2132, 4578; PXE 2.1), as full server or ProxyDHCP.
//!
//! A packet goes `packet::parse` -> quirks -> `classify` -> `decide` -> `reply`; all are pure.
//! `answerer` puts the store behind them; only `server` has sockets, and it only carries.
//!
//! # Known deviations from specifications
//! | what | why |
//! |---|---|
//! | Replies to a client without an address are broadcast even where it did not set the broadcast flag | unicast to an address not yet configured needs a forged ARP entry; every firmware takes a broadcast (RFC 2131 4.1 allows it) |
//! | A client is its MAC address; option 61 is echoed, never used as the key | firmware, iPXE and the kernel send different ids from one NIC, and would get three addresses |
//! | An unknown client that asks for a free address of our pool to be confirmed gets it | we are the one server of the network in this mode; silence (RFC 2131 4.3.2) would cost each machine half a minute after our database was lost |
//! | Option 43 is `6=8` ("load the file named"), or absent | EDK2 and Intel's ROMs take the first; some UEFIs only go by the boot server on port 4011, which the second makes them do. Chosen per machine (`quirks`) |
//! | Option 97 is echoed at any length | RFC 4578 asks for 17 bytes; firmware exists that sends others and drops replies without its own bytes |
//! | An iPXE in ROM that lacks HTTP or its platform's kernel format is made to load ours, once in a boot | its features (option 175) tell; its version does not, as distributions' builds all say 1.0.0 |
//! | The architecture is read from option 60 where 93 is absent | some firmware sends it only there |

pub mod answerer;
pub mod classify;
pub mod decide;
pub mod lease;
pub mod offers;
pub mod packet;
pub mod pool;
pub mod reply;
pub mod server;
pub mod settings;

pub use classify::{Client, Platform, classify};
pub use decide::{Answer, decide};
pub use packet::{Refused, Request, parse};
