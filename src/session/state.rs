//! What a session is, apart from its actor: it survives a panic of the actor's code.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::{Rc, Weak},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    task::{AbortHandle, JoinHandle},
};

use super::{
    Farewell, OutcomeWrite, SessionContext,
    configuration::{Configuration, Confirmation},
    frames::Frames,
    messages::{Finished, Watch},
    outlet::Outlet,
    seat::Seated,
};
use crate::{
    outbox::{Control, Ledger, Outgoing, Record},
    recovery::{
        Attendance, Generation, Idleness, Lifecycle, Moment,
        lifecycle::{Remembered, State},
    },
    wire::{self, Data, Rewrite, proto},
};

/// Bytes of frames that are collected for a sender who wants them with the answer: some 15 minutes of
/// animation at 25 frames a second. Whoever wants more takes them as they come.
const MAX_COLLECTED: usize = 32 << 20;

/// The connection of a session, as its actor holds it.
pub(super) struct Link {
    pub(super) generation: Generation,
    /// Dropped or sent to: the connection closes.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Told when there is something to send.
    pub(super) wake: Rc<Notify>,
    /// Where audio goes out, while the connection stands.
    pub(super) outlet: Weak<Outlet>,
    /// Ends the connection without a close handshake.
    pub(super) abort: AbortHandle,
    /// Ends when the connection is gone.
    pub(super) gone: JoinHandle<()>,
}

/// Whoever waits for the outcome of a request, and what is collected for the answer.
pub(super) struct Watcher {
    wants: Watch,
    tell: oneshot::Sender<Finished>,
    frames: Frames,
    left_out: u64,
}

/// A session: its machines, and what hangs on them.
pub(super) struct Session {
    pub(super) lifecycle: Lifecycle,
    /// What is written of it, or noted to be.
    pub(super) noted: Remembered,
    pub(super) ledger: Ledger,
    pub(super) link: Option<Link>,
    pub(super) configuration: Configuration,
    /// What the service said to the configuration that stands.
    pub(super) confirmation: Option<Confirmation>,
    pub(super) attendance: Attendance,
    pub(super) idleness: Idleness,
    pub(super) client: Option<Seated>,
    /// What a client is told when the session is stopped.
    pub(super) farewell: Farewell,
    /// Open requests of which the outcome is to be kept: they were promised over HTTP.
    pub(super) kept: BTreeSet<String>,
    /// When it asked last for its turn.
    pub(super) asked_at: Moment,
    /// How long it did not run, where it runs again and that was not told yet.
    pub(super) recovered_after: Option<Duration>,
    /// Whether it has just used up its restart budget, until that is told.
    pub(super) budget_exhausted: bool,
    /// Outcomes that were noted to be kept.
    pub(super) outcomes: u64,
    /// What the actor's timer is set to.
    pub(super) armed: Option<Moment>,
    watchers: BTreeMap<String, Watcher>,
}

impl Session {
    pub(super) const fn new(
        lifecycle: Lifecycle,
        noted: Remembered,
        ledger: Ledger,
        configuration: Configuration,
        attendance: Attendance,
    ) -> Self {
        Self {
            lifecycle,
            noted,
            ledger,
            link: None,
            configuration,
            confirmation: None,
            attendance,
            idleness: Idleness::Busy,
            client: None,
            farewell: Farewell::Deleted,
            kept: BTreeSet::new(),
            asked_at: Moment::ZERO,
            recovered_after: None,
            budget_exhausted: false,
            outcomes: 0,
            armed: None,
            watchers: BTreeMap::new(),
        }
    }

