//! Schemas of what is a text in JSON.

use crate::{
    batch::BatchPart,
    digest::Digest,
    job::JobId,
    key::{Address, PublicKey, Signature},
    receipt::ReceiptId,
    signed::ChainId,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

fn text(description: &str, pattern: Option<&str>) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    text.pattern(pattern).build().into()
}

macro_rules! texts {
    ($($kind:ty, $description:expr, $pattern:expr;)*) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                text($description, $pattern)
            }
        }

        impl ToSchema for $kind {}
    )*};
}

const HEX: Option<&str> = Some("^[0-9a-f]{64}$");

texts! {
    Address, "an account's address", Some("^alia1[a-z0-9]+$");
    BatchPart, "a part of a step: `#3`, or `update`", None;
    ChainId, "the name of a chain", None;
    Digest, "a digest of 32 bytes", HEX;
    JobId, "a job", HEX;
    PublicKey, "an ed25519 public key", HEX;
    ReceiptId, "a receipt", HEX;
    Signature, "an ed25519 signature", Some("^[0-9a-f]{128}$");
}
