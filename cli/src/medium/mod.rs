//! Media for machines at home: a key for the medium, the owner's signatures, and the provisioner's file
//! made the owner's. All secrets stay here: the provisioner hears public keys and signatures.

pub mod client;
pub mod esp;

pub use client::{AwayError, Provisioner};

use protocol::{
    Address, ChainId, Digest, PublicKey, SecretKey, Signed,
    key::KeyError,
    medium::{Grant, Granted, NotFilled, Offer, Record, TokenStatus, Withdrawal, fill},
    signed::SignedError,
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The longest medium that is fetched.
pub const MAX_MEDIUM: u64 = 1 << 30;

/// There is no medium.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The provisioner.
    #[error(transparent)]
    Away(#[from] AwayError),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What it says is not signed by the key that was named.
    #[error("{0} says something that the key named for it did not sign: nothing was made of it")]
    NotItsWord(String),
    /// It is not for this chain.
    #[error("{0}; `alia init` sets another chain")]
    Chain(#[from] SignedError),
    /// It offers what cannot be.
    #[error("{0} offers a medium of {1} bytes, and {MAX_MEDIUM} are taken at most")]
    TooLong(String, u64),
    /// What came is another thing.
    #[error(
        "{server} gives a medium of digest {found}, and signed for {wanted}: it was altered on its \
         way, or is being replaced; try again in a minute"
    )]
    Altered {
        /// Who.
        server: String,
        /// What came.
        found: Digest,
        /// What was signed for.
        wanted: Digest,
    },
    /// It has no place for an owner.
    #[error(transparent)]
    NotFilled(#[from] NotFilled),
    /// It has no files for a disk.
    #[error("the medium's files cannot be read: {0}; `--out` writes it whole, for a stick")]
    NoFiles(String),
    /// It cannot be written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

/// A fresh token for an owner, to be used within `seconds` of `now` (seconds since 1970).
///
/// # Errors
/// Where there is no randomness.
pub fn sign(
    chain: &ChainId,
    owner: &SecretKey,
    provisioner: PublicKey,
    now: u64,
    seconds: u64,
) -> Result<Record, KeyError> {
    let token = SecretKey::generate()?;
    let expires = now.saturating_add(seconds);
    let grant = Grant { token: token.public(), provisioner, issued: now, expires };
    Ok(Record { granted: Granted::sign(chain, grant, owner), token })
}

/// What a provisioner has for miners, by its own signature.
///
/// # Errors
/// Where it does not answer, or another key signed.
pub async fn offer(server: &Provisioner, chain: &ChainId) -> Result<Offer, MediumError> {
    let offer: Signed<Offer> = server.get("/v1/media").await?;
    if offer.signer != server.key() {
        return Err(MediumError::NotItsWord(server.to_string()));
    }
    let said = offer.verify(chain)?.clone();
    if said.bytes > MAX_MEDIUM {
        return Err(MediumError::TooLong(server.to_string(), said.bytes));
    }
    Ok(said)
}

/// Fetches the medium that is nobody's, as it was signed for; `told` hears how many bytes came.
///
/// # Errors
/// [`MediumError`].
pub async fn fetch(
    server: &Provisioner,
    offer: &Offer,
    told: impl FnMut(u64),
) -> Result<Vec<u8>, MediumError> {
    let medium = server.download("/miners/medium", offer.bytes, told).await?;
    let (found, wanted) = (Digest::of_bytes(&medium), offer.medium);
    if found != wanted {
        return Err(MediumError::Altered { server: server.to_string(), found, wanted });
    }
    Ok(medium)
}

/// Registers what the owner signed.
///
/// # Errors
/// Where the provisioner does not take it, in its words.
pub async fn register(server: &Provisioner, record: &Record) -> Result<TokenStatus, MediumError> {
    Ok(server.post("/v1/media", &record.granted).await?)
}

/// Makes a medium an owner's and writes it, for its owner's eyes alone: the token's secret is in it. A
/// file that is there is not overwritten.
///
/// # Errors
/// [`MediumError`].
pub fn write(path: &Path, mut medium: Vec<u8>, record: &Record) -> Result<(), MediumError> {
    fill(&mut medium, record)?;
    create(path, &medium)
}

/// A file that was not there, for its owner's eyes alone.
fn create(path: &Path, content: &[u8]) -> Result<(), MediumError> {
    let failed = |error| MediumError::File(path.into(), error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)
}

/// An owner's tokens, newest first: the provisioner's word.
///
/// # Errors
/// Where it does not answer.
pub async fn list(server: &Provisioner, owner: Address) -> Result<Vec<TokenStatus>, MediumError> {
    Ok(server.get(&format!("/v1/media/of/{owner}")).await?)
}

/// Takes a token back.
///
/// # Errors
/// Where the provisioner does not answer, or does not take it from this key.
pub async fn revoke(
    server: &Provisioner,
    chain: &ChainId,
    owner: &SecretKey,
    token: PublicKey,
) -> Result<TokenStatus, MediumError> {
    let withdrawal = Withdrawal { token, provisioner: server.key() };
    let signed = Signed::sign(chain, withdrawal, owner);
    Ok(server.post(&format!("/v1/media/{token}/revoke"), &signed).await?)
}
