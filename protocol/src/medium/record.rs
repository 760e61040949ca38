//! What lies on a medium: the token's secret and what the owner signed, in a place of fixed length
//! that is written once the medium's other files stand.

use super::Granted;
use crate::{digest::Digest, key::SecretKey};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The length of a record, and of the place for one, in bytes: a block of any disk.
pub const RECORD_LEN: usize = 4_096;

const MAGIC: &[u8; 16] = b"aliaOS medium 1\n";
/// What a place for a record is full of.
const BLANK: &[u8; 16] = b"aliaOS medium 0\n";
/// Magic and length.
const HEAD: usize = MAGIC.len() + 4;
const SUM: usize = 32;

/// What makes a medium somebody's.
#[derive(Clone)]
pub struct Record {
    /// The token's key. Whoever reads it may bring nodes into the owner's account that are not the
    /// owner's; never the owner's pay into another.
    pub token: SecretKey,
    /// What the owner signed.
    pub granted: Granted,
}

/// A medium's record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another length.
    #[error("a medium's record has {RECORD_LEN} bytes, this one {0}: make the medium anew")]
    Length(usize),
    /// It is of something else.
    #[error("this is no medium's record: make the medium anew")]
    Foreign,
    /// It was altered, or read wrongly.
    #[error("the medium's record is damaged: make the medium anew")]
    Damaged,
    /// The key is not the one that the owner signed for.
    #[error("the medium's record holds another key than the owner's grant names: make it anew")]
    OtherKey,
}

/// No record can be written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFilled {
    /// There is no place, or it is somebody's already.
    #[error("this medium has no place for an owner, or has one already: fetch it anew")]
    NoPlace,
    /// What the owner signed is too long.
    #[error("what the owner signed does not fit on the medium: {0} bytes")]
    TooLong(usize),
}

impl Record {
    /// As it lies on the medium.
    ///
    /// # Errors
    /// Where it is longer than a record may be; what [`Granted::sign`] makes never is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NotFilled> {
        let mut body = Vec::with_capacity(RECORD_LEN);
        let written = BorshSerialize::serialize(&(self.token.to_seed(), &self.granted), &mut body);
        if let Err(error) = written {
            unreachable!("a vector never refuses bytes: {error}");
        }
        let length = body.len();
        let fits = u32::try_from(length).ok().filter(|_| HEAD + length + SUM <= RECORD_LEN);
        let Some(said) = fits else { return Err(NotFilled::TooLong(length)) };
        let mut bytes = [MAGIC.as_slice(), &said.to_le_bytes(), &body].concat();
        bytes.resize(RECORD_LEN - SUM, 0);
        bytes.extend(Digest::of_bytes(&bytes).0);
        Ok(bytes)
    }

    /// For a person to carry from one window to another: with the token's secret, in plain.
    pub fn to_text(&self) -> RecordText {
        RecordText { secret: self.token.to_hex(), granted: self.granted.clone() }
    }

    /// Reads a record; none where the place is nobody's.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        if bytes.len() != RECORD_LEN {
            return Err(RecordError::Length(bytes.len()));
        }
        if is_blank(bytes) {
            return Ok(None);
        }
        let (said, sum) = bytes.split_at(RECORD_LEN - SUM);
        let rest = said.strip_prefix(MAGIC).ok_or(RecordError::Foreign)?;
        if Digest::of_bytes(said).0 != sum {
            return Err(RecordError::Damaged);
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(RecordError::Damaged)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let body = rest.get(..length).ok_or(RecordError::Damaged)?;
        let read = <([u8; 32], Granted)>::try_from_slice(body);
        let (seed, granted) = read.map_err(|_| RecordError::Damaged)?;
        let token = SecretKey::from_seed(seed);
        if token.public() != granted.grant.body.token {
            return Err(RecordError::OtherKey);
        }
        Ok(Some(Self { token, granted }))
    }
}

/// A record as JSON, which a person carries from one window to another.
#[derive(Serialize, Deserialize)]
pub struct RecordText {
    secret: String,
    #[serde(flatten)]
    granted: Granted,
}

impl TryFrom<RecordText> for Record {
    type Error = RecordError;

    fn try_from(text: RecordText) -> Result<Self, RecordError> {
        let token = SecretKey::from_hex(&text.secret).map_err(|_| RecordError::Damaged)?;
        if token.public() != text.granted.grant.body.token {
            return Err(RecordError::OtherKey);
        }
        Ok(Self { token, granted: text.granted })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record(token {}, of {})", self.token.public().short(), self.granted.owner())
    }
}

/// A place for a record.
pub fn blank() -> Vec<u8> {
    BLANK.repeat(RECORD_LEN / BLANK.len())
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.chunks(BLANK.len()).all(|part| part == BLANK)
}

/// Writes a record into every place for one that a medium has; gives how many there are.
///
/// # Errors
/// Where there is none.
pub fn fill(medium: &mut [u8], record: &Record) -> Result<usize, NotFilled> {
    let record = record.to_bytes()?;
    let mut filled = 0;
    let mut at = 0;
    while let Some(place) = medium.get_mut(at..at + RECORD_LEN) {
        if place.starts_with(BLANK) && is_blank(place) {
            place.copy_from_slice(&record);
            filled += 1;
            at += RECORD_LEN;
        } else {
            at += 1;
        }
    }
    if filled == 0 { Err(NotFilled::NoPlace) } else { Ok(filled) }
}
