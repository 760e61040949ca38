//! The light client's core: whether a header follows from another. No I/O, no clock.

use super::error::{Lie, VerifyError};
use crate::rpc::TxHash;
use serde::Serialize;
use std::time::Duration;
use tendermint::{Hash, block::Header};
use tendermint_light_client_verifier::{
    ProdVerifier, Verdict, Verifier,
    errors::VerificationErrorDetail,
    options::Options,
    types::{LightBlock, Time, TrustThreshold},
};

/// How far this machine's clock may be behind the validators'.
pub const CLOCK_DRIFT: Duration = Duration::from_secs(30);
/// The longest reason of the verifier that is shown; some print whole validators.
const MAX_WHY: usize = 200;

/// A believed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockRef {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: TxHash,
    /// Its time, seconds since 1970.
    pub unix_time: i64,
}

impl BlockRef {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            height: header.height.value(),
            hash: hash(header),
            unix_time: header.time.unix_timestamp(),
        }
    }
}

/// A header's hash.
pub(super) fn hash(header: &Header) -> TxHash {
    match header.hash() {
        Hash::Sha256(bytes) => TxHash(bytes),
        Hash::None => TxHash([0; 32]),
    }
}

/// Whether a header is signed by the validators that it names: needed, and not enough.
pub(super) fn check_alone(block: &LightBlock) -> Result<(), Lie> {
    let verifier = ProdVerifier::default();
    let untrusted = block.as_untrusted_state();
    for verdict in [verifier.verify_validator_sets(&untrusted), verifier.verify_commit(&untrusted)]
    {
        match verdict {
            Verdict::Success => {}
            Verdict::NotEnoughTrust(tally) => return Err(bad(block, tally.to_string())),
            Verdict::Invalid(detail) => return Err(bad(block, why(&detail))),
        }
    }
    Ok(())
}

/// How a header stands to a believed one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is to be believed.
    Yes,
    /// Too few of the believed validators signed it: one in between may help.
    TooFar,
    /// The believed header is too old for its validators to be believed.
    Expired,
    /// It is not to be believed.
    No(Lie),
}

/// Whether `block` follows from the believed `trusted`.
pub(super) fn follows(
    trusted: &LightBlock,
    block: &LightBlock,
    trusting_period: Duration,
    now: Time,
) -> Follows {
    let options = Options {
        trust_threshold: TrustThreshold::default(),
        trusting_period,
        clock_drift: CLOCK_DRIFT,
    };
    let verdict = ProdVerifier::default().verify_update_header(
        block.as_untrusted_state(),
        trusted.as_trusted_state(),
        &options,
        now,
    );
    match verdict {
        Verdict::Success => Follows::Yes,
        Verdict::NotEnoughTrust(_) if block.height() > trusted.height().increment() => {
            Follows::TooFar
        }
        Verdict::NotEnoughTrust(tally) => Follows::No(bad(block, tally.to_string())),
        Verdict::Invalid(VerificationErrorDetail::NotWithinTrustPeriod(_)) => Follows::Expired,
        Verdict::Invalid(detail) => Follows::No(bad(block, why(&detail))),
    }
}

fn bad(block: &LightBlock, why: String) -> Lie {
    Lie::Header { height: block.height().value(), why }
}

fn why(detail: &VerificationErrorDetail) -> String {
    match detail {
        VerificationErrorDetail::InvalidSignature(_) => "a validator's signature is wrong".into(),
        other => other.to_string().chars().take(MAX_WHY).collect(),
    }
}

/// Whether `header` is the block before the believed `next`.
pub(super) fn precedes(header: &Header, next: &Header) -> Result<(), Lie> {
    let height = header.height.value();
    let named = next.last_block_id.map(|id| id.hash);
    if height.checked_add(1) == Some(next.height.value()) && named == Some(header.hash()) {
        Ok(())
    } else {
        Err(Lie::BrokenChain { height })
    }
}

/// Refuses a newest block that is older than `most`.
pub(super) fn check_age(
    header: &Header,
    now: Time,
    most: Duration,
    server: &str,
) -> Result<(), VerifyError> {
    let age = now.unix_timestamp().saturating_sub(header.time.unix_timestamp());
    match u64::try_from(age) {
        Ok(age) if age > most.as_secs() => {
            Err(VerifyError::Stale { server: server.into(), age, most: most.as_secs() })
        }
        _ => Ok(()),
    }
}
