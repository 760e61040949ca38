//! Speaks to a provisioner as its operator: what its machines are, and what is asked of them.
//!
//! Everything goes by TLS to a server that the site's certificate authority vouches for
//! ([`site`]), since a token is worth what its owner may do. Whatever acts names a key of its own, so
//! that a request whose answer was lost is asked again and done once.

pub mod client;
pub mod events;
pub mod groups;
pub mod select;
pub mod show;
pub mod site;

pub use client::{Fleet, FleetError};
pub use site::{Site, SiteError};
