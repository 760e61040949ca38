//! HTTP for strangers: so many connections at a time, so many of one peer, and none that says
//! nothing for long. Where there is no room for one more, who got nothing for longest goes.
//!
//! Without the feature `serve` (PID 1 speaks TLS and has no router) it is the counting of peers
//! alone. With the feature `tls` the same is there over TLS, where handshakes are bounded too.
//!
//! **Never** looks at a request: what it asks for is the router's.

#[cfg(feature = "serve")]
mod asked;
#[cfg(feature = "serve")]
mod lane;
#[cfg(feature = "serve")]
mod load;
#[cfg(feature = "serve")]
mod moving;
mod peers;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod table;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "serve")]
pub use lane::{Lane, file_body};
#[cfg(feature = "serve")]
pub use load::Load;
pub use peers::{Peers, Seat, network};
#[cfg(feature = "serve")]
pub use serve::{Limits, serve, serve_counted};
#[cfg(feature = "tls")]
pub use tls::{Handshakes, Other, Secured, Spoken, serve_tls, serve_tls_counted};
