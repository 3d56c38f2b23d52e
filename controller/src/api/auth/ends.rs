//! The end of a token, seen by what is open under it: a call that waits and a stream that follows end within moments of
//! it, with what a new call would be answered.

use super::answer::Refused;
use crate::{
    api::Context,
    identity::{Caller, Token, Who},
};
use axum::body::{Body, Bytes};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

/// Returns when the caller's token is good no longer; never for who has none.
pub(super) async fn of(context: Arc<Context>, caller: Caller) -> Refused {
    let Who::Token(token) = caller.who() else { return std::future::pending().await };
    watch(&context, token).await
}

async fn watch(context: &Context, token: &Token) -> Refused {
    loop {
        tokio::time::sleep(context.identity.limits().recheck()).await;
        if let Err(denied) = context.identity.check(token) {
            return denied.into();
        }
    }
}

/// The body of an answer, until `end` says why there is no more of it.
pub(super) struct Until {
    body: Body,
    end: BoxFuture<'static, Refused>,
    over: bool,
}

impl Until {
    pub(super) fn over(body: Body, end: BoxFuture<'static, Refused>) -> Body {
        Body::new(Self { body, end, over: false })
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(refused) = self.end.as_mut().poll(context) {
            self.over = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&refused)))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// How a stream of gRPC says that it has failed.
fn trailers(refused: &Refused) -> HeaderMap {
    let status = refused.status();
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}
