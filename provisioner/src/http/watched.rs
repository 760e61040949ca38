//! A response body that tells, when it is over, how much of it was taken.

use axum::body::{Body, BodyDataStream, Bytes};
use futures::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body under watch.
pub(super) struct Watched<F: FnOnce(u64)> {
    body: BodyDataStream,
    taken: u64,
    over: Option<F>,
}

impl<F: FnOnce(u64) + Send + Unpin + 'static> Watched<F> {
    /// Calls `over` with the bytes taken, once the body ends or the client goes away.
    pub(super) fn body(body: Body, over: F) -> Body {
        let body = body.into_data_stream();
        Body::from_stream(Self { body, taken: 0, over: Some(over) })
    }
}

impl<F: FnOnce(u64) + Unpin> Stream for Watched<F> {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.taken += bytes.len() as u64;
        }
        next
    }
}

impl<F: FnOnce(u64)> Drop for Watched<F> {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            over(self.taken);
        }
    }
}
