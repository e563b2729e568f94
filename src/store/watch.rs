//! Telling whoever watches what was written, after it was committed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError};

use super::{Batch, Change, Key, Prefix, Revision};

/// How many batches a watcher may be behind before it is told that it missed some. What is kept is shared by all
/// watchers.
const BEHIND: usize = 1024;

/// A change that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The record.
    pub key: Key,
    /// The revision of the batch.
    pub revision: Revision,
    /// What became of the record.
    pub change: Change,
}

/// What a watcher hears next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What a batch changed among the watched keys, in its order. Never empty.
    Changed(Vec<Event>),
    /// Changes went by untold: list the prefix again, and go on from there.
    Missed,
}

#[derive(Clone, Debug)]
enum Message {
    Batch(Arc<[Event]>),
    /// What was committed is not known.
    Gap,
}

/// Follows what is written under a prefix, from the call on.
///
/// To know a prefix and its changes: watch, then list, and leave out the events whose revision is not above that
/// of the list.
#[derive(Debug)]
pub struct Watch {
    prefix: Prefix,
    messages: broadcast::Receiver<Message>,
}

impl Watch {
    /// Waits for the next news; `None` when the store was closed.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            match self.messages.recv().await {
                Ok(Message::Batch(events)) => {
                    let own = events.iter().filter(|event| self.prefix.holds(&event.key));
                    let own: Vec<Event> = own.cloned().collect();
                    if !own.is_empty() {
                        return Some(News::Changed(own));
                    }
                }
                Ok(Message::Gap) | Err(RecvError::Lagged(_)) => return Some(News::Missed),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Where commits are told; `None` when the store is closed.
#[derive(Debug)]
pub(super) struct Hub(Mutex<Option<broadcast::Sender<Message>>>);

impl Hub {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(broadcast::Sender::new(BEHIND))))
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self, prefix: &Prefix) -> Watch {
        let messages = match &*self.sender() {
            Some(sender) => sender.subscribe(),
            // Its sender is gone at once, which says that the store is closed.
            None => broadcast::channel(1).1,
        };
        Watch { prefix: prefix.clone(), messages }
    }

    /// Tells of a batch that was committed.
    pub(super) fn tell(&self, revision: Revision, batch: Batch) {
        let sender = self.sender();
        let Some(sender) = sender.as_ref().filter(|sender| sender.receiver_count() > 0) else { return };
        let event = |(key, change)| Event { key, revision, change };
        let events = batch.into_changes().into_iter().map(event).collect();
        // Fails where the last watcher has just gone.
        let _ = sender.send(Message::Batch(events));
    }

    /// Tells that something may have been committed that nobody was told of.
    pub(super) fn gap(&self) {
        if let Some(sender) = &*self.sender() {
            let _ = sender.send(Message::Gap);
        }
    }

    /// Ends every watch.
    pub(super) fn end(&self) {
        *self.sender() = None;
    }
}
