//! The medium that is given out: a file that is nobody's yet, and what makes it one miner's.

use bytes::Bytes;
use futures::stream::{self, Stream};
use protocol::{
    Digest,
    medium::{NotFilled, RECORD_LEN, Record},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tokio::io::AsyncReadExt;

/// How much of it is read at once.
const PART: usize = 256 << 10;

/// A file with places for an owner.
#[derive(Clone, Debug)]
pub struct Medium {
    path: PathBuf,
    places: Vec<u64>,
    /// What it holds.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// It cannot be given out.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// It cannot be read.
    #[error("the medium {0}: {1}; make one by `cargo xtask medium`")]
    File(PathBuf, io::Error),
    /// It is somebody's.
    #[error("the medium {0}: {1}; make one by `cargo xtask medium`")]
    NoPlace(PathBuf, NotFilled),
}

impl Medium {
    /// Reads it once.
    ///
    /// # Errors
    /// Where it is not there, or has no place for an owner.
    pub fn open(path: &Path) -> Result<Self, MediumError> {
        let content = fs::read(path).map_err(|error| MediumError::File(path.into(), error))?;
        let places = places(&content);
        if places.is_empty() {
            return Err(MediumError::NoPlace(path.into(), NotFilled::NoPlace));
        }
        Ok(Self {
            path: path.into(),
            places,
            digest: Digest::of_bytes(&content),
            bytes: content.len() as u64,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It, made somebody's, part by part: the file itself stays as it is.
    ///
    /// # Errors
    /// Where it cannot be opened, or the record is too long.
    pub async fn filled(
        &self,
        record: &Record,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let record = record.to_bytes().map_err(io::Error::other)?;
        let file = tokio::fs::File::open(&self.path).await?;
        let begun = (file, 0, self.places.clone(), record);
        Ok(stream::try_unfold(begun, |(mut file, at, places, record)| async move {
            let mut part = vec![0; PART];
            let length = file.read(&mut part).await?;
            if length == 0 {
                return Ok(None);
            }
            part.truncate(length);
            overlay(&mut part, at, &places, &record);
            Ok(Some((Bytes::from(part), (file, at + length as u64, places, record))))
        }))
    }
}

/// Where the places of a medium begin.
fn places(content: &[u8]) -> Vec<u64> {
    let blank = protocol::medium::blank();
    let Some((first, _)) = blank.split_first_chunk::<16>() else { return Vec::new() };
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(place) = content.get(at..at + RECORD_LEN) {
        if place.starts_with(first) && place == blank {
            places.push(at as u64);
            at += RECORD_LEN;
        } else {
            at += 1;
        }
    }
    places
}

/// Puts of a record what lies in a part that begins at `at`.
fn overlay(part: &mut [u8], at: u64, places: &[u64], record: &[u8]) {
    let end = at + part.len() as u64;
    for &place in places {
        let (from, to) = (place.max(at), (place + record.len() as u64).min(end));
        if from < to {
            let [target, source] =
                [at, place].map(|base| (from - base) as usize..(to - base) as usize);
            part[target].copy_from_slice(&record[source]);
        }
    }
}

/// The same in memory, as a command line does it: the two have to agree.
#[cfg(test)]
fn whole(mut content: Vec<u8>, record: &Record) -> Vec<u8> {
    protocol::medium::fill(&mut content, record).unwrap();
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use protocol::{
        SecretKey,
        medium::{Grant, Granted},
    };

    fn record() -> Record {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]);
        let (token, provisioner) = (key(2).public(), key(4).public());
        let grant = Grant { token, provisioner, issued: 1, expires: 2 };
        let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(1));
        Record { token: key(2), granted }
    }

    #[tokio::test]
    async fn a_medium_is_filled_on_its_way_wherever_its_places_lie() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("medium.img");
        // One place over the border of two parts, one at the end.
        let content = [
            vec![7; PART - 1_000],
            protocol::medium::blank(),
            vec![8; 2 * PART + 77],
            protocol::medium::blank(),
        ]
        .concat();
        fs::write(&path, &content).unwrap();
        let medium = Medium::open(&path).unwrap();
        assert_eq!((medium.places.len(), medium.bytes), (2, content.len() as u64));
        let parts: Vec<Bytes> =
            medium.filled(&record()).await.unwrap().try_collect().await.unwrap();
        assert!(parts.concat() == whole(content.clone(), &record()));
        assert!(fs::read(&path).unwrap() == content, "the file stays nobody's");
    }

    #[test]
    fn a_medium_that_is_somebodys_is_not_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("medium.img");
        assert!(matches!(Medium::open(&path), Err(MediumError::File(..))));
        fs::write(&path, whole(protocol::medium::blank(), &record())).unwrap();
        assert!(matches!(Medium::open(&path), Err(MediumError::NoPlace(..))));
    }
}
