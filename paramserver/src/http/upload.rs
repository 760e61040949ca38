//! Large bodies, read in time and no further than they may go.

use super::{Failure, bad};
use crate::server::ServerError;
use axum::{
    body::{Body, HttpBody},
    http::StatusCode,
};
use bytes::Bytes;
use std::{future::poll_fn, io, pin::Pin, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Who sends nothing for so long is told to come again, as is who sends less than so many bytes a
/// second all in all.
const SILENCE: Duration = Duration::from_secs(10);
const SLOWEST: usize = 64 << 10;

/// A body that is coming.
pub(super) struct Upload {
    what: &'static str,
    body: Body,
    came: usize,
    most: usize,
    end: Instant,
}

impl Upload {
    /// A body of at most `most` bytes.
    ///
    /// # Errors
    /// Where it says itself that it has more.
    pub(super) fn new(what: &'static str, body: Body, most: usize) -> Result<Self, Failure> {
        let mut upload = Self { what, body, came: 0, most, end: Instant::now() };
        upload.may_have(most)?;
        Ok(upload)
    }

    /// Bounds it anew; its time begins now.
    ///
    /// # Errors
    /// Where it says itself that it has more.
    pub(super) fn may_have(&mut self, most: usize) -> Result<(), Failure> {
        self.most = most;
        let to_come = self.body.size_hint().exact().and_then(|length| length.try_into().ok());
        let to_come: usize = to_come.unwrap_or_else(|| most.saturating_sub(self.came));
        if to_come > most.saturating_sub(self.came) {
            return Err(self.too_long());
        }
        let seconds = (to_come / SLOWEST) as u64;
        self.end = Instant::now() + SILENCE + Duration::from_secs(seconds);
        Ok(())
    }

    fn too_long(&self) -> Failure {
        let why = format!("{}: none here has more than {} bytes", self.what, self.most);
        Failure(StatusCode::PAYLOAD_TOO_LARGE, why)
    }

    /// What comes next; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            match timeout_at(self.end.min(Instant::now() + SILENCE), frame).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.came += data.len();
                    if self.came > self.most {
                        return Err(self.too_long());
                    }
                    return Ok(Some(data));
                }
                Ok(Some(Err(error))) => return Err(bad(self.what, error)),
                Err(_) => {
                    let (what, came) = (self.what, self.came);
                    let why = format!("{what}: it came too slowly, {came} bytes so far: try again");
                    return Err(ServerError::Unavailable(why).into());
                }
            }
        }
    }

    /// Reads until `head` finds what it looks for at the beginning, within `longest` bytes. Gives
    /// that, and what was read.
    pub(super) async fn head<T>(
        &mut self,
        longest: usize,
        head: impl Fn(&[u8]) -> io::Result<Option<T>>,
    ) -> Result<(T, Vec<u8>), Failure> {
        self.end = Instant::now() + SILENCE;
        let mut read = Vec::new();
        while let Some(data) = self.next().await? {
            read.extend_from_slice(&data);
            if let Some(found) = head(&read).map_err(|error| bad(self.what, error))? {
                return Ok((found, read));
            }
            if read.len() > longest {
                return Err(bad(self.what, format!("its head is longer than {longest} bytes")));
            }
        }
        Err(bad(self.what, "it ends before its head does"))
    }

    /// Reads the rest, after what was read.
    pub(super) async fn rest(mut self, mut read: Vec<u8>) -> Result<Vec<u8>, Failure> {
        while let Some(data) = self.next().await? {
            read.extend_from_slice(&data);
        }
        Ok(read)
    }

    /// Reads the rest and drops it: who is cut off while sending would not see the answer.
    pub(super) async fn drain(mut self) -> Result<(), Failure> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}
