//! What a session is, apart from its actor: it survives a panic of the actor's code.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    task::{AbortHandle, JoinHandle},
};

use super::messages::{Finished, Watch};
use crate::{
    outbox::{FrameFate, Ledger, Outgoing, Record},
    recovery::{Generation, Lifecycle, Moment},
    wire::{self, Data, proto},
};

/// Bytes of frames that are collected for a sender who wants them with the answer: some 15 minutes of
/// animation at 25 frames a second. Whoever wants more takes them as they come.
const MAX_COLLECTED: usize = 32 << 20;

/// Interrupts, pauses and resumes that wait for the socket. They are small, and a client that sends more of
/// them than this while nothing can be written has them dropped, oldest first.
const MAX_CONTROLS: usize = 64;

/// The connection of a session, as its actor holds it.
pub(super) struct Link {
    pub(super) generation: Generation,
    /// Dropped or sent to: the connection closes.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Told when there is something to send.
    pub(super) wake: Rc<Notify>,
    /// Ends the connection without a close handshake.
    pub(super) abort: AbortHandle,
    /// Ends when the connection is gone.
    pub(super) gone: JoinHandle<()>,
}

struct Watcher {
    wants: Watch,
    tell: oneshot::Sender<Finished>,
    frames: Vec<Bytes>,
    bytes: usize,
    left_out: u64,
}

/// A session: its machines, and what hangs on them.
pub(super) struct Session {
    pub(super) lifecycle: Lifecycle,
    pub(super) ledger: Ledger,
    pub(super) link: Option<Link>,
    watchers: BTreeMap<String, Watcher>,
    controls: VecDeque<Bytes>,
}

impl Session {
    pub(super) const fn new(lifecycle: Lifecycle, ledger: Ledger) -> Self {
        Self { lifecycle, ledger, link: None, watchers: BTreeMap::new(), controls: VecDeque::new() }
    }

    /// Registers whoever wants to be told of a request; a later one replaces an earlier one.
    pub(super) fn watch(&mut self, req_id: &str, wants: Watch) -> oneshot::Receiver<Finished> {
        let (tell, finished) = oneshot::channel();
        let watcher = Watcher { wants, tell, frames: Vec::new(), bytes: 0, left_out: 0 };
        self.watchers.insert(req_id.to_owned(), watcher);
        finished
    }

    /// Takes the next message for the connection of `generation`, in the order in which it is to be sent.
    pub(super) fn next_message(&mut self, generation: Generation) -> Option<Bytes> {
        if !self.lifecycle.serves(generation) {
            return None;
        }
        if let Some(control) = self.controls.pop_front() {
            return Some(control);
        }
        let Outgoing { req_id, audio, end } = self.ledger.next_to_send()?;
        Some(wire::encode(Data::ClientAudioInput(proto::ClientAudioInput { req_id, end, audio })))
    }

    /// Queues an interrupt for the service.
    pub(super) fn tell_interrupt(&mut self, req_id: &str) {
        if self.controls.len() >= MAX_CONTROLS {
            self.controls.pop_front();
        }
        let interrupt = proto::ClientInterrupt { req_id: req_id.to_owned() };
        self.controls.push_back(wire::encode(Data::ClientInterrupt(interrupt)));
        self.wake_link();
    }

    /// Tells the connection that there is something to send.
    pub(super) fn wake_link(&self) {
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
    }

    /// Forgets what was meant for a connection that is gone.
    pub(super) fn drop_controls(&mut self) {
        self.controls.clear();
    }

    /// Notes a frame, and keeps it for whoever wants it.
    pub(super) fn frame(&mut self, req_id: &str, end: bool, message: &Bytes, now: Moment) -> FrameFate {
        if let Some(watcher) = self.watchers.get_mut(req_id) {
            watcher.collect(message);
        }
        self.ledger.frame(req_id, end, now)
    }

    /// The next request that has its outcome; whoever watches it is told here.
    pub(super) fn next_settled(&mut self) -> Option<Record> {
        let record = self.ledger.next_settled()?;
        if let Some(watcher) = self.watchers.remove(&record.req_id) {
            let finished = Finished {
                record: record.clone(),
                frames: watcher.frames,
                frames_left_out: watcher.left_out,
            };
            // Whoever asked may have gone; the outcome can still be had by the request's id.
            drop(watcher.tell.send(finished));
        }
        Some(record)
    }
}

impl Watcher {
    fn collect(&mut self, message: &Bytes) {
        match self.wants {
            Watch::Outcome => {}
            Watch::Frames if self.bytes.saturating_add(message.len()) > MAX_COLLECTED => self.left_out += 1,
            Watch::Frames => {
                self.bytes += message.len();
                // A copy: the message shares the memory of the read buffer, which would be kept whole.
                self.frames.push(Bytes::copy_from_slice(message));
            }
        }
    }
}
