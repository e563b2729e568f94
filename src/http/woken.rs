//! A future that is polled only when it was woken.
//!
//! What the HTTP server runs for a connection is one task: whatever wakes it, a piece of a request's body or room in the
//! socket, polls the handler with all the layers around it, and the piece that it then takes wakes the task once more. For
//! audio in real time that is a second way through all layers for each piece, with nothing to do at its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use futures_util::task::AtomicWaker;

/// Notes that it was rung, and wakes the task behind it.
#[derive(Default)]
struct Bell {
    was_rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.was_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Who is to be polled when.
struct Rings {
    bell: Arc<Bell>,
    waker: Waker,
}

impl Rings {
    /// Rung once, since nobody can be woken before the first poll.
    fn new() -> Self {
        let bell = Arc::new(Bell { was_rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&bell)), bell }
    }

    /// Polls if it was rung since the last time.
    fn poll<T>(&self, cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // Before the look at the flag: whoever rings after it finds the task.
        self.bell.task.register(cx.waker());
        if self.bell.was_rung.swap(false, Ordering::AcqRel) {
            poll(&mut Context::from_waker(&self.waker))
        } else {
            Poll::Pending
        }
    }

    fn ring(&self) {
        self.bell.was_rung.store(true, Ordering::Release);
    }
}

/// A future that is polled only when it was woken.
pub(super) struct WhenWoken<F> {
    rings: Rings,
    future: Pin<Box<F>>,
}

impl<F> WhenWoken<F> {
    pub(super) fn new(future: F) -> Self {
        Self { rings: Rings::new(), future: Box::pin(future) }
    }
}

impl<F: Future> Future for WhenWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { rings, future } = &mut *self;
        rings.poll(cx, |cx| future.as_mut().poll(cx))
    }
}

/// A response's body that is polled only when it was woken, or has just given something.
pub(super) struct BodyWhenWoken {
    rings: Rings,
    body: BoxBody,
}

impl BodyWhenWoken {
    pub(super) fn new(body: BoxBody) -> Self {
        Self { rings: Rings::new(), body }
    }
}

impl MessageBody for BodyWhenWoken {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let Self { rings, body } = &mut *self;
        let polled = rings.poll(cx, |cx| Pin::new(body).poll_next(cx));
        if polled.is_ready() {
            rings.ring();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc, sync::atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_polled_when_it_was_woken_and_at_no_other_time() {
        let (polls, known) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None::<Waker>)));
        let (counted, kept) = (Rc::clone(&polls), Rc::clone(&known));
        let inner = poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            kept.set(Some(cx.waker().clone()));
            if counted.get() == 3 { Poll::Ready("done") } else { Poll::Pending }
        });
        let mut future = WhenWoken::new(inner);
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&task);

        for _ in 0..3 {
            assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        }
        assert_eq!((polls.get(), count.0.load(Ordering::Relaxed)), (1, 0));
        known.take().unwrap().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "the task is woken");
        for _ in 0..3 {
            assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        }
        assert_eq!(polls.get(), 2);
        known.take().unwrap().wake();
        assert_eq!(Pin::new(&mut future).poll(&mut cx), Poll::Ready("done"));
    }

    #[test]
    fn a_wake_while_it_is_polled_is_not_lost() {
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let inner = poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut future = WhenWoken::new(inner);
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&task);
        for polled in 1..4 {
            assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
            assert_eq!((polls.get(), count.0.load(Ordering::Relaxed)), (polled, polled));
        }
    }

    #[test]
    fn a_body_that_gave_something_is_asked_again() {
        let mut left = 2;
        let inner = futures_util::stream::poll_fn(move |_| {
            left -= 1;
            if left >= 0 {
                Poll::Ready(Some(Ok::<_, std::io::Error>(Bytes::from_static(b"x"))))
            } else {
                Poll::Pending
            }
        });
        let mut body = BodyWhenWoken::new(BoxBody::new(actix_web::body::BodyStream::new(inner)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_ready());
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_ready());
        assert!(Pin::new(&mut body).poll_next(&mut cx).is_pending());
    }
}
