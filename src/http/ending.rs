//! That the data plane ends, as the connections of one thread wait for it.
//!
//! Each connection looks at it each time it is woken, for every piece of audio. A channel's look takes a lock; this is one
//! flag, and a list that a connection enters once.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

#[derive(Default)]
struct Shared {
    has_come: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

/// The end, for one thread. Clones are the same end.
#[derive(Clone, Default)]
pub(super) struct Ending(Rc<Shared>);

impl Ending {
    /// It has come: whoever waits is woken.
    pub(super) fn come(&self) {
        self.0.has_come.set(true);
        for waker in self.0.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Waits for it.
    pub(super) fn wait(&self) -> Wait {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        Wait { shared: Rc::clone(&self.0), number, known: None }
    }
}

/// Ends when the end has come.
pub(super) struct Wait {
    shared: Rc<Shared>,
    number: u64,
    /// The waker that stands in the list.
    known: Option<Waker>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.has_come.get() {
            return Poll::Ready(());
        }
        if !self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.known = Some(cx.waker().clone());
            self.shared.waiting.borrow_mut().insert(self.number, cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // The waker is dropped when the list is not borrowed any more: what it wakes may wait here too.
        let waker = self.shared.waiting.borrow_mut().remove(&self.number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::FutureExt as _;

    use super::*;

    #[actix_rt::test]
    async fn whoever_waits_is_woken_and_whoever_comes_later_does_not_wait() {
        let ending = Ending::default();
        let waits: Vec<_> = (0..3).map(|_| actix_rt::spawn(ending.wait())).collect();
        tokio::task::yield_now().await;
        assert_eq!(ending.0.waiting.borrow().len(), 3);
        ending.come();
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(ending.wait().now_or_never(), Some(()));
    }

    #[test]
    fn whoever_leaves_is_forgotten_and_the_latest_waker_counts() {
        let ending = Ending::default();
        let mut wait = ending.wait();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wait).poll(&mut cx).is_pending());
        let (flag, woken) = (std::sync::Arc::new(Flag::default()), |flag: &Flag| {
            flag.0.load(std::sync::atomic::Ordering::SeqCst)
        });
        let waker = Waker::from(std::sync::Arc::clone(&flag));
        assert!(Pin::new(&mut wait).poll(&mut Context::from_waker(&waker)).is_pending());
        let left = ending.wait();
        drop(left);
        assert_eq!(ending.0.waiting.borrow().len(), 1);
        ending.come();
        assert!(woken(&flag));
        drop(wait);
        assert!(ending.0.waiting.borrow().is_empty());
    }

    #[derive(Default)]
    struct Flag(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
}
