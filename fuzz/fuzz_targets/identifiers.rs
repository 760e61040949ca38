//! Names and addresses as text: what is read is shown as it may be read again.
#![no_main]

use fuzz::target;
use node_init::{http::Base, mac::Mac};
use protocol::{
    Address, BatchPart, ChainId, Digest, JobId, PublicKey, ReceiptId, SecretKey, Signature, version,
};
use std::{fmt::Debug, fmt::Display, str::FromStr};

target!(|text: &str| {
    shown_again::<Address>(text);
    shown_again::<BatchPart>(text);
    shown_again::<ChainId>(text);
    shown_again::<Digest>(text);
    shown_again::<JobId>(text);
    shown_again::<PublicKey>(text);
    shown_again::<ReceiptId>(text);
    shown_again::<Signature>(text);
    shown_again::<ledger_client::TxHash>(text);
    shown_again::<Mac>(text);
    shown_again::<provisioner::machine::Mac>(text);
    shown_again::<provisioner::dhcp::pool::Pool>(text);
    shown_again::<Base>(text);
    let _ = SecretKey::from_hex(text);
    let _ = version::negotiate(text);
    if let Some(uuid) = provisioner::machine::usable_uuid(text) {
        assert_eq!(provisioner::machine::usable_uuid(&uuid), Some(uuid));
    }
    provisioner::machine::uuid_of_guid(text.as_bytes());
});

fn shown_again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
    }
}