    /// When the session has something to do, if nothing happens.
    pub(super) fn next_timeout(&self) -> Option<Moment> {
        let timeouts = [
            self.lifecycle.next_timeout(),
            self.ledger.next_timeout(),
            self.attendance.next_timeout().filter(|_| !self.is_stopped()),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Whether it has something to do before the actor's timer comes. Only where it is not idle: how long it may be is
    /// the actor's to know.
    pub(super) fn is_due_before_armed(&mut self, now: Moment) -> bool {
        let is_idle = self.is_idle();
        self.idleness.observe(is_idle, now);
        match (self.next_timeout(), self.armed) {
            (Some(due), Some(armed)) => due < armed,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether it has a connection, or tries to, that nobody would use.
    pub(super) fn is_idle(&self) -> bool {
        let is_to_run = match self.lifecycle.state() {
            State::Starting(_) | State::Running { .. } | State::BackingOff(_) => true,
            State::Parked(_) | State::Dormant | State::Failed | State::Stopped { .. } => false,
        };
        is_to_run && self.client.is_none() && self.ledger.open_count() == 0
    }

    /// Whether its owner has ended it.
    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self.lifecycle.state(), State::Stopped { .. })
    }

    /// What is to be written now. Nothing, where the process ends and the session with it: it goes on in the next.
    pub(super) fn news(&mut self) -> Option<Remembered> {
        let remembered = self.lifecycle.remembered();
        if matches!(self.farewell, Farewell::Draining) || !self.noted.is_outdated_by(&remembered) {
            return None;
        }
        self.noted = remembered.clone();
        Some(remembered)
    }

    /// Registers whoever wants to be told of a request; a later one replaces an earlier one.
    pub(super) fn watch(&mut self, req_id: &str, wants: Watch) -> oneshot::Receiver<Finished> {
        let (tell, finished) = oneshot::channel();
        let watcher = Watcher { wants, tell, frames: Frames::default(), left_out: 0 };
        self.watchers.insert(req_id.to_owned(), watcher);
        finished
    }

    /// Takes the next message for the connection of `generation`, in the order in which it is to be sent.
    pub(super) fn next_message(&mut self, generation: Generation) -> Option<Bytes> {
        if !self.lifecycle.serves(generation) {
            return None;
        }
        let fresh_id = || wire::request_id(SystemTime::now(), rand::random());
        Some(wire::encode(match self.ledger.next_to_send(fresh_id)? {
            Outgoing::Audio { req_id, audio, end } => return Some(wire::encode_audio(&req_id, &audio, end)),
            Outgoing::Control { req_id, control: Control::Interrupt } => {
                Data::ClientInterrupt(proto::ClientInterrupt { req_id })
            }
            Outgoing::Control { req_id, control: Control::Pause } => {
                Data::ClientPause(proto::ClientPause { req_id })
            }
            Outgoing::Control { req_id, control: Control::Resume } => {
                Data::ClientResume(proto::ClientResume { req_id })
            }
        }))
    }

    /// A connection stands, and can be written to.
    pub(super) fn opened(&mut self, generation: Generation, outlet: &Rc<Outlet>) {
        if let Some(link) = self.link.as_mut().filter(|link| link.generation == generation) {
            link.outlet = Rc::downgrade(outlet);
        }
    }

    /// Sends what waits, as far as the connection takes it at once.
    pub(super) fn push_out(&mut self, context: &SessionContext) {
        let outlet = self.link.as_ref().and_then(|link| link.outlet.upgrade());
        if !outlet.is_some_and(|outlet| outlet.push(self, context)) {
            self.wake_link();
        }
    }

    /// Tells the connection that there is something to send.
    pub(super) fn wake_link(&self) {
        if let Some(link) = &self.link {
            link.wake.notify_one();
        }
    }

    /// Keeps a frame for whoever wants it with the answer to the request. `renamed` is the id that the sender knows, where
    /// the service knows the request by another.
    pub(super) fn collect(&mut self, upstream_id: &str, renamed: Option<&str>, message: &Bytes) {
        if let Some(watcher) = self.watchers.get_mut(renamed.unwrap_or(upstream_id)) {
            watcher.collect(message, renamed);
        }
    }

    /// The next request that has its outcome, and who watches it.
    pub(super) fn next_settled(&mut self) -> Option<(Record, Option<Watcher>)> {
        let record = self.ledger.next_settled()?;
        let watcher = self.watchers.remove(&record.req_id);
        Some((record, watcher))
    }
}

impl Watcher {
    /// Tells the outcome. Whoever asked may have gone; it can still be had by the request's id.
    pub(super) fn finish(self, record: Record, written: Option<OutcomeWrite>) {
        let finished = Finished { record, frames: self.frames, frames_left_out: self.left_out, written };
        drop(self.tell.send(finished));
    }

    fn collect(&mut self, message: &Bytes, req_id: Option<&str>) {
        match self.wants {
            Watch::Outcome => {}
            Watch::Frames if self.frames.bytes().saturating_add(message.len()) > MAX_COLLECTED => {
                self.left_out += 1;
            }
            Watch::Frames => {
                // A message that was decoded can be spliced; as it came is the next best.
                let renamed = req_id.and_then(|id| {
                    wire::rewrite(message, Rewrite { connection_id: None, req_id: Some(id) }).ok()
                });
                self.frames.push(renamed.as_deref().unwrap_or(message));
            }
        }
    }
}
