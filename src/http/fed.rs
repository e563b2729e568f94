//! A body that is read where its connection is served.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use actix_web::web;
use futures_util::Stream;

/// A request's body, for its handler or for the body of its response, and for no other task.
///
/// The connection's task puts what has come into the body and then polls who reads it, in one turn (`Dispatcher` of
/// actix-http, `h1/dispatcher.rs`). The body itself would wake that same task once more for every piece: a turn that finds
/// nothing. So it is polled with a waker that wakes nobody. A task of its own would never hear of what comes.
pub(super) struct Fed(web::Payload);

impl Fed {
    pub(super) const fn new(payload: web::Payload) -> Self {
        Self(payload)
    }
}

impl Stream for Fed {
    type Item = <web::Payload as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(&mut Context::from_waker(Waker::noop()))
    }
}
