//! A request's body that is whole soon, or an error: whoever sends its last byte late holds memory and a place.

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

pub(crate) struct Timely {
    inner: Body,
    limit: Duration,
    end: Pin<Box<Sleep>>,
}

impl Timely {
    pub(crate) fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, end: Box::pin(sleep(limit)) }
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.end.as_mut().poll(context).is_ready() {
            let late = format!("the request was not whole within {} s", self.limit.as_secs());
            return Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other(late)))));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_an_error_and_one_that_does_is_whole() {
        let never = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"a"))])
            .chain(futures::stream::pending());
        let late = Body::new(Timely::new(Body::from_stream(never), Duration::from_secs(60)));
        let error = axum::body::to_bytes(late, 100).await.expect_err("it never ends");
        assert!(error.to_string().contains("not whole within 60 s"), "{error}");
        let whole = Body::new(Timely::new(Body::from("all of it"), Duration::from_secs(60)));
        assert_eq!(axum::body::to_bytes(whole, 100).await.expect("whole"), "all of it");
    }
}
