//! A body whose bytes are counted as they are taken. It is as long as it was.

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body and where its bytes are counted.
pub struct Metered {
    body: Body,
    taken: Counter,
}

impl Metered {
    /// The same body, counted.
    pub fn body(body: Body, taken: Counter) -> Body {
        Body::new(Self { body, taken })
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &next
            && let Some(bytes) = frame.data_ref()
        {
            self.taken.inc_by(bytes.len() as u64);
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
